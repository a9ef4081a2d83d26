"""What a study plans: tasks x families x seeds, read from YAML and written down as its manifest.

A study is one of ``configs/study``. A family at one value of the setting that is tuned, on one
task, is an arm; an arm with one seed is a run. The manifest, ``<results>/<study>/study.json``, says
all of it in data (docs/records.md), so that whoever reads records needs neither YAML nor Hydra.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
from hydra import compose
from hydra.errors import HydraException
from pydantic import Field

from experiments.config import (
    STRICT,
    ConfigurationError,
    Count,
    Index,
    TrainConfig,
    validate,
)
from experiments.runs.records import FOLDER, compact, find_records, sealed
from experiments.runs.run import Run, write_text

SCHEMA_VERSION = 1
QUICK = "quick"
"""Scale and folder below the results of runs too short and too few to be evidence."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]


@dataclass
class SeedsConfig:
    """How many seeds an arm has.

    Attributes:
        tune: from 0 on, of every value of every family; the best value is chosen by them.
        confirm: from 100 on, of the chosen values only.
    """

    __pydantic_config__ = STRICT
    tune: Index = 5
    confirm: Index = 0


@dataclass
class FamilyConfig:
    """One optimizer with the one setting that is tuned.

    Attributes:
        title: as figures and tables call it.
        optimizer: one of ``configs/optimizer``.
        tuned: the setting that is tuned, as on the command line: ``algorithm.learning_rate``.
        values: the values that it takes.
        default: the value that needs no tuning, the protocol's say; it has the family's plain name.
        short: the setting in an arm's name; by default the last part of ``tuned``.
        symbol: the setting in figures and tables; by default ``short``.
        overrides: further Hydra overrides.
    """

    __pydantic_config__ = STRICT
    title: str = "???"
    optimizer: str = "???"
    tuned: str = "???"
    values: list[float] = field(default_factory=list)
    default: float | None = None
    short: Name | None = None
    symbol: str | None = None
    overrides: list[str] = field(default_factory=list)


@dataclass
class TaskConfig:
    """A protocol on one environment for a number of steps.

    Attributes:
        protocol: one of ``configs/protocol``.
        environment: Gymnasium's id; by default the task's name.
        total_steps: environment steps.
        overrides: further Hydra overrides.
        seeds: instead of the study's.
        values: instead of a family's, by its name; an empty list leaves the family out.
    """

    __pydantic_config__ = STRICT
    protocol: str = "???"
    environment: str | None = None
    total_steps: Count = 1_000_000
    overrides: list[str] = field(default_factory=list)
    seeds: SeedsConfig | None = None
    values: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class QuickConfig:
    """What ``scale=quick`` changes, so that a study ends in minutes and shows that all works.

    Attributes:
        tasks: those that are run; by default the first.
        values: of the families that take part, by name.
        seeds: of each arm.
        overrides: Hydra overrides for every run.
    """

    __pydantic_config__ = STRICT
    tasks: list[str] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    seeds: Count = 2
    overrides: list[str] = field(default_factory=list)


@dataclass
class StudyConfig:
    """Tasks x families x seeds.

    Attributes:
        name: of the study and of its folder under ``results``.
        title: as figures and tables call it.
        tasks: by name.
        families: by name, in the order in which they are shown.
        baseline: the family that the others are compared with, at its default.
        subject: the family that the study is about.
        seeds: see `SeedsConfig`.
        quick: see `QuickConfig`.
    """

    __pydantic_config__ = STRICT
    name: Name = "???"
    title: str = "???"
    tasks: dict[Name, TaskConfig] = field(default_factory=dict)
    families: dict[Name, FamilyConfig] = field(default_factory=dict)
    baseline: str = "adam"
    subject: str = "alphagrad"
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    quick: QuickConfig = field(default_factory=QuickConfig)


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
        overrides: Hydra overrides for every run.

    Attributes:
        arms: task by task, family by family, by value.

    Raises:
        ConfigurationError: for a setting that is wrong, or arms that are the same run.
    """

    def __init__(
        self, config: StudyConfig, scale: str, results: Path, overrides: list[str]
    ) -> None:
        if config.name in (QUICK, FOLDER):
            raise ConfigurationError(f"study.name = {config.name!r}: this folder is taken")
        self.config = config
        self.scale = scale
        self.results = results / QUICK if scale == QUICK else results
        self.overrides = overrides
        self.tasks = _tasks(config, scale)
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
            "baseline": self.config.baseline,
            "subject": self.config.subject,
            "tasks": [self._task(name) for name in self.tasks],
            "families": [
                {
                    "name": name,
                    "title": family.title,
                    "tuned": family.tuned,
                    "symbol": family.symbol or _short(family),
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
            "reward_threshold": gym.spec(environment).reward_threshold,
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
            f"tracking.group={self.config.name}{f'-{QUICK}' * quick}",
            *(self.config.quick.overrides if quick else []),
            *self.overrides,
        ]
        arms: dict[str, Arm] = {}
        for family_name, family in self.config.families.items():
            values = self.config.quick.values if quick else task.values
            for value in values.get(family_name, [] if quick else family.values):
                label = _arm_name(family_name, family, value)
                overrides = [
                    f"optimizer={family.optimizer}",
                    f"optimizer.name={label}",
                    *family.overrides,
                    f"{family.tuned}={value:.12g}",
                    *common,
                ]
                where = f"study {self.config.name}, arm {label} of {name}"
                arm = Arm(
                    name,
                    family_name,
                    value,
                    label,
                    range(self._seeds(task).tune),
                    tuple(overrides),
                    _composed(where, overrides),
                )
                if other := arms.get(arm.config.identity()):
                    raise ConfigurationError(f"{where}: the same run as {other.name}")
                arms[arm.config.identity()] = arm
        if not arms:
            raise ConfigurationError(f"study {self.config.name}: task {name} has no arms")
        return sorted(arms.values(), key=lambda arm: self._order(arm))

    def _order(self, arm: Arm) -> tuple[int, float]:
        return list(self.config.families).index(arm.family), arm.value


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


def _tasks(config: StudyConfig, scale: str) -> dict[str, TaskConfig]:
    """Return the tasks of a scale, after a look at what refers to names."""
    where = f"study {config.name}"
    if not config.tasks:
        raise ConfigurationError(f"{where}: tasks: should have at least one")
    for setting in ("baseline", "subject"):
        check_known(f"{where}: {setting}", [getattr(config, setting)], config.families)
    check_known(f"{where}: quick.tasks", config.quick.tasks, config.tasks)
    check_known(f"{where}: quick.values", config.quick.values, config.families)
    for name, task in config.tasks.items():
        check_known(f"{where}: tasks.{name}.values", task.values, config.families)
    if scale != QUICK:
        return config.tasks
    chosen = config.quick.tasks or [next(iter(config.tasks))]
    return {name: config.tasks[name] for name in chosen}


def check_known(setting: str, names: Any, known: Any) -> None:
    """Check that names are among those that are known.

    Raises:
        ConfigurationError: for the first that is not.
    """
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{setting}: {name!r} should be one of {', '.join(known)}")


def _composed(where: str, overrides: list[str]) -> TrainConfig:
    try:
        return validate(compose("train", overrides))
    except (ConfigurationError, HydraException) as error:
        raise ConfigurationError(f"{where}: {' '.join(str(error).split())}") from error


def _short(family: FamilyConfig) -> str:
    return family.short or family.tuned.rpartition(".")[2]


def _arm_name(name: str, family: FamilyConfig, value: float) -> str:
    return name if value == family.default else f"{name}-{_short(family)}{value:.12g}"


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
