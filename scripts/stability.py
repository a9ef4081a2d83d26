"""How steady training is: across seeds, within a run, and against the choice of the tuned setting.

Spread and drawdown are measures of Chan et al., "Measuring the Reliability of Reinforcement
Learning Algorithms", ICLR 2020 (https://arxiv.org/abs/1912.05663): dispersion across runs, and
long-term risk within one. Here a drawdown is its largest value, not an expected tail, and a share
of the run's own range, so that it compares runs of different height. What is ours says so.

Every run counts, by the rules of `scripts.scores`, on the curve of either measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from scripts.scores import Arm
from scripts.statistics import FloatArray, aggregate_iqm

LEARNED = 0.1
"""A run has learned something once it is this share of the way from untrained to best."""
NEAR_BEST = 0.9
"""What counts as good as the best value: this share of the way from untrained to it."""


@dataclass(frozen=True)
class ReturnRange:
    """What a task's returns range over; gives shares a meaning where returns are negative.

    Attributes:
        untrained: Median over all runs of the curve's start: of training its first cell, of
            evaluations the first one, which confirm runs make before the first step.
        best: The highest value of any smoothed curve.
    """

    untrained: float
    best: float

    def share(self, returns: FloatArray) -> FloatArray:
        """Return returns as shares of the range: 0 untrained, 1 best; all 0 if it has no length."""
        length = self.best - self.untrained
        return (returns - self.untrained) / length if length else np.zeros_like(returns)


def return_range(arms: Sequence[Arm]) -> ReturnRange:
    """Return the range of all runs of a task."""
    curves = np.concatenate([runs.curves for runs in arms])
    return ReturnRange(float(np.median(curves[:, 0])), float(smoothed(curves).max()))


def smoothed(curves: FloatArray) -> FloatArray:
    """Return means over every window of a twentieth of the run, at least one cell.

    Args:
        curves: Shape (seeds, cells).

    Returns:
        Shape (seeds, cells + 1 - window).
    """
    window = max(curves.shape[1] // 20, 1)
    return np.asarray(sliding_window_view(curves, window, axis=1).mean(axis=-1))


def drawdown(curves: FloatArray) -> FloatArray:
    """Return each smoothed curve's largest fall from its running maximum, as a share of its range.

    0 is a curve that never falls, 1 one that loses all that it gained. A flat curve has 0; whether
    its run learned anything is the question of `instability`.

    Args:
        curves: Shape (seeds, cells).

    Returns:
        Shape (seeds,).
    """
    smooth = smoothed(curves)
    fall = (np.maximum.accumulate(smooth, axis=1) - smooth).max(axis=1)
    extent = np.ptp(smooth, axis=1)
    return np.asarray(np.divide(fall, extent, out=np.zeros_like(fall), where=extent > 0))


def instability(runs: Arm, extent: ReturnRange) -> FloatArray:
    """Return the drawdown of each run; 1 for a run that failed or learned nothing.

    Such a run has hardly anything to lose, and would count as the steadiest of all.

    Returns:
        In [0, 1], shape (seeds,).
    """
    learned = extent.share(smoothed(runs.curves).max(axis=1)) >= LEARNED
    return np.where(learned & ~runs.failed, drawdown(runs.curves), 1.0)


def collapsed(runs: Arm, extent: ReturnRange) -> NDArray[np.bool_]:
    """Return whether each run ended below half of its own best, after it had learned something.

    Our definition. Both are measured from the untrained return, and the best is that of the
    smoothed curve; a run whose best stays below `LEARNED` had nothing to lose.

    Returns:
        Shape (seeds,).
    """
    best = extent.share(smoothed(runs.curves).max(axis=1))
    return np.asarray((best >= LEARNED) & (extent.share(runs.scores) < best / 2))


def decades(
    *strata: FloatArray, settings: Sequence[float], untrained: float, axis: int = 0
) -> FloatArray:
    """Return over how many decades of a setting results are nearly as good as the best.

    Our definition. The interquartile mean is interpolated linearly in the setting's logarithm
    between the arms; near is at least `NEAR_BEST` of the way from untrained to the highest of them.

    Args:
        *strata: Scores, an array of shape (seeds, ...) for each value of the setting.
        settings: The values, positive and in growing order, two or more.
        untrained: `ReturnRange.untrained`.
        axis: That of the seeds.

    Returns:
        From 0 to the decades from the first to the last value; NaN where nothing was learned.
    """
    values = np.stack([aggregate_iqm(scores, axis=axis) for scores in strata])
    low, high = np.minimum(values[:-1], values[1:]), np.maximum(values[:-1], values[1:])
    best = values.max(axis=0)
    level = untrained + NEAR_BEST * (best - untrained)
    # Along a segment from low to high, the part above the level; all or nothing where it is flat.
    sloping = high > low
    part = np.divide(high - level, high - low, out=(low >= level).astype(float), where=sloping)
    found = np.tensordot(np.diff(np.log10(settings)), np.clip(part, 0, 1), axes=1)
    return np.where(best > untrained, found, np.nan)
