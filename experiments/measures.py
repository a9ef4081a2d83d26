"""What a run is judged by, read from its record: two measures over the same window.

- training: the mean return of the episodes that ended in the last tenth of the planned steps, as
  the policy acts while it learns, with its exploration.
- evaluation: the mean return of the deterministic policy at the evaluations in that window.

What has no result counts as the worst, and is never left out. A run that diverged, or in which no
episode ended, measures minus infinity: to statistics of ranks it is below every other run, and
equal to another such. Means cannot hold that, so there it counts with `floor`: the lowest of the
task's finite measures and of the untrained policy's return. The untrained return alone would put a
run that diverged above one that learned something worse; the worst score alone depends on whether
there is a bad arm to take it from. Failing never helps an arm by this.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Record = Mapping[str, Any]
Curve = tuple[FloatArray, FloatArray, FloatArray]
"""Environment steps in growing order, mean returns there, and of how many episodes each."""

WINDOW = 0.1
"""Share of the planned steps, at the end, that a run is judged by."""


def training_curve(record: Record) -> Curve:
    """Return the training returns at the cells in which an episode ended.

    A cell's step is its upper edge.
    """
    curve = record["curve"]
    steps, episodes = (np.asarray(curve[key], dtype=np.float64) for key in ("step", "episodes"))
    returns = np.array(curve["return_mean"], dtype=np.float64)  # None becomes NaN
    ended = episodes > 0
    return steps[ended], returns[ended], episodes[ended]


def evaluation_curve(record: Record) -> Curve:
    """Return the evaluations' mean returns."""
    evaluation = record["evaluation"]
    returns = [np.mean(episodes) for episodes in evaluation["returns"]]
    counts = [len(episodes) for episodes in evaluation["returns"]]
    steps, means, episodes = (
        np.asarray(values, dtype=np.float64) for values in (evaluation["step"], returns, counts)
    )
    return steps, means, episodes


def training_return(record: Record) -> float:
    """Return the mean return of the training episodes that ended in the window.

    If none ended there, the last cell in which one did counts.

    Args:
        record: Of a finished run, as JSON has it.

    Returns:
        In units of return; minus infinity if the run diverged or no episode ended.
    """
    steps, returns, episodes = training_curve(record)
    if record["status"] == "diverged" or not len(steps):
        return -np.inf
    within = steps > _window_start(record)  # a cell that ends where the window starts is before it
    within[-1] |= not within.any()
    return float(np.average(returns[within], weights=episodes[within]))


def evaluation_return(record: Record) -> float:
    """Return the mean return of the evaluations in the window, its start included.

    If there are none, the last one counts: it is at the end of the run, whatever its length.

    Args:
        record: Of a finished run, as JSON has it.

    Returns:
        In units of return; minus infinity if the run diverged, NaN if it has no evaluations.
    """
    steps, returns, episodes = evaluation_curve(record)
    if record["status"] == "diverged":
        return -np.inf
    if not len(steps):
        return np.nan
    within = steps >= _window_start(record)
    within[-1] |= not within.any()
    return float(np.average(returns[within], weights=episodes[within]))


def _window_start(record: Record) -> float:
    return round((1 - WINDOW) * float(record["configuration"]["total_steps"]), 6)


def untrained_return(curves: Iterable[Curve]) -> float:
    """Return what a policy gets that has not been trained: the median of the curves' first values.

    Of training it is the first cell of the curve; of evaluations the first one, which confirm runs
    make before the first step. NaN if all curves are empty.
    """
    firsts = [returns[0] for _, returns, _ in curves if len(returns)]
    return float(np.median(firsts)) if firsts else np.nan


def floor(measured: FloatArray, untrained: float) -> float:
    """Return what a run without a result counts with in means; NaN if nothing is known.

    Args:
        measured: One measure of all of a task's runs.
        untrained: `untrained_return` of their curves.
    """
    known = [*measured[np.isfinite(measured)], untrained]
    return float(np.nanmin(known)) if not np.isnan(known).all() else np.nan


def counted(measured: FloatArray, lowest: float) -> FloatArray:
    """Return measures as means take them: `floor` in place of minus infinity."""
    return np.where(np.isneginf(measured), lowest, measured)
