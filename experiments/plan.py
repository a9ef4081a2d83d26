"""What a study plans: tasks x families x seeds, read from YAML and written down as its manifest.

A study is one of ``configs/study``. A family at one value of the setting that is tuned, on one
task, is an arm; an arm with one seed is a run. The manifest, ``<results>/<study>/study.json``, says
all of it in data (docs/records.md), so that whoever reads records needs neither YAML nor Hydra.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import TrainConfig, environment_spec, override
from experiments.mistakes import ConfigurationError, mistake
from experiments.runs.records import FOLDER, compact, find_records, sealed
from experiments.runs.run import Run
from experiments.runs.writing import write_text
from experiments.study_config import (
    QUICK,
    FamilyConfig,
    SeedsConfig,
    StudyConfig,
    TaskConfig,
    check_free,
    checked_tasks,
    compared,
    setting_of,
)
from experiments.validation import validate

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Arm:
    """A family at one value of its tuned setting, on one task.

    Attributes:
        task: the task's name.
        family: the family's name.
        value: of the setting that is tuned.
        name: ``<family>-<short><value>``, or the family's name at its default.
        seeds: of the stage *tune*.
        overrides: Hydra overrides that make it, but for the seed.
        config: the configuration that they make, with seed 0.
    """

    task: str
    family: str
    value: float
    name: str
    seeds: range
    overrides: tuple[str, ...]
    config: TrainConfig

    def run(self, seed: int) -> Run:
        """Return the arm's run with a seed."""
        return Run(replace(self.config, seed=seed), [*self.overrides, f"seed={seed}"])


