"""Verdicts and the rules that lead to them: docs/statistics.md, with how often each rule errs.

Two optimizers are compared by the probability of improvement, which needs no unit and is not moved
by a single lucky run. Following Bouthillier et al., "Accounting for Variance in Machine Learning
Benchmarks", MLSys 2021 (https://arxiv.org/abs/2103.03098), a difference counts if it is significant
(the 95% interval excludes 0.5) and meaningful (the probability is at least 0.75).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import norm

from scripts.scores import Arm
from scripts.statistics import (
    NORMAL_QUANTILE,
    Estimate,
    FloatArray,
    aggregate_iqm,
)

MEANINGFUL = 0.75
NON_INFERIOR = 0.25
SUBSTANTIAL = 0.1
"""A tenth of what the rival gained over the untrained policy."""
FEWEST_SEEDS = 5
"""Of every arm, or a complete plan is undecided all the same: with three, even arms that do not
overlap at all come about by chance in one case of ten; with five, in one of 126."""
SIGNIFICANT = 0.05
POWER = 0.8
MOST_SEEDS = 500
"""Beyond this nobody says how many seeds would decide."""


class Verdict(StrEnum):
    """What a check, or a claim, came to."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "undecided"
    DEPENDS = "depends on the measure"
    INCOMPLETE = "incomplete"

    @property
    def decided(self) -> bool:
        """Whether it says that something is so, or is not."""
        return self in (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)


@dataclass(frozen=True)
class Number:
    """A number that a verdict shows, with its 95% interval if it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Progress:
    """Which runs a check waits for.

    Attributes:
        planned: All that it rests on, by study, task, arm and seed.
        done: Those that have a record.
    """

    planned: frozenset[tuple[str, str, str, int]] = frozenset()
    done: frozenset[tuple[str, str, str, int]] = frozenset()

    def __or__(self, other: "Progress") -> "Progress":
        """Return that of both."""
        return Progress(self.planned | other.planned, self.done | other.done)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing of what was planned."""
        return bool(self.planned) and self.done == self.planned

    @property
    def text(self) -> str:
        """How many runs there are of those that are planned."""
        return f"{len(self.done):,} of {len(self.planned):,} runs"

    @property
    def missing(self) -> str:
        """What lacks runs: the seeds of arms that have some, the number of arms that have none."""
        if self.done == self.planned:
            return "none yet, and a verdict needs confirm runs"
        arms: dict[tuple[str, str, str], list[int]] = {}
        for study, task, arm, seed in sorted(self.planned - self.done):
            arms.setdefault((study, task, arm), []).append(seed)
        begun = {run[:3] for run in self.done}
        whole: dict[tuple[str, str], list[str]] = {}
        lines = []
        for (study, task, arm), seeds in arms.items():
            if (study, task, arm) in begun:
                lines.append(f"{arm} on {task} of {study}, seeds {', '.join(map(str, seeds))}")
            else:
                whole.setdefault((study, task), []).append(arm)
        lines += [
            f"{' and '.join(names) if len(names) < 3 else f'{len(names)} arms'} on {task} of "
            f"{study}, all"
            for (study, task), names in whole.items()
        ]
        return "; ".join(lines)


@dataclass(frozen=True)
class Outcome:
    """What a rule comes to.

    Attributes:
        verdict: Reproduced, not reproduced or undecided.
        p_value: The level at which it would no longer be decided; 1 while undecided.
        seeds: How many of every arm would decide it, if what was measured is the truth.
    """

    verdict: Verdict
    p_value: float = 1.0
    seeds: float | None = None


@dataclass(frozen=True)
class Check:
    """One thing that a claim asserts, put to the test by one measure.

    Attributes:
        statement: What is tested.
        rule: What makes it reproduced, not reproduced or undecided.
        verdict: What it came to.
        numbers: What it was decided by first, then what else is worth knowing.
        runs: How many runs it rests on, by study.
        change: What would change the verdict.
        measure: The measure's title; ``None`` if it is no matter of returns, and holds for all.
        p_value: `Outcome.p_value`; ``None`` if it does not depend on chance.
        progress: The runs that were planned for it.
        exploratory: Whether the numbers are of tuning runs, since those planned are not complete.
    """

    statement: str
    rule: str
    verdict: Verdict
    numbers: tuple[Number, ...]
    runs: dict[str, int]
    change: str
    measure: str | None = None
    p_value: float | None = None
    progress: Progress = field(default_factory=Progress)
    exploratory: bool = False


