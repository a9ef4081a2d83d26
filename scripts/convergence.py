"""Read the records of ``python -m experiments.convergence``.

``experiments/convergence/__main__.py`` documents their fields. Only those that the analysis reads
are declared here; the others are ignored.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from scripts.records import Schema, read_json


class Series(Schema):
    """One function, optimizer setting and kind of step: a case for each number of steps."""

    function: str
    step: Literal["1/sqrt(T)", "constant"]
    sizes: tuple[PositiveInt, ...]
    alpha: PositiveFloat
    eps: float
    momentum: NonNegativeFloat
    noise: NonNegativeFloat
    steps: tuple[PositiveInt, ...] = Field(min_length=1)
    min_gradient_norm: tuple[float, ...]
    bound: tuple[PositiveFloat, ...]
    bound_with_n: tuple[PositiveFloat, ...]
    slope: float | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        lists = self.min_gradient_norm, self.bound, self.bound_with_n
        if any(len(values) != len(self.steps) for values in lists):
            raise ValueError("steps, min_gradient_norm, bound and bound_with_n differ in length")
        return self

    @property
    def practice(self) -> bool:
        """Whether the steps have momentum or noise, as those of reinforcement learning."""
        return self.momentum > 0 or self.noise > 0

    @property
    def cases(self) -> list[tuple[float, float]]:
        """The measured norm and its bound for each number of steps."""
        return list(zip(self.min_gradient_norm, self.bound, strict=True))


class Counterexample(Schema):
    """Gradient norms at the end of a constant step and of one that shrinks."""

    alpha: PositiveFloat
    steps: tuple[PositiveInt, ...]
    constant: tuple[float, ...]
    shrinking: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.steps) == len(self.constant) == len(self.shrinking):
            raise ValueError("steps, constant and shrinking differ in length")
        return self


class Summary(Schema):
    """The record in a few numbers."""

    cases: NonNegativeInt
    below_bound: NonNegativeInt
    largest_share: float
    smoothness_exceeded: NonNegativeInt
    counterexamples_stay: bool


class Provenance(Schema):
    """Where the numbers come from."""

    command: str
    finished: str


class Convergence(Schema):
    """One record."""

    summary: Summary
    series: tuple[Series, ...] = Field(min_length=1)
    counterexamples: tuple[Counterexample, ...]
    provenance: Provenance


def load_convergence(results: Path) -> list[Convergence]:
    """Return ``<results>/convergence/*.json``, the newest last.

    Raises:
        RecordError: If a file cannot be read or breaks the schema.
    """
    paths = sorted((results / "convergence").glob("*.json"))
    records = [read_json(path, Convergence) for path in paths]
    return sorted(records, key=lambda record: record.provenance.finished)
