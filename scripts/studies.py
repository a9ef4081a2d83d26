"""Read a study: its manifest, and the records of the runs that it plans.

A manifest, ``<results>/<study>/study.json``, says which tasks, families and arms a study has, and
the identity of each planned run, by which the run's record is found in ``<results>/records``. At
quick scale both are below ``<results>/quick``. The fields of both: ``docs/records.md``.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from experiments.runs.records import find_records
from scripts.records import Record, RecordError, Schema, read_json

MANIFEST = "study.json"


class Scale(StrEnum):
    """At which scale a study was run; runs at quick scale are no evidence."""

    paper = "paper"
    quick = "quick"

    def folder(self, results: Path) -> Path:
        """Return the folder of the records and of the studies' folders, at this scale."""
        return results / "quick" if self is Scale.quick else results


class Stage(StrEnum):
    """Of which stage a run is: *tune* chooses each family's value, *confirm* judges it anew."""

    tune = "tune"
    confirm = "confirm"


class Seeds(Schema):
    """How many seeds are planned in each stage; single arms may have more in *tune*."""

    tune: NonNegativeInt
    confirm: NonNegativeInt


class Candidate(Schema):
    """What a value was chosen by, or lost by.

    Attributes:
        iqm: Of the training measure over the tuning seeds.
        seeds: How many.
        chosen_share: How often it would be chosen if the seeds were drawn anew, if that is known.
    """

    iqm: float | None
    seeds: PositiveInt
    chosen_share: float | None


class Choice(Schema):
    """The value that the tuning runs chose for a family on a task.

    Attributes:
        value: Of the family's tuned setting.
        arm: Its name.
        by: What was looked at, by the arm's name.
    """

    value: float
    arm: str
    by: dict[str, Candidate]


class Task(Schema):
    """A protocol on one environment for a number of steps.

    Attributes:
        name: Within the study.
        title: As figures and tables call it.
        protocol: The fixed settings' name.
        algorithm: The algorithm's name.
        environment: Gymnasium's id.
        total_steps: Environment steps of each run.
        role: ``main``, or ``sensitivity``, which is told beside the others and never aggregated.
        sensitivity_of: The main task that it changes in one respect, and whose choices it takes.
        families: The families that are planned on it.
        seeds: The seeds of both stages.
        chosen: The choice for each family whose tuning runs are complete.
        reward_threshold: Return at which Gymnasium calls the environment solved, if it says so.
    """

    name: str = Field(min_length=1)
    title: str
    protocol: str | None
    algorithm: str
    environment: str
    total_steps: PositiveInt
    role: Literal["main", "sensitivity"]
    sensitivity_of: str | None = None
    families: tuple[str, ...]
    seeds: Seeds
    chosen: dict[str, Choice]
    reward_threshold: float | None


class Family(Schema):
    """One optimizer with the one setting that is tuned.

    Attributes:
        name: Within the study.
        title: As figures and tables call it.
        tuned: The setting, by its path in a record's configuration.
        symbol: The setting in figures and tables.
        default: The value that needs no tuning.
    """

    name: str = Field(min_length=1)
    title: str
    tuned: str
    symbol: str
    default: float | None


class PlannedRun(Schema):
    """A run that a study plans."""

    stage: Stage
    seed: NonNegativeInt
    identity: str


class PlannedArm(Schema):
    """A family at one value of its tuned setting, on one task."""

    task: str
    family: str
    value: float
    name: str = Field(min_length=1)
    runs: tuple[PlannedRun, ...]


