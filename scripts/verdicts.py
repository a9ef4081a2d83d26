"""Verdicts and the rules that lead to them.

When they were fixed, and what was changed since: results/FINDINGS.md, "How sure".

Two optimizers are compared by the probability of improvement, which needs no unit and is not moved
by a single lucky run. Following Bouthillier et al., "Accounting for Variance in Machine Learning
Benchmarks", MLSys 2021 (https://arxiv.org/abs/2103.03098), a difference counts if it is significant
(the 95% interval excludes 0.5) and meaningful (the probability is at least 0.75).

An optimizer that has several settings counts, at each seed, with the one chosen on all other seeds
(`scripts.statistics.tuned_arm`), for its final score, whatever is then compared.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from scripts.stability import ReturnRange
from scripts.statistics import (
    Arm,
    Estimate,
    FloatArray,
    aggregate_iqm,
    interval_estimates,
    probability_of_improvement,
    tuned_arm,
)

MEANINGFUL = 0.75
SUBSTANTIAL = 0.1
"""A tenth of what Adam gained over the untrained policy."""
SMALLEST_GAIN = 0.01
"""Of the way from the untrained policy to the best; a smaller gain of Adam's counts as this."""
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
        runs: How many runs it rests on, by the folder of their records.
        change: What would change the verdict.
    """

    statement: str
    rule: str
    verdict: Verdict
    numbers: tuple[Number, ...]
    runs: dict[str, int]
    change: str


def decide(reproduced: bool, not_reproduced: bool) -> Verdict:
    """The verdict of a rule's two conditions."""
    if reproduced:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if not_reproduced else Verdict.UNDECIDED


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim is reproduced if all of its checks are, and not if one is not."""
    return decide(
        all(verdict is Verdict.REPRODUCED for verdict in verdicts),
        Verdict.NOT_REPRODUCED in verdicts,
    )


@dataclass(frozen=True)
class Side:
    """One optimizer of a comparison.

    Attributes:
        name: As the text calls it.
        study: The folder of its records.
        arms: Its settings that have runs.
        settings: How many settings it should have.
    """

    name: str
    study: str
    arms: list[Arm]
    settings: int

    @property
    def lacks(self) -> str | None:
        """What the rules ask for and the records do not have."""
        if len(self.arms) < self.settings:
            have = f"{len(self.arms)} of {self.settings} settings"
            return f"{self.name} has runs at {have} in {self.study}"
        seeds = min(len(arm.records) for arm in self.arms)
        if seeds < FEWEST_SEEDS:
            return f"{self.name} has {seeds} of {FEWEST_SEEDS} seeds in {self.study}"
        if any(np.isnan(arm.scores).any() for arm in self.arms):
            return f"no episode has ended in {self.study}"
        return None

    @property
    def tuned(self) -> Arm:
        """Its runs at the setting chosen on the other seeds."""
        return tuned_arm(self.arms, self.name)

    @property
    def chosen(self) -> str:
        """The arms that it counts with."""
        return " and ".join(sorted({record.arm for record in self.tuned.records}))


def number(name: str, estimate: Estimate) -> Number:
    """A number from an estimate of a single value."""
    low, high = (None if end is None else float(end) for end in (estimate.low, estimate.high))
    return Number(name, float(estimate.value), low, high)


def runs_of(*sides: Side) -> dict[str, int]:
    """How many runs the sides have, by study."""
    runs: Counter[str] = Counter()
    for side in sides:
        runs[side.study] += sum(len(arm.records) for arm in side.arms)
    return dict(runs)


BETTER = (
    f"Probability of improvement: reproduced if at least {MEANINGFUL:g} with an interval above "
    f"0.5; not reproduced if the interval lies below {MEANINGFUL:g}; else undecided."
)


def better(estimate: Number) -> Verdict:
    """The verdict by the rule `BETTER`."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.value >= MEANINGFUL and estimate.low > 0.5, estimate.high < MEANINGFUL)


def above(estimate: Number, threshold: float) -> Verdict:
    """Reproduced if the interval lies above the threshold, not reproduced if below."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.low > threshold, estimate.high < threshold)


def below(estimate: Number, threshold: float) -> Verdict:
    """Reproduced if the interval lies below the threshold, not reproduced if above."""
    if estimate.low is None or estimate.high is None:
        return Verdict.UNDECIDED
    return decide(estimate.high < threshold, estimate.low > threshold)


def improvement(x: FloatArray, y: FloatArray) -> Number:
    """The probability of improvement of X over Y."""
    return number(
        "probability of improvement", interval_estimates(probability_of_improvement, x, y)
    )


def relative_gain(x: FloatArray, y: FloatArray, extent: ReturnRange) -> Number:
    """By which share X gained more over the untrained policy than Adam, which is Y, did.

    Adam's gain counts as at least `SMALLEST_GAIN` of the study's range, so that the share stays
    finite, and keeps its sign, where Adam ends at or below the untrained return. If neither gained
    anything there is no share: it is NaN, without an interval, and decides nothing.
    """
    name = "gain over untrained, relative to Adam's"
    smallest = SMALLEST_GAIN * (extent.best - extent.untrained)
    if smallest <= 0 or max(aggregate_iqm(x), aggregate_iqm(y)) <= extent.untrained:
        return Number(name, float("nan"))

    def gain(x: FloatArray, y: FloatArray, *, axis: int = 0) -> FloatArray:
        ours, theirs = (aggregate_iqm(side, axis=axis) - extent.untrained for side in (x, y))
        return np.asarray(ours / np.maximum(theirs, smallest) - 1)

    return number(name, interval_estimates(gain, x, y))


def lacking(statement: str, rule: str, runs: dict[str, int], lacks: str) -> Check:
    """A check that cannot be made yet."""
    return Check(statement, rule, Verdict.UNDECIDED, (), runs, f"More runs: {lacks}.")


def compare(
    statement: str,
    rule: str,
    x: Side,
    y: Side,
    judge: Callable[[Arm, Arm], tuple[Verdict, list[Number]]],
) -> Check:
    """A check of two tuned optimizers, undecided unless both have all settings and enough seeds.

    Args:
        statement: What is tested.
        rule: In words.
        x: The optimizer that the statement is about.
        y: What it is compared with.
        judge: The rule, given the two tuned arms; the first number is the one that decides.
    """
    runs = runs_of(x, y)
    if lacks := x.lacks or y.lacks:
        return lacking(statement, rule, runs, lacks)
    verdict, numbers = judge(x.tuned, y.tuned)
    sides = f"{x.name} ({x.chosen}) against {y.name} ({y.chosen})"
    return Check(f"{statement}: {sides}", rule, verdict, tuple(numbers), runs, change(verdict))


def change(verdict: Verdict) -> str:
    """What would change a verdict that rests on intervals."""
    if verdict is Verdict.UNDECIDED:
        return (
            "More seeds: the intervals are too wide, or too close to the threshold, for the rule."
        )
    return "New seeds that move an interval across the rule's threshold."
