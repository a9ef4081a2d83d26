"""What claims are judged by: the runs of the studies' tasks, and the records of convergence."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from scripts.convergence import Convergence, load_convergence
from scripts.records import read_json
from scripts.stability import ReturnRange, return_range
from scripts.statistics import Arm, Tuned, arms_of, tuned_arm
from scripts.studies import MANIFEST, Manifest, Study, Task, load_study, study_names
from scripts.verdicts import FEWEST_SEEDS


class ClaimError(Exception):
    """A claim that cannot be judged; the message is one line that names the field."""


class Parameters(BaseModel):
    """What a claim's file says: no value is converted, and no field is unknown."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Group(Parameters):
    """A family at some values of the setting that is tuned.

    Attributes:
        family: Its name in the study.
        values: Those that take part; by default all that the study plans.
    """

    family: str
    values: list[float] | None = Field(default=None, min_length=1)


@dataclass(frozen=True)
class Side:
    """One optimizer of a comparison.

    Attributes:
        name: As the text calls it.
        study: The study's name, with the task's if it has several.
        symbol: The setting that is tuned, as the text calls it.
        values: The values that it should have runs at, in growing order.
        arms: Those that have runs, in the same order.
    """

    name: str
    study: str
    symbol: str
    values: list[float]
    arms: list[Arm]

    @property
    def lacks(self) -> str | None:
        """What the rules ask for and the records do not have."""
        if len(self.arms) < len(self.values):
            have = f"{len(self.arms)} of {len(self.values)} settings"
            return f"{self.name} has runs at {have} in {self.study}"
        seeds = min(len(arm.records) for arm in self.arms)
        if seeds < FEWEST_SEEDS:
            return f"{self.name} has {seeds} of {FEWEST_SEEDS} seeds in {self.study}"
        if any(np.isnan(arm.scores).any() for arm in self.arms):
            return f"no episode has ended in {self.study}"
        return None

    @cached_property
    def tuned(self) -> Tuned:
        """Its runs at the setting chosen on the other seeds."""
        return tuned_arm(self.arms, self.name)

    @property
    def chosen(self) -> str:
        """The arms that it counts with."""
        return " and ".join(sorted({arm.name for arm in self.tuned.chosen}))


def runs_of(*sides: Side) -> dict[str, int]:
    """Return how many runs the sides have, by study."""
    runs: Counter[str] = Counter()
    for side in sides:
        runs[side.study] += sum(len(arm.records) for arm in side.arms)
    return dict(runs)


@dataclass(frozen=True)
class TaskEvidence:
    """A task of a study with the runs that it has.

    Attributes:
        study: What was planned.
        task: The task.
        arms: Those with a run at least.
    """

    study: Manifest
    task: Task
    arms: list[Arm]

    @property
    def title(self) -> str:
        """The study's title, with the task if it has several."""
        return self.task.title if len(self.study.tasks) > 1 else self.study.title

    @cached_property
    def extent(self) -> ReturnRange:
        """What the returns of all runs range over."""
        return return_range(self.arms)

    def subject(self, group: Group | None) -> Side:
        """Return the side that a claim is about: by default the study's subject at all values.

        Raises:
            ClaimError: If the study does not plan it.
        """
        return self._side("subject", group or Group(family=self.study.subject))

    def rival(self, group: Group | None) -> Side:
        """Return what it is compared with: by default the study's baseline at its default.

        Raises:
            ClaimError: If the study does not plan it.
        """
        if group is None:
            name = self.study.baseline
            default = next(f.default for f in self.study.families if f.name == name)
            group = Group(family=name, values=None if default is None else [default])
        return self._side("against", group)

    def _side(self, field: str, group: Group) -> Side:
        families = {family.name: family for family in self.study.families}
        if group.family not in families:
            raise ClaimError(
                f"{field}.family = {group.family!r}: should be one of study "
                f"{self.study.name}'s, {', '.join(families)}"
            )
        family, name = families[group.family], self.study.name
        arms = [a for a in self.study.arms if (a.task, a.family) == (self.task.name, family.name)]
        planned = sorted(arm.value for arm in arms)
        values = sorted(set(planned if group.values is None else group.values))
        if unknown := [value for value in values if value not in planned]:
            raise ClaimError(
                f"{field}.values = {unknown[0]:g}: should be one of {family.name}'s in study "
                f"{name}, {', '.join(f'{value:g}' for value in planned)}"
            )
        found = {arm.value: arm for arm in self.arms if arm.family == family}
        several = len(self.study.tasks) > 1
        return Side(
            family.title,
            f"{name}, {self.task.name}" if several else name,
            family.symbol,
            values,
            [found[value] for value in values if value in found],
        )


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
        """Return a study's tasks, or the one that is named; none if the study has no manifest.

        Raises:
            ClaimError: If the study has no such task.
            RecordError: If its records cannot be used.
        """
        if study not in self._tasks:
            self._tasks[study] = self._load(study)
        tasks = self._tasks[study]
        found = [each for each in tasks if task in (None, each.task.name)]
        if tasks and not found:
            known = ", ".join(each.task.name for each in tasks)
            raise ClaimError(f"task = {task!r}: should be one of study {study}'s, {known}")
        return found

    def _load(self, name: str) -> list[TaskEvidence]:
        path = self._results / name / MANIFEST
        if not path.exists():
            return []
        manifest = read_json(path, Manifest)
        study = Study(path.parent, manifest, ())
        if name in self._have_records:
            study = load_study(self._results, name)
        with_records = study.tasks
        return [
            TaskEvidence(manifest, task, arms_of(study, task) if task in with_records else [])
            for task in manifest.tasks
            if task.role == "main"
        ]
