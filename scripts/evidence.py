"""What claims are judged by: the runs of the studies' tasks, and the records of convergence."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from scripts.convergence import Convergence, load_convergence
from scripts.records import read_json
from scripts.scores import TRAINING, Arm, Measure, arms_of
from scripts.stability import ReturnRange, return_range
from scripts.statistics import aggregate_iqm
from scripts.studies import (
    MANIFEST,
    ArmRecords,
    Family,
    Manifest,
    Stage,
    Study,
    Task,
    load_study,
    study_names,
)
from scripts.verdicts import Progress

FIRST_CONFIRM_SEED = 100  # as in experiments/study_config.py


class ClaimError(Exception):
    """A claim that cannot be judged; the message is one line that names the field."""


class Parameters(BaseModel):
    """What a claim's file says: no value is converted, and no field is unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Group(Parameters):
    """A family at one value of the setting that is tuned.

    Attributes:
        family: Its name in the study.
        at: The value that the tuning runs chose, or the family's default.
    """

    family: str
    at: Literal["chosen", "default"] = "chosen"


@dataclass(frozen=True)
class Pair:
    """Two optimizers on one task, in one stage and by one measure.

    Attributes:
        title: The task's.
        x: The runs of the one.
        y: The runs of the other.
        extent: What the returns of all runs range over.
        sweep: The tuning runs of X at each value, against those of Y.
    """

    title: str
    x: Arm
    y: Arm
    extent: ReturnRange
    sweep: tuple["Pair", ...] = ()

    @property
    def idle(self) -> bool:
        """Whether neither learned anything: there is nothing to compare."""
        best = max(float(aggregate_iqm(arm.scores)) for arm in (self.x, self.y))
        return best <= self.extent.untrained

    @property
    def seeds(self) -> int:
        """How many seeds the smaller side has."""
        return min(len(self.x.records), len(self.y.records))


@dataclass(frozen=True)
class TaskEvidence:
    """A task of a study with the runs that it has.

    Attributes:
        study: What was planned.
        task: The task.
        records: The study's; ``None`` while it has none.
    """

    study: Manifest
    task: Task
    records: Study | None

    @property
    def title(self) -> str:
        """The study's title, with the task if it has several."""
        return self.task.title if len(self.study.tasks) > 1 else self.study.title

    @cached_property
    def _arms(self) -> dict[tuple[Stage, str], list[Arm]]:
        return {}

    def arms(self, stage: Stage, measure: Measure) -> list[Arm]:
        """Return all arms that have runs in a stage."""
        key = stage, measure.name
        if key not in self._arms:
            found = arms_of(self.records, self.task, measure, stage) if self.records else []
            self._arms[key] = found
        return self._arms[key]

    @cached_property
    def _extents(self) -> dict[tuple[Stage, str], ReturnRange]:
        return {}

    def extent(self, stage: Stage, measure: Measure) -> ReturnRange:
        """Return what the returns of all runs of a stage range over."""
        key = stage, measure.name
        if key not in self._extents:
            self._extents[key] = return_range(self.arms(stage, measure))
        return self._extents[key]

    def family(self, field: str, group: Group | None) -> Family:
        """Return the family that a group names: by default the study's subject, or its baseline.

        Raises:
            ClaimError: If the study does not have it, or asks for a default that it has not.
        """
        families = {family.name: family for family in self.study.families}
        names = {"subject": self.study.subject, "against": self.study.baseline}
        name = names[field] if group is None else group.family
        if name not in families:
            raise ClaimError(
                f"{field}.family = {name!r}: should be one of study {self.study.name}'s, "
                f"{', '.join(families)}"
            )
        if group is not None and group.at == "default" and families[name].default is None:
            raise ClaimError(f"{field}.at = 'default': {name} has none in study {self.study.name}")
        return families[name]

    def confirmed(self, field: str, group: Group | None) -> tuple[Family, float | None]:
        """Return a family and the value that it is confirmed with, ``None`` until it is chosen."""
        family = self.family(field, group)
        at_default = field == "against" if group is None else group.at == "default"
        return family, family.default if at_default else self.study.choice(self.task, family)

    def arm(self, family: Family, value: float | None, stage: Stage, by: Measure) -> Arm | None:
        """Return the arm with a value, if it has runs."""
        arms = self.arms(stage, by)
        return next((a for a in arms if (a.family, a.value) == (family, value)), None)

    def tuned(self, family: Family) -> float | None:
        """Return the value whose tuning runs have the highest training return so far."""
        arms = [arm for arm in self.arms(Stage.tune, TRAINING) if arm.family == family]
        best = max(arms, key=lambda arm: float(aggregate_iqm(arm.scores)), default=None)
        return None if best is None else best.value

    def grid(self, family: Family) -> list[float]:
        """Return the values that are tuned, in growing order."""
        return sorted(
            arm.value
            for arm in self.study.arms
            if (arm.task, arm.family) == (self.task.name, family.name)
            and any(run.stage is Stage.tune for run in arm.runs)
        )

    def progress(self, family: Family, value: float | None, stage: Stage) -> Progress:
        """Return which runs of an arm are planned, and which are done.

        Args:
            family: The family.
            value: Of the setting that is tuned; ``None`` if it is not chosen yet.
            stage: The stage.
        """
        study, task = self.study.name, self.task.name
        planned = [
            (arm.name + " (tuning)" * (stage is Stage.tune), run)
            for arm in self.study.arms
            if (arm.task, arm.family, arm.value) == (task, family.name, value)
            for run in arm.runs
            if run.stage is stage
        ]
        if not planned and stage is Stage.confirm:
            first = FIRST_CONFIRM_SEED
            seeds = range(first, first + self.task.seeds.confirm)
            name = f"{family.title}'s choice"
            return Progress(frozenset((study, task, name, seed) for seed in seeds))
        known = {record.identity for record in self.records.records} if self.records else set()
        return Progress(
            frozenset((study, task, name, run.seed) for name, run in planned),
            frozenset(
                (study, task, name, run.seed) for name, run in planned if run.identity in known
            ),
        )

    def records_of(self, family: Family) -> list[ArmRecords]:
        """Return all runs of a family, of both stages."""
        arms = self.records.arms_of(self.task) if self.records else []
        return [arm for arm in arms if arm.family == family]