class Manifest(Schema):
    """What a study plans.

    Attributes:
        baseline: The family that the others are compared with, at its default.
        subject: The family that the study is about.
        overview: The study's place among those that head the report; ``None`` for no such place.
    """

    schema_version: Literal[2]
    name: str = Field(min_length=1)
    title: str
    scale: Scale
    baseline: str
    subject: str
    overview: int | None = None
    tasks: tuple[Task, ...] = Field(min_length=1)
    families: tuple[Family, ...] = Field(min_length=1)
    arms: tuple[PlannedArm, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for kind, names in (
            ("task", [task.name for task in self.tasks]),
            ("family", [family.name for family in self.families]),
            ("arm", [f"{arm.name} of {arm.task}" for arm in self.arms]),
            ("run", [run.identity for arm in self.arms for run in arm.runs]),
        ):
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{kind} {twice} is there twice")
        tasks = {task.name for task in self.tasks}
        families = {family.name for family in self.families}
        for arm in self.arms:
            if arm.task not in tasks or arm.family not in families:
                raise ValueError(f"arm {arm.name}: no task {arm.task} with family {arm.family}")
        for task in self.tasks:
            if task.sensitivity_of is not None and task.sensitivity_of not in tasks:
                raise ValueError(f"task {task.name}: no task {task.sensitivity_of}")
        return self

    def choice(self, task: Task, family: Family) -> float | None:
        """Return the value that a family is confirmed with on a task, or ``None`` until chosen.

        A sensitivity takes that of its main task, but for the baseline, which has its default.
        """
        if task.sensitivity_of is None:
            chosen = task.chosen.get(family.name)
        elif family.name == self.baseline:
            return family.default
        else:
            main = next(each for each in self.tasks if each.name == task.sensitivity_of)
            chosen = main.chosen.get(family.name)
        return None if chosen is None else chosen.value


@dataclass(frozen=True)
class ArmRecords:
    """The finished runs of a family at one value of its tuned setting, on one task, in one stage.

    Attributes:
        task: The task.
        stage: The stage.
        family: The family.
        value: Of the family's tuned setting.
        name: Of the arm, within its task.
        records: By seed; at least one.
        is_baseline: Whether the other arms of the task are compared with this one.
        is_subject: Whether it is of the family that the study is about.
    """

    task: Task
    stage: Stage
    family: Family
    value: float
    name: str
    records: tuple[Record, ...]
    is_baseline: bool
    is_subject: bool


@dataclass(frozen=True)
class Study:
    """The records of one study at one scale.

    Attributes:
        folder: ``<results>/<study>``, or ``<results>/quick/<study>``.
        manifest: What was planned.
        arms: Those with a record at least, in the manifest's order.
    """

    folder: Path
    manifest: Manifest
    arms: tuple[ArmRecords, ...]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.manifest.name

    @property
    def title(self) -> str:
        """The study's name in figures and tables."""
        return self.manifest.title

    @property
    def scale(self) -> Scale:
        """The study's scale."""
        return self.manifest.scale

    @property
    def quick(self) -> bool:
        """Whether the runs are at quick scale, and so no evidence."""
        return self.scale is Scale.quick

    @cached_property
    def tasks(self) -> list[Task]:
        """The tasks that have a record at least, in the manifest's order."""
        return list({arm.task.name: arm.task for arm in self.arms}.values())

    @property
    def records(self) -> list[Record]:
        """All records, in the order of the arms."""
        return [record for arm in self.arms for record in arm.records]

    def arms_of(self, task: Task, stage: Stage | None = None) -> list[ArmRecords]:
        """Return the arms of a task in one stage, or in both, in their order."""
        return [arm for arm in self.arms if arm.task == task and stage in (None, arm.stage)]


def study_names(results: Path, scale: Scale = Scale.paper) -> list[str]:
    """Return the names of the studies that have a manifest and a record at least."""
    folder = scale.folder(results)
    found = []
    known = find_records(folder)
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        arms = read_json(path, Manifest).arms
        if any(run.identity in known for arm in arms for run in arm.runs):
            found.append(path.parent.name)
    return found


def load_study(results: Path, name: str, scale: Scale = Scale.paper) -> Study:
    """Read a study's manifest and the records that it names.

    Args:
        results: The folder of the results.
        name: The study's.
        scale: At quick scale, all is read below ``<results>/quick``.

    Raises:
        RecordError: If there is no manifest or no record; if a file cannot be read or breaks the
            schema; if a record is not of the run that its name says, or has another environment,
            number of steps or cells of the curve than its task's others; if an arm has runs of
            different settings.
    """
    folder = scale.folder(results) / name
    manifest = read_json(folder / MANIFEST, Manifest)
    tasks = {task.name: task for task in manifest.tasks}
    families = {family.name: family for family in manifest.families}
    paths = find_records(scale.folder(results))
    arms = []
    for arm, stage in product(manifest.arms, Stage):
        runs = [run for run in arm.runs if run.stage is stage and run.identity in paths]
        if not runs:
            continue
        runs.sort(key=lambda run: run.seed)
        family = families[arm.family]
        records = {paths[run.identity]: run for run in runs}
        arms.append(
            ArmRecords(
                tasks[arm.task],
                stage,
                family,
                arm.value,
                arm.name,
                tuple(_read_run(path, run) for path, run in records.items()),
                is_baseline=(arm.family, arm.value) == (manifest.baseline, family.default),
                is_subject=arm.family == manifest.subject,
            )
        )
    if not arms:
        raise RecordError(f"{folder / MANIFEST}: no records of its runs yet")
    study = Study(folder, manifest, tuple(arms))
    for task in study.tasks:
        _check_consistency(study.arms_of(task), paths)
    return study


def _read_run(path: Path, run: PlannedRun) -> Record:
    record = read_json(path, Record)
    for field in ("identity", "seed"):
        if (here := getattr(record, field)) != (there := getattr(run, field)):
            raise RecordError(f"{path}: {field} is {here}, but {there} in {MANIFEST}")
    return record


def _check_consistency(arms: list[ArmRecords], paths: dict[str, Path]) -> None:
    """Refuse records of a task that cannot stand beside each other."""
    first = arms[0].records[0]
    for arm in arms:
        setting = arm.records[0].configuration.setting()
        for record in arm.records:
            path, configuration = paths[record.identity], record.configuration
            for field, here, there in (
                ("environment.id", configuration.environment.id, arm.task.environment),
                ("total_steps", configuration.total_steps, arm.task.total_steps),
            ):
                if here != there:
                    raise RecordError(f"{path}: {field} is {here}, but {there} in {MANIFEST}")
            for field, same in (
                ("environment", configuration.environment == first.configuration.environment),
                ("curve.step", record.curve.step == first.curve.step),
            ):
                if not same:
                    other = paths[first.identity].name
                    raise RecordError(f"{path}: {field} differs from that in {other}")
            own = configuration.setting()
            if differing := [key for key in own | setting if own.get(key) != setting.get(key)]:
                other = paths[arm.records[0].identity].name
                raise RecordError(
                    f"{path}: {', '.join(differing)} of arm {arm.name} differs from {other}"
                )
