"""Draw studies from populations, and judge them by the code that judges the records."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.stats import norm

from scripts.calibration.populations import Case, Grid
from scripts.checks.tuning import CRITICAL_LEVEL, correct, critical_sides
from scripts.stability import decades
from scripts.statistics import (
    PERCENTILE_LEVEL,
    FloatArray,
    Statistic,
    aggregate_iqm,
    improvement,
)
from scripts.verdicts import (
    NON_INFERIOR,
    SUBSTANTIAL,
    Outcome,
    above_sides,
    better_sides,
    decide,
    with_gain,
)

RESAMPLES = 600
"""Of each study that is drawn; the analysis takes more."""
PRECISE = 2e-3
"""To which the truths are known, which are drawn as well."""


@dataclass(frozen=True)
class Design:
    """The numbers of seeds of both sides on each task."""

    sizes: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """As the tables call it."""
        parts = [f"{x}" if x == y else f"{x}/{y}" for x, y in self.sizes]
        if len(set(parts)) == 1:
            return f"{len(parts)} × {parts[0]}" if len(parts) > 1 else parts[0]
        return " + ".join(parts)


@cache
def truths(case: Case) -> tuple[float, float]:
    """Return a case's probability of improvement, and the interquartile mean of X."""
    rng = np.random.default_rng(0)
    x, y = (np.sort(side(rng, (200_000,))) for side in (case.x, case.y))
    below = [np.searchsorted(y, x, side) for side in ("left", "right")]
    middle = aggregate_iqm(np.where(np.isneginf(x), case.floor, x))
    return float(np.mean(below) / y.size), float(middle)


