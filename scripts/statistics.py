"""Aggregates over seeds and their uncertainty, with rliable's names and definitions.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
NeurIPS 2021 (https://arxiv.org/abs/2108.13264), and its library rliable. Their sampling is
SciPy's bootstrap here: the same resampling, seeded.

What counts:

- Every run of an arm counts. A diverged run counts with the score that it had when it stopped, and
  its curve keeps its last value to the end.
- A run in which no episode ended has no return of its own. It counts, as score and as curve, with
  the lowest value that any run's curve has in the study: failing at once never helps an arm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from scripts.records import Record
from scripts.studies import Family, Study, Task

FloatArray = NDArray[np.float64]
Statistic = Callable[..., FloatArray]

CONFIDENCE_LEVEL = 0.95
RESAMPLES = 10_000
MINIMUM_SEEDS = 3
"""With fewer seeds than this, a bootstrap interval says nothing and none is given."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and the ends of its interval, each of the statistic's shape.

    Attributes:
        value: The statistic.
        low: Lower end of the interval; ``None`` with too few seeds.
        high: Upper end of the interval; ``None`` with too few seeds.
    """

    value: FloatArray
    low: FloatArray | None
    high: FloatArray | None


@dataclass(frozen=True)
class Runs:
    """Runs of an optimizer as the statistics see them: a row for each seed, nothing missing.

    Attributes:
        name: What they are called.
        records: By seed.
        scores: Final scores, in units of return, shape (seeds,).
        curves: Training returns, shape (seeds, cells).
    """

    name: str
    records: tuple[Record, ...]
    scores: FloatArray
    curves: FloatArray

    @property
    def diverged(self) -> NDArray[np.bool_]:
        """Whether each run diverged, shape (seeds,)."""
        return np.array([record.diverged for record in self.records])


@dataclass(frozen=True)
class Arm(Runs):
    """The runs of a family at one value of its tuned setting, on one task.

    Attributes:
        task: The task.
        family: The family.
        value: Of the setting that is tuned.
        is_baseline: Whether the task's other arms are compared with this one.
        is_subject: Whether it is of the family that the study is about.
    """

    task: Task
    family: Family
    value: float
    is_baseline: bool
    is_subject: bool


@dataclass(frozen=True)
class Tuned(Runs):
    """The runs of a family at the settings that `tuned_arm` chose.

    Attributes:
        chosen: The arm of each run.
    """

    chosen: tuple[Arm, ...]


def aggregate_mean(*strata: FloatArray, axis: int = 0) -> FloatArray:
    """Mean over the samples of all strata."""
    return np.asarray(np.mean(np.concatenate(strata, axis=axis), axis=axis))


def aggregate_median(*strata: FloatArray, axis: int = 0) -> FloatArray:
    """Median of the samples of all strata.

    rliable's median is that of the environments' means. A study has one environment, of which that
    would be the mean.
    """
    return np.asarray(np.median(np.concatenate(strata, axis=axis), axis=axis))


def aggregate_iqm(*strata: FloatArray, axis: int = 0) -> FloatArray:
    """Interquartile mean: the mean without the lowest and the highest 25% of all samples.

    The number cut at each end is rounded down: of 10 samples it is 2, of 3 it is none. SciPy's
    ``trim_mean(..., 0.25)``, of which the bootstrap takes thousands, in a third of its time.
    """
    samples = np.moveaxis(np.concatenate(strata, axis=axis), axis, -1)
    samples.sort(axis=-1)
    cut = samples.shape[-1] // 4
    return np.asarray(samples[..., cut : samples.shape[-1] - cut].mean(axis=-1))


def aggregate_optimality_gap(*strata: FloatArray, target: float, axis: int = 0) -> FloatArray:
    """By how much the samples of all strata miss a target on average; what exceeds it is ignored.

    Args:
        *strata: Scores, in units of return.
        target: In the same units, as `Task.reward_threshold`.
        axis: That of the samples.
    """
    missed = np.maximum(target - np.concatenate(strata, axis=axis), 0)
    return np.asarray(missed.mean(axis=axis))


def probability_of_improvement(
    x_scores: FloatArray, y_scores: FloatArray, *, axis: int = 0
) -> FloatArray:
    """Probability that a run of X scores higher than a run of Y, where a tie is one half.

    The Mann-Whitney U statistic divided by the number of pairs, as in rliable. Its interval is
    ``interval_estimates(probability_of_improvement, x_scores, y_scores)``.

    Args:
        x_scores: One for each run; the number of runs may differ.
        y_scores: Likewise.
        axis: That of the runs.
    """
    x = np.moveaxis(x_scores, axis, -1)[..., :, np.newaxis]
    y = np.moveaxis(y_scores, axis, -1)[..., np.newaxis, :]
    return np.asarray(((x > y).mean(axis=(-2, -1)) + (x >= y).mean(axis=(-2, -1))) / 2)


def performance_profile(scores: FloatArray, taus: FloatArray) -> Estimate:
    """Share of runs that score more than each of some returns, with pointwise intervals.

    rliable's run-score distribution.

    Args:
        scores: Shape (seeds,).
        taus: Returns, shape (points,).

    Returns:
        Shares in [0, 1], shape (points,).
    """
    # Between two scores all returns have the same share: each is worked out once.
    above, index = np.unique(scores[:, np.newaxis] > taus, axis=1, return_inverse=True)
    shares = interval_estimates(aggregate_mean, above.astype(np.float64))
    if shares.low is None or shares.high is None:
        return Estimate(shares.value[index], None, None)
    return Estimate(shares.value[index], shares.low[index], shares.high[index])


def interval_estimates(statistic: Statistic, *strata: FloatArray, seed: int = 0) -> Estimate:
    """Return a statistic with its 95% stratified bootstrap percentile interval.

    Seeds are drawn with replacement within each stratum, never across; a study of one environment
    is a single stratum, and so is each side of a comparison. A row of curves is drawn as a whole,
    so the intervals along a curve are pointwise.

    Args:
        statistic: Takes the strata and ``axis``, as `aggregate_iqm` does.
        *strata: One array for each environment or side, of shape (seeds, ...).
        seed: Seed of the resampling.

    Returns:
        The estimate, without an interval if a stratum has fewer than three seeds or a sample is
        not a number.
    """
    value = statistic(*strata)
    if min(map(len, strata)) < MINIMUM_SEEDS or not np.isfinite(value).all():
        return Estimate(value, None, None)
    interval = bootstrap(
        strata,
        statistic,
        axis=0,
        n_resamples=RESAMPLES,
        batch=1000,  # bounds the memory that curves take
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        paired=False,
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, interval.low, interval.high)


def fill_curves(curves: FloatArray, floor: float) -> FloatArray:
    """Give every cell of each curve a value.

    An empty cell takes the last value before it; those before the first value take the first; a
    curve that is empty throughout takes ``floor``.

    Args:
        curves: Mean return of the episodes that ended in each cell, NaN where none did, shape
            (seeds, cells).
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


