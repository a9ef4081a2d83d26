"""What a study plans: tasks x families x seeds in two stages, written down as its manifest.

A study is one of ``configs/study``. A family at one value of the setting that is tuned, on one
task, is an arm; an arm with one seed is a run. The stage *tune* runs every arm. The stage *confirm*
runs, with other seeds, the baseline at its default and the value of each family that was chosen by
the tuning runs. The manifest, ``<results>/<study>/study.json``, says all of it in data
(docs/records.md), so that whoever reads records needs neither YAML nor Hydra.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from experiments.arms import Arm, short_of, task_arms
from experiments.choice import Choice, choose, read_training_return
from experiments.config import environment_spec, override
from experiments.mistakes import ConfigurationError
from experiments.runs.reading import read_json
from experiments.runs.records import FOLDER, compact, find_records, sealed
from experiments.runs.run import Run
from experiments.runs.writing import write_text
from experiments.study_config import (
    CONFIRM,
    FIRST_CONFIRM_SEED,
    QUICK,
    STAGES,
    TUNE,
    StudyConfig,
    Task,
    check_free,
    checked_tasks,
    compared,
)

SCHEMA_VERSION = 2
CHOICES = TypeAdapter(dict[str, Choice])


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
        choices: those that have been made, by task and family.

    Raises:
        ConfigurationError: for a setting that is wrong, arms that are the same run, or a manifest
            that is damaged.
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
        self.runs = Path(runs)
        check_free(f"study {config.name}: overrides", overrides)
        self.overrides = [override("runs", runs), *overrides]
        self.tasks = checked_tasks(config, scale)
        self.arms = [arm for task in self.tasks.values() for arm in self._arms(task)]
        self._check_arms()
        self.choices = self._read_choices()

    @property
    def path(self) -> Path:
        """Where the manifest is."""
        return self.results / self.config.name / "study.json"

    def members(self, stage: str, task: str | None = None) -> "list[Member]":
        """Return the runs of a stage seed by seed, so that all arms grow together.

        Sensitivities come last. Of the stage *confirm* it is the runs whose value is known.

        Args:
            stage: ``tune`` or ``confirm``.
            task: only those of this task.

        Raises:
            ConfigurationError: if the study has no such task.
        """
        if task is not None and task not in self.tasks:
            known = ", ".join(self.tasks)
            raise ConfigurationError(f"task = {task!r}: should be one of {known}")
        pairs = [
            (self.tasks[arm.task].main is not None, seed, arm)
            for arm in self.arms
            if task in (None, arm.task)
            for seed in self.seeds(arm, stage)
        ]
        pairs.sort(key=lambda pair: pair[:2])
        runs = [arm.run(stage, seed) for _, seed, arm in pairs]
        published = find_records(self.results)
        folder = self.results / FOLDER
        return [
            Member(run, published.get(run.identity, folder / f"{run.folder.name}.json"))
            for run in runs
        ]

    def seeds(self, arm: Arm, stage: str) -> range:
        """Return an arm's seeds in a stage: in *confirm* none while nothing has chosen it."""
        task = self.tasks[arm.task]
        if stage == TUNE:
            return arm.tune_seeds
        is_baseline = arm.family == self.baseline and arm.value == self._default(arm.family)
        choice = self.choices.get((task.main or task.name, arm.family))
        is_chosen = choice is not None and choice.value == arm.value
        if task.main is not None and arm.family == self.baseline:
            is_chosen = False  # a sensitivity has the baseline at its default alone
        seeds = task.seeds.confirm if is_baseline or is_chosen else 0
        return range(FIRST_CONFIRM_SEED, FIRST_CONFIRM_SEED + seeds)

    def confirm_runs(self, task: str, family: str) -> int:
        """Return how many confirm runs a family has on a task, at most while its choice is open."""
        each = self.tasks[task]
        choice = self.choices.get((task, family))
        shared = choice is not None and choice.value == self.config.families[family].default
        both = family == self.baseline and each.main is None and not shared
        return each.seeds.confirm * (1 + both)

    def waiting(self, task: str | None = None) -> list[str]:
        """Return a line for each family whose confirm runs wait for its choice.

        Args:
            task: only those of this task.
        """
        lines = []
        for name, each in self.tasks.items():
            chooser = each.main or name
            families = [f for f in each.families if not (each.main and f == self.baseline)]
            for family in families if each.seeds.confirm and task in (None, name) else []:
                if (chooser, family) not in self.choices:
                    missing = len(self._untuned(chooser, family, find_records(self.results)))
                    lines.append(f"{name}: {family} waits for {missing} tuning runs of {chooser}")
        return lines

    def _read_choices(self) -> dict[tuple[str, str], Choice]:
        """Return the choices that the manifest holds, by task and family.

        Raises:
            ConfigurationError: if the manifest is damaged, or runs have begun with a chosen value
                that the study does not plan any more.
        """
        manifest = read_json(self.path) or {}
        if manifest.get("schema_version") != SCHEMA_VERSION:  # an older one chose nothing
            return {}
        choices = {}
        try:
            found = {
                (task["name"], family): choice
                for task in manifest["tasks"]
                for family, choice in CHOICES.validate_python(task["chosen"]).items()
            }
            for (task, family), choice in found.items():
                values = [a.value for a in self.arms if (a.task, a.family) == (task, family)]
                if choice.value in values:
                    choices[task, family] = choice
                elif values and self._listed_and_begun(manifest, task, choice.arm):
                    raise ConfigurationError(
                        f"{self.path}: {choice.arm} of {task} was chosen and its confirm runs have "
                        f"begun, but the study plans it no more: put the value back"
                    )
        except (KeyError, TypeError, ValidationError) as error:
            raise ConfigurationError(f"{self.path}: damaged: not what a study writes") from error
        return choices

    def choose(self) -> list[str]:
        """Choose the value of each family whose tuning runs on a task are complete.

        A choice with which a confirm run has begun stands, whatever tuning runs came later; any
        other is made anew.

        Returns:
            A line for each choice that is new, or that would not be made again.

        Raises:
            ConfigurationError: if a record is damaged.
        """
        lines = []
        published = find_records(self.results)
        self.choices = self._read_choices()  # another process may be at another task of the study
        for name, task in self.tasks.items():
            for family in task.families if task.main is None else []:
                before = self.choices.get((name, family))
                stands = before is not None and self._begun(name, family, before, published)
                if not stands:
                    self.choices.pop((name, family), None)
                if self._untuned(name, family, published):
                    continue
                now = self._choice(name, family, published)
                if not stands:
                    self.choices[name, family] = now
                    if now != before:
                        lines.append(f"{name}, {family}: chosen is {now}")
                elif before is not None and now.value != before.value:
                    lines.append(
                        f"{name}, {family}: {before.arm} was chosen and stands, since its confirm "
                        f"runs have begun; by all tuning runs of today it would be {now}"
                    )
        return lines

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
            "tasks": [self._task(task) for task in self.tasks.values()],
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
                    "runs": runs,
                }
                for arm in self.arms
                if (runs := list(self._runs(arm)))
            ],
        }

    def write(self) -> None:
        """Write the manifest, an arm on each line."""
        write_text(self.path, _lines(self.manifest()))

    def _runs(self, arm: Arm) -> Iterator[dict[str, Any]]:
        for stage in STAGES:
            for seed in self.seeds(arm, stage):
                yield {"stage": stage, "seed": seed, "identity": arm.run(stage, seed).identity}

    def _task(self, task: Task) -> dict[str, Any]:
        config = next(arm.config for arm in self.arms if arm.task == task.name)
        environment = config.environment.id
        chosen = {f: self.choices.get((task.name, f)) for f in task.families}
        return {
            "name": task.name,
            "title": f"{self.config.title}, {task.name}",
            "role": "main" if task.main is None else "sensitivity",
            "sensitivity_of": task.main,
            "protocol": config.protocol,
            "algorithm": config.algorithm["name"],
            "environment": environment,
            "total_steps": config.total_steps,
            "families": task.families,
            "seeds": {
                "tune": task.seeds.tune if any(task.grids.values()) else 0,
                "confirm": task.seeds.confirm,
            },
            "chosen": {family: asdict(choice) for family, choice in chosen.items() if choice},
            "reward_threshold": environment_spec(environment).reward_threshold,
        }

    def _arms(self, task: Task) -> list[Arm]:
        """Return the arms that are tuned on a task or may be confirmed there."""
        chooser = self.tasks[task.main] if task.main else task
        grids = {family: list(task.grids.get(family, [])) for family in task.families}
        for family, values in grids.items():
            more = [] if family == self.baseline else chooser.grids.get(family, [])
            if family == self.baseline and (values or task.main):
                more = [self._default(family)]
            values += [value for value in more if value not in values]
        arms = task_arms(
            self.config.name,
            f"{self.config.name}{f'-{QUICK}' * (self.scale == QUICK)}",
            task,
            grids,
            self.config.families,
            self.overrides,
        )
        if not arms:
            setting = "quick.values" if self.scale == QUICK else "families"
            raise ConfigurationError(
                f"study {self.config.name}: {setting}: task {task.name} has no value of any"
            )
        return arms

    def _check_arms(self) -> None:
        known: dict[str, Arm] = {}
        for arm in self.arms:
            identity = arm.config.identity()
            if other := known.get(identity):
                of = "" if other.task == arm.task else f" of {other.task}"
                raise ConfigurationError(
                    f"study {self.config.name}, arm {arm.name} of {arm.task}: the same run as "
                    f"{other.name}{of}"
                )
            known[identity] = arm

    def _default(self, family: str) -> float:
        default = self.config.families[family].default
        assert default is not None  # `compared` has looked
        return default

    def _tuned(self, task: str, family: str) -> list[Arm]:
        return [a for a in self.arms if (a.task, a.family) == (task, family) and a.tune_seeds]

    def _untuned(self, task: str, family: str, published: Mapping[str, Path]) -> list[Run]:
        """Return the tuning runs of a family that have no record."""
        runs = [arm.run(TUNE, seed) for arm in self._tuned(task, family) for seed in arm.tune_seeds]
        return [run for run in runs if run.identity not in published]

    def _choice(self, task: str, family: str, published: Mapping[str, Path]) -> Choice:
        arms = self._tuned(task, family)
        returns = {
            arm.value: [
                read_training_return(published[arm.run(TUNE, seed).identity])
                for seed in arm.tune_seeds
            ]
            for arm in arms
        }
        names = {arm.value: arm.name for arm in arms}
        return choose(names, returns, self.config.families[family].default)

    def _begun(self, task: str, family: str, choice: Choice, published: Mapping[str, Path]) -> bool:
        """Return whether a confirm run with a choice has been started, here or elsewhere."""
        users = [name for name, each in self.tasks.items() if task in (name, each.main)]
        return any(
            run.identity in published or run.folder.exists()
            for arm in self.arms
            if arm.task in users and (arm.family, arm.value) == (family, choice.value)
            for run in (arm.run(CONFIRM, seed) for seed in self.seeds(arm, CONFIRM))
        )

    def _listed_and_begun(self, manifest: dict[str, Any], task: str, arm: str) -> bool:
        """Return whether a confirm run that a manifest lists has been started."""
        published = find_records(self.results)
        users = [t["name"] for t in manifest["tasks"] if task in (t["name"], t["sensitivity_of"])]
        return any(
            run["identity"] in published or any(self.runs.glob(f"*-{run['identity']}"))
            for each in manifest["arms"]
            if each["task"] in users and each["name"] == arm
            for run in each["runs"]
            if run["stage"] == CONFIRM
        )


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
        """Whether the record is published."""
        return self.run.read_record(self.record) is not None

    def publish(self) -> bool:
        """Publish the run's record; return whether there is one."""
        record = self.run.record
        if record is not None:
            write_text(self.record, compact(sealed(record)) + "\n")
        return record is not None


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