def percentile_interval(
    statistic: Statistic, level: float, rng: np.random.Generator, *strata: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the ends of `interval_estimates` for many studies at once.

    All studies take the same seeds in a resample, which changes none of their intervals.

    Args:
        statistic: Takes the strata and ``axis``.
        level: Nominal level.
        rng: Of the resampling.
        *strata: Shape (studies, seeds).
    """
    drawn = np.array(
        [
            statistic(
                *(each[:, rng.integers(0, each.shape[1], each.shape[1])] for each in strata),
                axis=-1,
            )
            for _ in range(RESAMPLES)
        ]
    )
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


@dataclass(frozen=True)
class Result:
    """Shares of the studies that were drawn of a case, in a design.

    Attributes:
        group: The case's.
        truth: The probability of improvement.
        covered: By what, and in which share the interval holds the truth.
        reproduced: By which rule, and in which share it says so.
        refuted: By which rule, and in which share it says "not reproduced".
    """

    group: str
    truth: float
    covered: dict[str, float]
    reproduced: dict[str, float]
    refuted: dict[str, float]


def simulate(case: Case, design: Design, studies: int, seed: int = 0) -> Result:
    """Draw studies of two optimizers, and judge each."""
    rng = np.random.default_rng(seed)
    truth, middle = truths(case)
    pairs = [(case.x(rng, (studies, n)), case.y(rng, (studies, m))) for n, m in design.sizes]
    chance = improvement(*pairs)
    more = improvement(*((x, with_gain(y, case.untrained, 1 + SUBSTANTIAL)) for x, y in pairs))
    better, large = better_sides(chance), above_sides(more, 0.5)
    sides = {
        "better": better,
        "substantial": (better[0] & (more.value >= 0.5), better[1] | large[1]),
        "competitive": above_sides(chance, NON_INFERIOR),
    }
    x = np.where(np.isneginf(pairs[0][0]), case.floor, pairs[0][0])
    ends = percentile_interval(aggregate_iqm, PERCENTILE_LEVEL, rng, x)
    close = PRECISE * abs(middle - case.untrained)
    return Result(
        case.group,
        truth,
        {
            "P": held(truth, chance.low, chance.high, PRECISE),
            "IQM": held(middle, *ends, close),
        },
        {name: float(np.mean(side[0])) for name, side in sides.items()},
        {name: float(np.mean(side[1])) for name, side in sides.items()},
    )


def held(truth: float, low: FloatArray | None, high: FloatArray | None, close: float = 0) -> float:
    """Return the share of intervals that hold a truth, which is known this closely."""
    assert low is not None
    assert high is not None
    return float(((low <= truth + close) & (truth - close <= high)).mean())


def decided(shift: float, design: Design, studies: int) -> tuple[float, float, float]:
    """Return the probability of improvement by a shift of normal scores, and what is decided.

    Returns:
        The probability, and the shares of the rule's two conditions.
    """
    rng = np.random.default_rng(0)
    pairs = [
        (rng.normal(shift, 1, (studies, n)), rng.normal(0, 1, (studies, m)))
        for n, m in design.sizes
    ]
    reproduced, refuted = better_sides(improvement(*pairs))
    return float(norm.cdf(shift / np.sqrt(2))), float(reproduced.mean()), float(refuted.mean())


@dataclass(frozen=True)
class Critical:
    """How the rule for a critical setting does.

    Attributes:
        difference: The mean of what is measured, in decades: noise makes every setting look
            narrow, so that with more seeds it would be larger.
        covered: In which share of the studies the interval holds that mean.
        reproduced: In which share the setting is good over fewer decades, by the rule.
        refuted: In which share it is not.
    """

    difference: float
    covered: float
    reproduced: float
    refuted: float


def simulate_critical(
    subject: Grid, control: Grid, seeds: Sequence[int], studies: int, seed: int = 0
) -> Critical:
    """Draw studies of two settings, and judge whether the first is good over fewer decades.

    Args:
        subject: The setting.
        control: What it is compared with.
        seeds: Of every arm, for each task.
        studies: How many are drawn.
        seed: Of all that is random.
    """
    rng = np.random.default_rng(seed)
    number = len(subject.arms)
    narrower = min(subject.width, control.width)
    strata = [arm(rng, (studies, n)) for n in seeds for arm in (*subject.arms, *control.arms)]
    each = number + len(control.arms)

    def less(*strata: FloatArray, axis: int = 0) -> FloatArray:
        found = []
        for start in range(0, len(strata), each):
            parts = strata[start : start + number], strata[start + number : start + each]
            widths = [
                decades(*part, settings=grid.settings, untrained=grid.untrained, axis=axis)
                for part, grid in zip(parts, (subject, control), strict=True)
            ]
            ours, theirs = np.minimum(np.nan_to_num(widths), narrower)
            found.append(ours - theirs)
        return np.asarray(np.mean(found, axis=0))

    low, high = percentile_interval(less, CRITICAL_LEVEL, rng, *strata)
    expected = float(less(*strata, axis=-1).mean())
    reproduced, refuted = critical_sides(low, high)
    return Critical(
        expected, held(expected, low, high), float(reproduced.mean()), float(refuted.mean())
    )


def simulate_interaction(
    effect: float, tasks: int, tune: int, confirm: int, studies: int, seed: int = 0
) -> tuple[float, float]:
    """Draw three studies that tune the same six values, choose as the stages do, and judge.

    Args:
        effect: How much a run at a study's best value scores more than at the others, in standard
            deviations; each study has another best value. At 0 the value does not matter.
        tasks: Of each study.
        tune: Seeds of every value.
        confirm: Seeds of the chosen value.
        studies: How many are drawn.
        seed: Of all that is random.

    Returns:
        The shares in which it is reproduced, and in which it is not.
    """
    rng = np.random.default_rng(seed)
    best = np.zeros((3, 6))
    best[range(3), [1, 3, 5]] = effect
    tuned = rng.normal(best[:, np.newaxis, :, np.newaxis], 1, (studies, 3, tasks, 6, tune))
    means = aggregate_iqm(tuned.copy(), axis=-1)
    chosen = means.argmax(axis=-1)
    overall = means.mean(axis=2).argmax(axis=-1)
    confirmed = rng.normal(size=(studies, 3, tasks, confirm))
    confirmed += best[np.arange(3)[:, np.newaxis], chosen][..., np.newaxis]
    outcomes: list[list[Outcome]] = [[] for _ in range(studies)]
    for first in range(3):
        for second in range(3):
            if first == second:
                continue
            value = overall[:, first]
            pairs = []
            for task in range(tasks):
                x = confirmed[:, second, task]
                y = tuned[np.arange(studies), second, task, value]
                same = (chosen[:, second, task] == value)[:, np.newaxis]
                pairs.append((np.where(same, 0.0, x), np.where(same, 0.0, y)))
            estimate = improvement(*pairs)
            sides = better_sides(estimate)
            assert estimate.p_value is not None
            p_values = estimate.p_value(0.5)
            for study in range(studies):
                verdict = decide(bool(sides[0][study]), bool(sides[1][study]))
                outcomes[study].append(Outcome(verdict, float(p_values[study])))
    verdicts = [correct(found).verdict for found in outcomes]
    reproduced, refuted = (
        verdicts.count(verdict) / studies for verdict in (decide(True, False), decide(False, True))
    )
    return reproduced, refuted
