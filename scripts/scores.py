"""What counts of a study's runs: both measures of each, and curves without gaps.

- Every run of an arm counts. A run that diverged, or in which no episode ended, measures below
  every other, and counts in means with the floor (`experiments.measures`).
- A curve keeps its last value: where no episode ended, and to the end of a run that diverged. One
  without any value has the floor throughout.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments import measures
from scripts.records import Record
from scripts.statistics import FloatArray, aggregate_iqm
from scripts.studies import Family, Stage, Study, Task


@dataclass(frozen=True)
class Measure:
    """By what a run is judged.

    Attributes:
        name: In data.
        title: As tables and figures call it.
        of: The measure of a record, in units of return.
        curve: The steps, returns and numbers of episodes that it is the end of.
        steps: All steps at which a record may have a return.
    """

    name: str
    title: str
    of: Callable[[measures.Record], float]
    curve: Callable[[measures.Record], measures.Curve]
    steps: Callable[[Record], tuple[float, ...]]


TRAINING = Measure(
    "training",
    "training return",
    measures.training_return,
    measures.training_curve,
    lambda record: record.curve.step,
)
EVALUATION = Measure(
    "evaluation",
    "evaluation return",
    measures.evaluation_return,
    measures.evaluation_curve,
    lambda record: record.evaluation.step,
)
MEASURES = (TRAINING, EVALUATION)


@dataclass(frozen=True)
class Arm:
    """The runs of a family at one value of its tuned setting, on one task, in one stage.

    A row for each seed, nothing missing; of a measure that a study does not have, all is NaN.

    Attributes:
        name: What they are called.
        records: By seed.
        measured: In units of return, minus infinity for a run without a result, shape (seeds,).
            For statistics of ranks.
        scores: The same with the floor in its place, for means.
        curves: Returns, shape (seeds, cells).
        steps: Environment steps at the cells, shape (cells,).
        task: The task.
        stage: The stage.
        family: The family.
        value: Of the setting that is tuned.
        is_baseline: Whether the task's other arms are compared with this one.
        is_subject: Whether it is of the family that the study is about.
    """

    name: str
    records: tuple[Record, ...]
    measured: FloatArray
    scores: FloatArray
    curves: FloatArray
    steps: FloatArray
    task: Task
    stage: Stage
    family: Family
    value: float
    is_baseline: bool
    is_subject: bool

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each run diverged, shape (seeds,)."""
        return np.array([record.diverged for record in self.records])

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether each run has no result, shape (seeds,)."""
        return np.isneginf(self.measured)


def arms_of(
    study: Study, task: Task, measure: Measure = TRAINING, stage: Stage = Stage.tune
) -> list[Arm]:
    """Return a task's arms in their order, by the rules of what counts that the module states."""
    found = study.arms_of(task, stage)
    records = [record for arm in found for record in arm.records]
    curves = [measure.curve(record.measured) for record in records]
    measured = np.array([measure.of(record.measured) for record in records])
    lowest = measures.floor(measured, measures.untrained_return(curves))
    scores = measures.counted(measured, lowest)
    steps = np.array(
        sorted({step for record in records for step in measure.steps(record)}) or [0.0]
    )
    filled = fill_curves(on_grid(curves, steps), lowest)
    arms, end = [], 0
    for arm in found:
        start, end = end, end + len(arm.records)
        arms.append(
            Arm(
                arm.name,
                arm.records,
                measured[start:end],
                scores[start:end],
                filled[start:end],
                steps,
                task,
                stage,
                arm.family,
                arm.value,
                arm.is_baseline,
                arm.is_subject,
            )
        )
    return arms


def lowest_return(
    study: Study, task: Task, measure: Measure = TRAINING, stage: Stage = Stage.tune
) -> float:
    """Return what a run without a result counts with in means; NaN if nothing is known."""
    records = [record.measured for arm in study.arms_of(task, stage) for record in arm.records]
    untrained = measures.untrained_return(map(measure.curve, records))
    return measures.floor(np.array([measure.of(record) for record in records]), untrained)


def on_grid(curves: Sequence[measures.Curve], steps: FloatArray) -> FloatArray:
    """Return the returns of curves at steps, of which theirs are some; NaN where one has none.

    Returns:
        Shape (curves, steps).
    """
    returns = np.full((len(curves), len(steps)), np.nan)
    for row, (own, values, _) in zip(returns, curves, strict=True):
        row[np.searchsorted(steps, own)] = values
    return returns


def fill_curves(curves: FloatArray, floor: float) -> FloatArray:
    """Give every cell of each curve a value.

    An empty cell takes the last value before it; those before the first value take the first; a
    curve that is empty throughout takes ``floor``.

    Args:
        curves: Returns, NaN where there are none, shape (seeds, cells).
        floor: In units of return.
    """
    return pd.DataFrame(curves).ffill(axis=1).bfill(axis=1).fillna(floor).to_numpy()


def area_under_curve(curves: FloatArray) -> FloatArray:
    """Area under filled curves, divided by their length: the mean over their equal cells.

    Args:
        curves: Shape (seeds, cells).

    Returns:
        In units of return, shape (seeds,).
    """
    return np.asarray(curves.mean(axis=1))


@dataclass(frozen=True)
class Scale:
    """Normalised scores of a task: 0 is an untrained policy, 1 what the baseline comes to.

    Attributes:
        untrained: Return of a policy that has not been trained.
        baseline: Interquartile mean of the baseline's scores at its default.
    """

    untrained: float
    baseline: float

    def __call__(self, scores: FloatArray) -> FloatArray:
        """Return normalised scores; NaN if the baseline learned nothing."""
        gain = self.baseline - self.untrained
        return np.asarray((scores - self.untrained) / (gain if gain > 0 else np.nan))


def scale_of(arms: Sequence[Arm]) -> Scale | None:
    """Return the scale of a task, a stage and a measure; ``None`` without runs of the baseline.

    Args:
        arms: All of them.
    """
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    if baseline is None:
        return None
    untrained = float(np.median(np.concatenate([arm.curves[:, 0] for arm in arms])))
    return Scale(untrained, float(aggregate_iqm(baseline.scores)))