class Plan:
    """All arms and runs of a study at one scale.

    Args:
        config: the study.
        scale: ``paper``, or ``quick``.
        results: the folder of the results; at quick scale its folder ``quick`` is used.
        runs: the folder of the runs' folders.
        overrides: Hydra overrides for every run.

    Attributes:
        arms: task by task, family by family, by value.

    Raises:
        ConfigurationError: for a setting that is wrong, or arms that are the same run.
    """

    def __init__(
        self, config: StudyConfig, scale: str, results: Path, runs: str, overrides: list[str]
    ) -> None:
        if config.name in (QUICK, FOLDER, "all", "convergence"):
            raise ConfigurationError(f"study.name = {config.name!r}: this folder is taken")
        self.config = config
        self.baseline, self.subject = compared(config)
        self.scale = scale
        self.results = results / QUICK if scale == QUICK else results
        check_free(f"study {config.name}: overrides", overrides)
        self.overrides = [override("runs", runs), *overrides]
        self.tasks = checked_tasks(config, scale)
        self.arms = [arm for task in self.tasks for arm in self._arms(task)]

    @property
    def path(self) -> Path:
        """Where the manifest is."""
        return self.results / self.config.name / "study.json"

    def members(self, task: str | None = None) -> "list[Member]":
        """Return the runs seed by seed, so that all arms grow together.

        Args:
            task: only those of this task.

        Raises:
            ConfigurationError: if the study has no such task.
        """
        if task is not None and task not in self.tasks:
            known = ", ".join(self.tasks)
            raise ConfigurationError(f"task = {task!r}: should be one of {known}")
        arms = [arm for arm in self.arms if task in (None, arm.task)]
        last = max(len(arm.seeds) for arm in arms)
        runs = [arm.run(seed) for seed in range(last) for arm in arms if seed in arm.seeds]
        published = find_records(self.results)
        folder = self.results / FOLDER
        return [
            Member(run, published.get(run.identity, folder / f"{run.folder.name}.json"))
            for run in runs
        ]

    def manifest(self) -> dict[str, Any]:
        """Return the plan as data; its fields are described in docs/records.md."""
        families = {arm.family: self.config.families[arm.family] for arm in self.arms}
        return {
            "schema_version": SCHEMA_VERSION,
            "name": self.config.name,
            "title": self.config.title,
            "scale": self.scale,
            "baseline": self.baseline,
            "subject": self.subject,
            "overview": self.config.overview,
            "tasks": [self._task(name) for name in self.tasks],
            "families": [
                {
                    "name": name,
                    "title": family.title,
                    "tuned": family.tuned,
                    "symbol": family.symbol or short_of(family),
                    "default": family.default,
                }
                for name, family in families.items()
            ],
            "arms": [
                {
                    "task": arm.task,
                    "family": arm.family,
                    "value": arm.value,
                    "name": arm.name,
                    "runs": [
                        {"stage": "tune", "seed": seed, "identity": arm.run(seed).identity}
                        for seed in arm.seeds
                    ],
                }
                for arm in self.arms
            ],
        }

    def write(self) -> None:
        """Write the manifest, an arm on each line."""
        write_text(self.path, _lines(self.manifest()))

    def _task(self, name: str) -> dict[str, Any]:
        config = next(arm.config for arm in self.arms if arm.task == name)
        environment = config.environment.id
        seeds = self._seeds(self.tasks[name])
        return {
            "name": name,
            "title": f"{self.config.title}, {name}",
            "protocol": config.protocol,
            "algorithm": config.algorithm["name"],
            "environment": environment,
            "total_steps": config.total_steps,
            "seeds": {"tune": seeds.tune, "confirm": seeds.confirm},
            "reward_threshold": environment_spec(environment).reward_threshold,
        }

    def _seeds(self, task: TaskConfig) -> SeedsConfig:
        if self.scale == QUICK:
            return SeedsConfig(tune=self.config.quick.seeds)
        return task.seeds or self.config.seeds

    def _arms(self, name: str) -> list[Arm]:
        """Return the arms of a task."""
        task, quick = self.tasks[name], self.scale == QUICK
        common = [
            f"protocol={task.protocol}",
            f"environment.id={task.environment or name}",
            f"total_steps={task.total_steps}",
            *task.overrides,
            f"tracking.group={self.config.name}{f'-{QUICK}' * quick}/{name}",
            *(self.config.quick.overrides if quick else []),
            *self.overrides,
        ]
        arms: dict[str, Arm] = {}
        for family_name, family in self.config.families.items():
            grids = self.config.quick.values if quick else task.values
            values = grids.get(family_name, [] if quick else family.values)
            for arm in self._family(name, family_name, values, common):
                if other := arms.get(arm.config.identity()):
                    where = f"study {self.config.name}, arm {arm.name} of {name}"
                    raise ConfigurationError(f"{where}: the same run as {other.name}")
                arms[arm.config.identity()] = arm
        if not arms:
            setting = "quick.values" if quick else "families"
            raise ConfigurationError(
                f"study {self.config.name}: {setting}: task {name} has no value of any"
            )
        return list(arms.values())

    def _family(
        self, task: str, name: str, values: list[float], common: list[str]
    ) -> Iterator[Arm]:
        """Yield a family's arms on a task, by value."""
        family = self.config.families[name]
        composed: DictConfig | None = None
        for item in (*family.overrides, *common) if values else ():
            if setting_of(item) == family.tuned:
                raise ConfigurationError(
                    f"study {self.config.name}, task {task}: {item!r}: families.{name} tunes this"
                )
        for value in sorted(values):
            label = arm_name(name, family, value)
            overrides = [
                f"optimizer={family.optimizer}",
                f"optimizer.name={label}",
                f"tracking.job_type={name}",
                *family.overrides,
                f"{family.tuned}={value:.12g}",
                *common,
            ]
            # A later one stands for an earlier one of the same setting.
            overrides = list({item.partition("=")[0]: item for item in overrides}.values())
            try:
                if composed is None:
                    composed = compose("train", overrides)
                else:  # the same but for two settings, in a hundredth of the time
                    OmegaConf.update(composed, "optimizer.name", label)
                    OmegaConf.update(composed, family.tuned, value)
                config = validate(composed)
            except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
                where = f"study {self.config.name}, arm {label} of {task}"
                raise ConfigurationError(f"{where}: {mistake(error)}") from error
            seeds = range(self._seeds(self.tasks[task]).tune)
            yield Arm(task, name, value, label, seeds, tuple(overrides), config)


@dataclass
class Member:
    """One run of a study.

    Attributes:
        run: the run.
        record: where its record is published.
    """

    run: Run
    record: Path

    @property
    def published(self) -> bool:
        """Whether the results have its record."""
        return self.run.read_record(self.record) is not None

    def publish(self) -> bool:
        """Publish the run's record on one line, with its digest; return whether there is one."""
        record = self.run.record
        if record is not None:
            write_text(self.record, compact(sealed(record)) + "\n")
        return record is not None


def short_of(family: FamilyConfig) -> str:
    """Return what the tuned setting is called in an arm's name."""
    return family.short or family.tuned.rpartition(".")[2]


def arm_name(name: str, family: FamilyConfig, value: float) -> str:
    """Return ``<family>-<short><value>``, or the family's name at its default."""
    return name if value == family.default else f"{name}-{short_of(family)}{value:.12g}"


def _lines(manifest: dict[str, Any]) -> str:
    """Return the manifest as JSON with a line for each task, family and arm."""
    parts = []
    for name, value in manifest.items():
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f' "{name}": [\n  {rows}\n ]')
        else:
            parts.append(f' "{name}": {json.dumps(value, ensure_ascii=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"
