"""Verdicts and the rules that lead to them.

When they were fixed, and what was changed since: results/FINDINGS.md, "How sure".

Two optimizers are compared by the probability of improvement, which needs no unit and is not moved
by a single lucky run. Following Bouthillier et al., "Accounting for Variance in Machine Learning
Benchmarks", MLSys 2021 (https://arxiv.org/abs/2103.03098), a difference counts if it is significant
(the 95% interval excludes 0.5) and meaningful (the probability is at least 0.75).

An optimizer that has several settings counts, at each seed, with the one chosen on all other seeds
(`scripts.statistics.tuned_arm`), for its final score, whatever is then compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from scripts.stability import ReturnRange
from scripts.statistics import (
    Estimate,
    FloatArray,
    aggregate_iqm,
    interval_estimates,
    probability_of_improvement,
)

MEANINGFUL = 0.75
SUBSTANTIAL = 0.1
"""A tenth of what the rival gained over the untrained policy."""
SMALLEST_GAIN = 0.01
"""Of the way from the untrained policy to the best; a rival's smaller gain counts as this."""
FEWEST_SEEDS = 5
"""Of every arm, or there is no verdict. With three, even arms that do not overlap at all come about
by chance in one case of ten (2 of the 20 ways to deal six scores to two arms); with five, in one of
126. The percentile interval of so few is narrower than it should be as well."""


class Verdict(StrEnum):
    """What a check, or a claim, came to."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Number:
    """A number that a verdict shows, with its 95% interval if it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Check:
    """One thing that a claim asserts, put to the test.

    Attributes:
        statement: What is tested.
        rule: What makes it reproduced, not reproduced or undecided.
        verdict: What it came to.
        numbers: What it was decided by first, then what else is worth knowing.
        runs: How many runs it rests on, by study.
        change: What would change the verdict.
    """

    statement: str
    rule: str
    verdict: Verdict
    numbers: tuple[Number, ...]
    runs: dict[str, int]
    change: str


def decide(reproduced: bool, not_reproduced: bool) -> Verdict:
    """Return the verdict of a rule's two conditions."""
    if reproduced:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if not_reproduced else Verdict.UNDECIDED


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return reproduced if all are, and not reproduced if one is not."""
    return decide(
        all(verdict is Verdict.REPRODUCED for verdict in verdicts),
        Verdict.NOT_REPRODUCED in verdicts,
    )


def number(name: str, estimate: Estimate) -> Number:
    """Return a number from an estimate of a single value."""
    low, high = (None if end is None else float(end) for end in (estimate.low, estimate.high))
    return Number(name, float(estimate.value), low, high)


BETTER = (
    f"Probability of improvement: reproduced if at least {MEANINGFUL:g} with an interval above "
    f"0.5; not reproduced if the interval lies below {MEANINGFUL:g}; else undecided."
)


def better(estimate: Number) -> Verdict:
    """Return the verdict by the rule `BETTER`."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.value >= MEANINGFUL and estimate.low > 0.5, estimate.high < MEANINGFUL)


def above(estimate: Number, threshold: float) -> Verdict:
    """Return reproduced if the interval lies above the threshold, not reproduced if below."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.low > threshold, estimate.high < threshold)


def below(estimate: Number, threshold: float) -> Verdict:
    """Return reproduced if the interval lies below the threshold, not reproduced if above."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.high < threshold, estimate.low > threshold)


def improvement(x: FloatArray, y: FloatArray) -> Number:
    """Return the probability of improvement of X over Y."""
    return number(
        "probability of improvement", interval_estimates(probability_of_improvement, x, y)
    )


def relative_gain(x: FloatArray, y: FloatArray, extent: ReturnRange, rival: str) -> Number:
    """Return by which share X gained more over the untrained policy than its rival Y did.

    Y's gain counts as at least `SMALLEST_GAIN` of the task's range, so that the share stays finite,
    and keeps its sign, where Y ends at or below the untrained return. If neither gained anything
    there is no share: it is NaN, without an interval, and decides nothing.

    Args:
        x: Final scores, in units of return, shape (seeds,).
        y: Likewise; the number of seeds may differ.
        extent: Of all runs of the task.
        rival: What Y is called.
    """
    name = f"gain over untrained, relative to {rival}'s"
    smallest = SMALLEST_GAIN * (extent.best - extent.untrained)
    if smallest <= 0 or max(aggregate_iqm(x), aggregate_iqm(y)) <= extent.untrained:
        return Number(name, float("nan"))

    def gain(x: FloatArray, y: FloatArray, *, axis: int = 0) -> FloatArray:
        ours, theirs = (aggregate_iqm(side, axis=axis) - extent.untrained for side in (x, y))
        return np.asarray(ours / np.maximum(theirs, smallest) - 1)

    return number(name, interval_estimates(gain, x, y))


def lacking(statement: str, rule: str, runs: dict[str, int], lacks: str) -> Check:
    """Return a check that cannot be made yet."""
    return Check(statement, rule, Verdict.UNDECIDED, (), runs, f"More runs: {lacks}.")


def change(verdict: Verdict) -> str:
    """Return what would change a verdict that rests on intervals."""
    if verdict is Verdict.UNDECIDED:
        return (
            "More seeds: the intervals are too wide, or too close to the threshold, for the rule."
        )
    return "New seeds that move an interval across the rule's threshold."
