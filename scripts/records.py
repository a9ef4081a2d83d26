"""Loads the records of a study and refuses those that do not belong together.

The schema is documented in ``docs/records.md``. Only the fields that the analysis reads are
declared here; the others are ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

QUICK_SUFFIX = "-quick"
"""Ends the name of a folder whose runs are too short and too few to be evidence."""


class RecordError(Exception):
    """Records that cannot be used; the message is one line that names the file or folder."""


class Schema(BaseModel):
    """What is read of a file: no value is converted, and none is NaN or infinite."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Algorithm(Schema):
    """The algorithm's settings: its base learning rate, and more that is only compared."""

    model_config = ConfigDict(extra="allow")

    learning_rate: PositiveFloat


class Environment(Schema):
    """The environment's settings: its Gymnasium id, and more that is only compared."""

    model_config = ConfigDict(extra="allow")

    id: str


class Configuration(Schema):
    """What identifies a run: the declared settings, and more that is only compared."""

    model_config = ConfigDict(extra="allow")

    protocol: str | None
    algorithm: Algorithm
    environment: Environment
    optimizer: dict[str, Any]
    total_steps: PositiveInt

    def setting(self) -> dict[str, Any]:
        """Everything that the runs of one arm have in common."""
        return self.model_dump(exclude={"seed", "device"})


class Curve(Schema):
    """Training returns by cell of environment steps; ``None`` where no episode ended."""

    step: tuple[PositiveFloat, ...] = Field(min_length=1)
    return_mean: tuple[float | None, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.return_mean) != len(self.step):
            raise ValueError(
                f"{len(self.step)} values of step, but {len(self.return_mean)} of return_mean"
            )
        return self


class TensorDiagnostics(Schema):
    """What one tensor's updates were like, at each of the steps that were looked at."""

    update_rms: tuple[float | None, ...]
    saturated_share: tuple[float | None, ...] | None = None


class Diagnostics(Schema):
    """Updates at some steps of a run, by the tensor's name."""

    step: tuple[NonNegativeInt, ...]
    tensors: dict[str, TensorDiagnostics]


class Optimizer(Schema):
    """How many elements are optimized, and the size of the optimizer's state, in bytes."""

    parameters: PositiveInt
    state_bytes: NonNegativeInt


class Timing(Schema):
    """How long the run took, and how fast it was, in environment steps per second."""

    wall_seconds: float
    steps_per_second: float | None


class Git(Schema):
    """The code's commit, and whether it had changes that were not committed."""

    commit: str | None
    dirty: bool | None


class Cpu(Schema):
    """The processor that ran it."""

    model: str | None


class Provenance(Schema):
    """Where a run's numbers come from."""

    command: str
    git: Git
    versions: dict[str, str | None]
    cpu: Cpu


class Record(Schema):
    """One finished run."""

    schema_version: Literal[1]
    identity: str
    status: Literal["completed", "diverged"]
    reason: str | None
    arm: str = Field(min_length=1)
    seed: NonNegativeInt
    configuration: Configuration
    steps: NonNegativeInt
    curve: Curve
    final_score: float | None
    diagnostics: Diagnostics | None = None
    optimizer: Optimizer
    timing: Timing
    provenance: Provenance

    @property
    def diverged(self) -> bool:
        """Whether the run was stopped because a number became NaN or infinite."""
        return self.status == "diverged"


@dataclass(frozen=True)
class Study:
    """The records of one study at one scale, by arm and within an arm by seed.

    Attributes:
        folder: ``<results>/<study>``, or ``<results>/<study>-quick`` at quick scale.
        arms: Records by arm: Adam first, then AlphaGrad, then the others by family; within a
            family by the setting that is tuned.
    """

    folder: Path
    arms: dict[str, tuple[Record, ...]]

    @property
    def records(self) -> list[Record]:
        """All records, in the order of the arms."""
        return [record for records in self.arms.values() for record in records]

    @property
    def configuration(self) -> Configuration:
        """A configuration whose protocol, environment and total steps are the whole study's."""
        return self.records[0].configuration

    @property
    def name(self) -> str:
        """The study's name, without the scale."""
        return self.folder.name.removesuffix(QUICK_SUFFIX)

    @property
    def quick(self) -> bool:
        """Whether the runs are at quick scale, and so no evidence."""
        return self.folder.name.endswith(QUICK_SUFFIX)

    @property
    def scale(self) -> str:
        """``quick`` or ``paper``."""
        return "quick" if self.quick else "paper"