def lowest_return(study: Study, task: Task) -> float:
    """Return the lowest value of any run's curve: the score of a run in which no episode ended.

    NaN if no episode ended in any run of the task.
    """
    records = [record for arm in study.arms_of(task) for record in arm.records]
    returns = _numbers(value for record in records for value in record.curve.return_mean)
    return float(np.nanmin(returns)) if not np.isnan(returns).all() else float("nan")


def arms_of(study: Study, task: Task) -> list[Arm]:
    """Return a task's arms in their order, by the rules of what counts that the module states."""
    floor = lowest_return(study, task)
    arms = []
    for arm in study.arms_of(task):
        scores = _numbers(record.final_score for record in arm.records)
        curves = np.stack([_numbers(record.curve.return_mean) for record in arm.records])
        scores[np.isnan(scores)] = floor
        arms.append(
            Arm(
                arm.name,
                arm.records,
                scores,
                fill_curves(curves, floor),
                task,
                arm.family,
                arm.value,
                arm.is_baseline,
                arm.is_subject,
            )
        )
    return arms


def tuned_arm(arms: Sequence[Arm], name: str) -> Tuned:
    """Return the runs of a family at a setting that was chosen without looking at them.

    Choosing the best arm on the seeds that it is then scored on is optimistic: the best of several
    noisy scores is best partly by luck. So for each seed, the arm with the highest interquartile
    mean over all other seeds is taken, and its run with this seed counts; of arms that tie, the
    first is taken. The result has a run for each seed that all arms have, and may be used like an
    arm: with all statistics and their intervals. Halves that choose for each other would do
    as well, but the outcome then depends on which seeds are put together. Where several arms are
    about equal it leans to the low side: leaving out an arm's best run speaks against that arm.

    Its interval is that of the choices made; it does not hold the uncertainty of the choice. A
    nested bootstrap would, but it draws the same run for the choice and for the score, which brings
    the optimism back. A single arm is returned with all of its runs: there was nothing to choose.

    Args:
        arms: One optimizer at several settings.
        name: The label of the result.

    Raises:
        ValueError: If the arms of several have fewer than two seeds in common.
    """
    if len(arms) == 1:
        (arm,) = arms
        return Tuned(name, arm.records, arm.scores, arm.curves, (arm,) * len(arm.records))
    arms = at_common_seeds(arms)
    seeds = range(len(arms[0].records))
    if len(seeds) < 2:
        raise ValueError("to choose on the other seeds, the arms need two in common")
    scores = np.stack([arm.scores for arm in arms])
    others = [aggregate_iqm(np.delete(scores, seed, axis=1), axis=1) for seed in seeds]
    chosen = [arms[int(best.argmax())] for best in others]
    return Tuned(
        name,
        tuple(arm.records[seed] for seed, arm in enumerate(chosen)),
        np.array([arm.scores[seed] for seed, arm in enumerate(chosen)]),
        np.array([arm.curves[seed] for seed, arm in enumerate(chosen)]),
        tuple(chosen),
    )