def decide(reproduced: bool, not_reproduced: bool) -> Verdict:
    """Return the verdict of a rule's two conditions."""
    if reproduced:
        return Verdict.REPRODUCED
    return Verdict.NOT_REPRODUCED if not_reproduced else Verdict.UNDECIDED


def combine(verdicts: Sequence[Verdict]) -> Verdict:
    """Return incomplete if one is, else reproduced if all are, and not reproduced if one is not."""
    if not verdicts or Verdict.INCOMPLETE in verdicts:
        return Verdict.INCOMPLETE
    return decide(
        all(verdict is Verdict.REPRODUCED for verdict in verdicts),
        Verdict.NOT_REPRODUCED in verdicts,
    )


def over_measures(verdicts: Sequence[Verdict]) -> Verdict:
    """Return what one claim comes to by several measures: the same for all, or that it depends."""
    if Verdict.INCOMPLETE in verdicts:
        return Verdict.INCOMPLETE
    return verdicts[0] if len(set(verdicts)) == 1 else Verdict.DEPENDS


def joint_p_value(checks: Sequence[Check]) -> float | None:
    """Return the p-value of what checks come to together; ``None`` if chance plays no part.

    All have to be reproduced, so the largest counts; one that is not is enough, so the smallest
    counts as often as there are checks.
    """
    chances = [check for check in checks if check.p_value is not None]
    verdict = combine([check.verdict for check in checks])
    if not chances:
        return None
    if verdict is Verdict.REPRODUCED:
        return max(check.p_value or 0 for check in chances)
    refuted = [c.p_value or 0 for c in chances if c.verdict is Verdict.NOT_REPRODUCED]
    if verdict is Verdict.NOT_REPRODUCED and refuted:
        return min(1.0, min(refuted) * len(chances))
    # Refuted by what is no matter of chance, or not decided.
    return None if verdict is Verdict.NOT_REPRODUCED else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    factors = np.arange(len(p_values), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    return [float(value) for value in np.minimum(adjusted, 1)]


def number(name: str, estimate: Estimate) -> Number:
    """Return a number from an estimate of a single value.

    Where all resamples agree there is no interval: it would say that the number is exact.
    """
    low, high = (None if end is None else float(end) for end in (estimate.low, estimate.high))
    if low is not None and low == high:
        low = high = None
    return Number(name, float(estimate.value), low, high)


def seeds_needed(estimate: Estimate, threshold: float, seeds: int, scale: bool = True) -> float:
    """Return how many seeds of every arm would tell a number from a threshold in 80% of cases.

    If what was measured is the truth, and by intervals that shrink with the root of the seeds.

    Args:
        estimate: Of a single number, with an interval.
        threshold: What it has to be told from.
        seeds: Of every arm that it was measured with.
        scale: Whether the number is a probability, whose interval is one of its logit.
    """
    if estimate.low is None or estimate.high is None:
        return np.inf
    ends = np.array([estimate.low, estimate.value, estimate.high, threshold], dtype=np.float64)
    if scale:
        ends = logit(np.clip(ends, 1e-3, 1 - 1e-3))
    distance = abs(ends[1] - ends[3])
    error = (ends[2] - ends[0]) / 2 / NORMAL_QUANTILE
    if not distance:
        return np.inf
    return float(np.ceil(seeds * ((NORMAL_QUANTILE + norm.ppf(POWER)) * error / distance) ** 2))


BETTER = (
    f"Probability of improvement: reproduced if at least {MEANINGFUL:g} with an interval above "
    f"0.5; not reproduced if the interval lies below {MEANINGFUL:g}; else undecided."
)


Sides = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Whether something is reproduced, and whether it is not; of any shape, for the calibration."""


def better_sides(estimate: Estimate) -> Sides:
    """Return the two conditions of the rule `BETTER`; there has to be an interval."""
    assert estimate.low is not None
    assert estimate.high is not None
    reproduced = (estimate.value >= MEANINGFUL) & (estimate.low > 0.5)
    return reproduced, estimate.high < MEANINGFUL


def above_sides(estimate: Estimate, threshold: float) -> Sides:
    """Return whether the interval lies above a threshold, and whether below."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low > threshold, estimate.high < threshold


def better(estimate: Estimate, seeds: int) -> Outcome:
    """Return the outcome by the rule `BETTER`."""
    if estimate.low is None:
        return Outcome(Verdict.UNDECIDED)
    edge = 0.5 if estimate.value >= MEANINGFUL else MEANINGFUL
    return _outcome(better_sides(estimate), estimate, edge, seeds)


def above(estimate: Estimate, threshold: float, seeds: int, scale: bool = True) -> Outcome:
    """Return reproduced if the interval lies above the threshold, not reproduced if below."""
    if estimate.low is None:
        return Outcome(Verdict.UNDECIDED)
    return _outcome(above_sides(estimate, threshold), estimate, threshold, seeds, scale)


def _outcome(
    sides: Sides, estimate: Estimate, edge: float, seeds: int, scale: bool = True
) -> Outcome:
    verdict = decide(*map(bool, sides))
    if verdict is Verdict.UNDECIDED or estimate.p_value is None:
        return Outcome(verdict, seeds=seeds_needed(estimate, edge, seeds, scale))
    return Outcome(verdict, float(estimate.p_value(edge)))


def all_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of a rule whose parts all have to hold."""
    verdict = combine([outcome.verdict for outcome in outcomes])
    open_ = [o.seeds for o in outcomes if o.verdict is Verdict.UNDECIDED and o.seeds is not None]
    if verdict is Verdict.REPRODUCED:
        return Outcome(verdict, max(outcome.p_value for outcome in outcomes))
    if verdict is Verdict.NOT_REPRODUCED:
        refuted = [o.p_value for o in outcomes if o.verdict is Verdict.NOT_REPRODUCED]
        return Outcome(verdict, min(1.0, min(refuted) * len(outcomes)))
    return Outcome(verdict, seeds=max(open_, default=None))


def relative_gain(sides: Sequence[tuple[Arm, Arm, float]]) -> float:
    """Return by which share X gained more over the untrained policy than its rival Y did.

    Of interquartile means, averaged over tasks; to be shown, not to decide: a share of a gain that
    may be small has no interval that covers. NaN if Y gained nothing on a task.

    Args:
        sides: X, Y and the return of the untrained policy on each task.
    """
    ours = np.array([aggregate_iqm(x.scores) - start for x, _, start in sides])
    theirs = np.array([aggregate_iqm(y.scores) - start for _, y, start in sides])
    return float(np.mean(ours / np.where(theirs > 0, theirs, np.nan))) - 1


def with_gain(scores: FloatArray, untrained: float, factor: float) -> FloatArray:
    """Return scores with their gain over the untrained policy multiplied; losses stay."""
    return np.where(scores > untrained, untrained + factor * (scores - untrained), scores)


def large_enough(estimate: Estimate, seeds: int) -> Outcome:
    """Return whether a difference is as large as it has to be, if a probability says so.

    Args:
        estimate: The probability that X beats Y with the gain that it has to beat.
        seeds: Of the smallest arm.

    Returns:
        Reproduced if the probability is at least a half: that there is a difference is for another
        rule to be sure of. Not reproduced if its interval lies below.
    """
    outcome = above(estimate, 0.5, seeds)
    if outcome.verdict is Verdict.UNDECIDED and estimate.value >= 0.5:
        return Outcome(Verdict.REPRODUCED, 0.0)
    return outcome if outcome.verdict is not Verdict.REPRODUCED else Outcome(outcome.verdict, 0.0)


def change(outcome: Outcome) -> str:
    """Return what would change a verdict that rests on intervals."""
    if outcome.verdict.decided:
        return "New seeds that move an interval across the rule's threshold."
    if outcome.seeds is None:
        return "Runs that learn something, or an interval."
    if outcome.seeds > MOST_SEEDS:
        return (
            f"If what was measured is the truth, not even {MOST_SEEDS} seeds of every arm would "
            "decide it: it lies at the rule's threshold."
        )
    return (
        f"About {outcome.seeds:.0f} seeds of every arm would decide it in {POWER:.0%} of cases, if "
        "what was measured is the truth."
    )
