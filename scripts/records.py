"""Read one record.

The schema is documented in ``docs/records.md``. Only the fields that the analysis reads are
declared here; the others are ignored.
"""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

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

LABELS = frozenset({"seed", "device", "protocol", "optimizer_settings"})
"""Fields of a configuration that may differ between the runs of an arm: they change no result."""


class RecordError(Exception):
    """Records that cannot be used; the message is one line that names the file or folder."""


class Schema(BaseModel):
    """What is read of a file: no value is converted, and none is NaN or infinite."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Environment(Schema):
    """The environment's settings: its Gymnasium id, and more that is only compared."""

    model_config = ConfigDict(extra="allow")

    id: str


class Configuration(Schema):
    """What identifies a run: the declared settings, and more that is only compared."""

    model_config = ConfigDict(extra="allow")

    algorithm: dict[str, Any]
    environment: Environment
    optimizer: dict[str, Any]
    total_steps: PositiveInt

    def setting(self) -> dict[str, Any]:
        """Return all that the runs of one arm have in common."""
        return self.model_dump(exclude=set(LABELS))


class Curve(Schema):
    """Training returns by cell of environment steps; ``None`` where no episode ended."""

    step: tuple[PositiveFloat, ...] = Field(min_length=1)
    episodes: tuple[NonNegativeInt, ...]
    return_mean: tuple[float | None, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("episodes", "return_mean"):
            if (found := len(getattr(self, name))) != len(self.step):
                raise ValueError(f"{len(self.step)} values of step, but {found} of {name}")
        if [value is not None for value in self.return_mean] != [n > 0 for n in self.episodes]:
            raise ValueError("return_mean is null where an episode ended, or the other way round")
        return self


class Evaluation(Schema):
    """Returns of the evaluation episodes, for each step at which the policy was evaluated."""

    step: tuple[NonNegativeInt, ...]
    returns: tuple[Annotated[tuple[float, ...], Field(min_length=1)], ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.returns) != len(self.step):
            raise ValueError(f"{len(self.step)} values of step, but {len(self.returns)} of returns")
        return self


class TensorDiagnostics(Schema):
    """What one tensor's updates were like, at each of the steps that were looked at."""

    update_rms: tuple[float | None, ...]
    saturated_share: tuple[float | None, ...] | None = None


class Diagnostics(Schema):
    """Updates at some steps of a run, and how many elements there are, by the tensor's name."""

    step: tuple[NonNegativeInt, ...]
    elements: dict[str, PositiveInt] = {}
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
    seed: NonNegativeInt
    configuration: Configuration
    steps: NonNegativeInt
    curve: Curve
    evaluation: Evaluation
    final_score: float | None
    diagnostics: Diagnostics | None = None
    optimizer: Optimizer
    timing: Timing
    provenance: Provenance

    @property
    def diverged(self) -> bool:
        """Whether the run was stopped because a number became NaN or infinite."""
        return self.status == "diverged"

    @cached_property
    def measured(self) -> dict[str, Any]:
        """What `experiments.measures` reads, as JSON has it."""
        return self.model_dump(
            include={
                "status": True,
                "configuration": {"total_steps"},
                "curve": True,
                "evaluation": True,
            }
        )


Read = TypeVar("Read", bound=Schema)


def read_json(path: Path, schema: type[Read]) -> Read:
    """Return what a JSON file holds.

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