AnyRuns = TypeVar("AnyRuns", bound=Runs)


def at_common_seeds(arms: Sequence[AnyRuns]) -> list[AnyRuns]:
    """Return the arms with their runs at the seeds that all of them have, by seed."""
    seeds = set.intersection(*({record.seed for record in arm.records} for arm in arms))
    found = []
    for arm in arms:
        rows = [row for row, record in enumerate(arm.records) if record.seed in seeds]
        records = tuple(arm.records[row] for row in rows)
        found.append(
            replace(arm, records=records, scores=arm.scores[rows], curves=arm.curves[rows])
        )
    return found


def chance_of_gain(
    arms: Sequence[Runs],
    rival: Runs,
    *,
    seeds: int,
    untrained: float,
    gain: float,
    draws: int = 10_000,
    seed: int = 0,
) -> float:
    """In which share of small studies an optimizer comes out ahead of a rival, as papers report it.

    A small study has a few seeds, drawn without replacement from those that all arms have. It
    compares means, and takes the arm that is best on those same seeds: the optimism that
    `tuned_arm` avoids. Where the full study finds no advantage, this is how often a small one would
    have claimed it.

    Args:
        arms: One optimizer at several settings.
        rival: The other one.
        seeds: Of each small study, at most as many as there are.
        untrained: Score that gains are counted from.
        gain: How much larger the optimizer's gain has to be, as a share of the rival's.
        draws: Small studies.
        seed: Of the draws.
    """
    scores = np.stack([arm.scores for arm in at_common_seeds([*arms, rival])])
    every = np.tile(np.arange(scores.shape[1]), (draws, 1))
    drawn = np.random.default_rng(seed).permuted(every, axis=1)[:, :seeds]
    *ours, theirs = scores[:, drawn].mean(axis=-1) - untrained
    return float(np.mean(np.max(ours, axis=0) > (1 + gain) * theirs))


def _numbers(values: Any) -> FloatArray:
    """Floats from numbers and ``None``, which becomes NaN."""
    return np.array(list(values), dtype=np.float64)