def runs_of(arms: Iterable[Arm | ArmRecords], study: str) -> dict[str, int]:
    """Return how many runs the arms have, each counted once, by study."""
    runs = {record.identity for arm in arms for record in arm.records}
    return dict(Counter({study: len(runs)})) if runs else {}


class Evidence:
    """All studies at paper scale below a folder, and the records of convergence.

    Args:
        results: The folder of the results.

    Attributes:
        convergence: The newest last.

    Raises:
        RecordError: If a file cannot be read or breaks its schema.
    """

    def __init__(self, results: Path) -> None:
        self.convergence: list[Convergence] = load_convergence(results)
        self._results = results
        self._have_records = study_names(results)
        self._tasks: dict[str, list[TaskEvidence]] = {}

    def tasks(self, study: str, task: str | None) -> list[TaskEvidence]:
        """Return a study's main tasks, or the one that is named; none if it has no manifest.

        Raises:
            ClaimError: If the study has no such task.
            RecordError: If its records cannot be used.
        """
        if study not in self._tasks:
            self._tasks[study] = list(self._load(study))
        tasks = self._tasks[study]
        if task is None:
            return [each for each in tasks if each.task.role == "main"]
        found = [each for each in tasks if each.task.name == task]
        if tasks and not found:
            known = ", ".join(each.task.name for each in tasks)
            raise ClaimError(f"task = {task!r}: should be one of study {study}'s, {known}")
        return found

    def _load(self, name: str) -> Iterator[TaskEvidence]:
        path = self._results / name / MANIFEST
        if not path.exists():
            return
        manifest = read_json(path, Manifest)
        study = load_study(self._results, name) if name in self._have_records else None
        for task in manifest.tasks:
            yield TaskEvidence(manifest, task, study)


def usable(arms: Iterable[Arm]) -> bool:
    """Whether every run of the arms has a number by their measure."""
    return not any(np.isnan(arm.scores).any() for arm in arms)