_NUMBER = r"\d+\.?\d*(?:e[+-]?\d+)?"
_LABEL = re.compile(rf"(?P<family>.+?)(?:-(?P<knob>alpha|lr)(?P<value>{_NUMBER}))?")


def family_of(arm: str) -> str:
    """What an arm's optimizer is, without the setting that is tuned.

    Labels are ``<family>``, ``<family>-alpha<number>`` or ``<family>-lr<number>``. Arms of one
    family are one optimizer at several settings: ``adam`` and ``adam-lr0.001`` are both ``adam``.
    """
    return _label(arm)["family"]


def alpha_of(arm: str) -> float | None:
    """The alpha of an arm of the alpha sweep, ``alphagrad-alpha<number>``; ``None`` for others."""
    label = _label(arm)
    in_sweep = label["family"] == "alphagrad" and label["knob"] == "alpha"
    return float(label["value"]) if in_sweep else None


def _label(arm: str) -> re.Match[str]:
    match = _LABEL.fullmatch(arm)
    assert match  # any text is at least a family
    return match


Read = TypeVar("Read", bound=Schema)


def load_study(folder: Path) -> Study:
    """Loads ``<folder>/records/*.json``.

    Raises:
        RecordError: If there is no record; if a file cannot be read or breaks the schema; if two
            records hold the same arm and seed; if protocol, environment, total steps or the
            curve's cells differ within the study; if an arm has runs of different settings.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise RecordError(f"no records in {folder / 'records'}")
    records = {path: read_json(path, Record) for path in paths}
    _check_consistency(records)
    return Study(folder, _by_arm(records.values()))


def read_json(path: Path, schema: type[Read]) -> Read:
    """What a JSON file holds.

    Raises:
        RecordError: If it cannot be read or breaks the schema.
    """
    try:
        return schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{path}: {location and location + ': '}{first['msg']}") from error


def _check_consistency(records: dict[Path, Record]) -> None:
    first_path, first = next(iter(records.items()))
    runs: dict[tuple[str, int], Path] = {}
    arms: dict[str, Path] = {}
    for path, record in records.items():
        run = f"arm {record.arm}, seed {record.seed}"
        if other := runs.get((record.arm, record.seed)):
            raise RecordError(f"{path}: {run} is already in {other.name}")
        runs[record.arm, record.seed] = path

        for field in ("protocol", "environment", "total_steps"):
            here = getattr(record.configuration, field)
            if here != (there := getattr(first.configuration, field)):
                raise RecordError(f"{path}: {field} is {here}, but {there} in {first_path.name}")
        if record.curve.step != first.curve.step:
            raise RecordError(f"{path}: curve.step differs from that in {first_path.name}")

        other = arms.setdefault(record.arm, path)
        here, there = record.configuration.setting(), records[other].configuration.setting()
        if differing := [key for key in here | there if here.get(key) != there.get(key)]:
            raise RecordError(
                f"{path}: {', '.join(differing)} of arm {record.arm} differs from {other.name}"
            )


def _by_arm(records: Iterable[Record]) -> dict[str, tuple[Record, ...]]:
    arms: dict[str, tuple[Record, ...]] = {}
    for record in sorted(records, key=lambda record: (_arm_order(record), record.seed)):
        arms[record.arm] = (*arms.get(record.arm, ()), record)
    return arms


def _arm_order(record: Record) -> tuple[int, str, float, str]:
    """Adam, then AlphaGrad, then the other families; within a family by the tuned setting."""
    label = _label(record.arm)
    group = {"adam": 0, "alphagrad": 1}.get(label["family"], 2)
    tuned = float(label["value"]) if label["knob"] else record.configuration.algorithm.learning_rate
    return group, label["family"], tuned, record.arm
