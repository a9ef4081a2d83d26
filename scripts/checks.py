"""The checks that the claims are made of, each with its rule.

Every check answers for itself: it says what it needs and lacks, and is undecided until it has it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np

from scripts.stability import (
    LEARNED,
    NEAR_BEST,
    alpha_robustness,
    collapsed,
    instability,
    interquartile_range,
    return_range,
)
from scripts.statistics import Arm, aggregate_iqm, chance_of_gain, interval_estimates
from scripts.theory import Series, Theory
from scripts.verdicts import (
    BETTER,
    SUBSTANTIAL,
    Check,
    Number,
    Side,
    Verdict,
    above,
    below,
    better,
    change,
    combine,
    compare,
    decide,
    improvement,
    lacking,
    number,
    relative_gain,
    runs_of,
)

ALGORITHMS = {"dqn": "DQN", "td3": "TD3", "ppo": "PPO"}
ALPHAS = (1, 3, 10, 30, 100, 300)
COARSE_ALPHAS = (1, 10, 100)
"""AlphaGrad's settings against a rival that has three."""
RESET_ALPHAS = (1, 3, 10)
"""AlphaGrad's settings in the study dqn_resets."""

Arms = Mapping[str, list[Arm]]
"""The arms by the folder of their records, empty where there are none."""


def alphagrad(study: str, arms: Arms, alphas: tuple[int, ...] = ALPHAS) -> Side:
    """AlphaGrad as the paper runs it, at some alphas."""
    return Side("AlphaGrad", study, [a for a in arms[study] if a.alpha in alphas], len(alphas))


def adam(study: str, arms: Arms) -> Side:
    """Adam at the protocol's learning rate."""
    return Side("Adam", study, [arm for arm in arms[study] if arm.name == "adam"], 1)


def family(name: str, study: str, arms: Arms, label: str, settings: int) -> Side:
    """An optimizer at all settings that a study has."""
    return Side(name, study, [arm for arm in arms[study] if arm.family == label], settings)


def stability_check(
    study: str, arms: Arms, statement: str, sign: int, alphas: tuple[int, ...] = ALPHAS
) -> Check:
    """Whether AlphaGrad's drawdowns are larger (sign 1) or smaller (-1) than Adam's."""
    larger = "larger" if sign > 0 else "smaller"
    side = alphagrad(study, arms, alphas)

    def judge(x: Arm, y: Arm) -> tuple[Verdict, list[Number]]:
        extent = return_range(arms[study])

        def chance(arm: Arm) -> Number:
            falls = improvement(sign * instability(arm, extent), sign * instability(y, extent))
            return replace(falls, name=f"probability of a {larger} drawdown")

        falls = chance(x)
        numbers = [falls]
        for name, arm in (("AlphaGrad", x), ("Adam", y)):
            numbers += [
                number(
                    f"drawdown, IQM, {name}",
                    interval_estimates(aggregate_iqm, instability(arm, extent)),
                ),
                number(
                    f"interquartile range of the final scores, {name}",
                    interval_estimates(interquartile_range, arm.scores),
                ),
                Number(f"share of runs that collapsed, {name}", collapsed(arm, extent).mean()),
                Number(f"share of runs that diverged, {name}", arm.diverged.mean()),
            ]
        for arm in side.arms:
            each = chance(arm)
            numbers.append(replace(each, name=f"{each.name}, {arm.name}"))
        return better(falls), numbers

    rule = (
        "Drawdown: the largest fall of a run's smoothed curve, as share of its range; 1 if the run "
        f"diverged or never came {LEARNED:.0%} of the way from untrained to the study's best. At "
        "the alpha with the best returns; the other alphas are shown and do not decide. "
        f"{BETTER}"
    )
    return compare(statement, rule, side, adam(study, arms), judge)


def competitive_check(study: str, arms: Arms) -> Check:
    """Whether AlphaGrad's gain is at most a tenth below Adam's."""

    def judge(x: Arm, y: Arm) -> tuple[Verdict, list[Number]]:
        gain = relative_gain(x.scores, y.scores, return_range(arms[study]))
        return above(gain, -SUBSTANTIAL), [gain, improvement(x.scores, y.scores)]

    rule = (
        f"Relative gain: reproduced if the interval lies above -{SUBSTANTIAL:g}, not reproduced if "
        "below; else undecided."
    )
    return compare("Competitive returns", rule, alphagrad(study, arms), adam(study, arms), judge)


def substantial_check(study: str, arms: Arms) -> Check:
    """Whether AlphaGrad is better than Adam, and by more than a tenth of Adam's gain."""
    side = alphagrad(study, arms)

    def judge(x: Arm, y: Arm) -> tuple[Verdict, list[Number]]:
        chance = improvement(x.scores, y.scores)
        extent = return_range(arms[study])
        gain = relative_gain(x.scores, y.scores, extent)
        large = above(gain, SUBSTANTIAL)
        enough = decide(gain.value > SUBSTANTIAL, large is Verdict.NOT_REPRODUCED)
        by_selection = [
            Number(
                f"share of studies with {seeds} seed{'s' * (seeds > 1)} an arm that show such a "
                "gain, the best alpha chosen on the same seeds",
                chance_of_gain(
                    side.arms, y, seeds=seeds, untrained=extent.untrained, gain=SUBSTANTIAL
                ),
            )
            for seeds in (1, 3)
        ]
        return combine([better(chance), enough]), [chance, gain, *by_selection]

    rule = (
        f"{BETTER} The relative gain must be above {SUBSTANTIAL:g} as well; an interval of it that "
        "lies below means not reproduced. How many small studies, drawn from our runs, would have "
        "shown such a gain does not decide."
    )
    return compare("Substantially higher returns", rule, side, adam(study, arms), judge)


def better_check(statement: str, x: Side, y: Side) -> Check:
    """Whether one optimizer's final scores are better than another's."""

    def judge(x: Arm, y: Arm) -> tuple[Verdict, list[Number]]:
        chance = improvement(x.scores, y.scores)
        scores = [
            number(f"final score, IQM, {arm.name}", interval_estimates(aggregate_iqm, arm.scores))
            for arm in (x, y)
        ]
        return better(chance), [chance, *scores]

    return compare(statement, BETTER, x, y, judge)


def critical_check(study: str, arms: Arms) -> Check:
    """Whether less than half of the range of alpha is nearly as good as the best."""
    side = alphagrad(study, arms)
    statement = f"{ALGORITHMS[study]}: alpha has to be chosen with care"
    rule = (
        f"Share of the range of alpha, 1 to 300 on a logarithmic axis, within {NEAR_BEST:.0%} of "
        "the best, which is looked for in every resample anew: reproduced if the interval lies "
        "below 0.5, not reproduced if above; else undecided."
    )
    if side.lacks:
        return lacking(statement, rule, runs_of(side), side.lacks)
    untrained = return_range(arms[study]).untrained
    share = partial(alpha_robustness, alphas=ALPHAS, untrained=untrained)
    robust = number(
        f"{ALGORITHMS[study]}: share of the range of alpha that is nearly as good as the best",
        interval_estimates(share, *(arm.scores for arm in side.arms)),
    )
    verdict = below(robust, 0.5)
    scores = [
        number(f"final score, IQM, {arm.name}", interval_estimates(aggregate_iqm, arm.scores))
        for arm in side.arms
    ]
    return Check(statement, rule, verdict, (robust, *scores), runs_of(side), change(verdict))


def interaction_check(arms: Arms) -> Check:
    """Whether the alpha that is best for one algorithm falls behind with another."""
    sides = {study: alphagrad(study, arms) for study in ALGORITHMS}
    statement = "The best alpha of one algorithm is not good enough for another"
    rule = (
        "For each ordered pair of algorithms, the second one's tuned AlphaGrad against the same at "
        "the alpha that has the best IQM with the first (other runs, so no bias). "
        f"{BETTER} It must come less than {NEAR_BEST:.0%} of the way from untrained to tuned as "
        "well. The check is reproduced if one pair is, not reproduced if all are not."
    )
    ready = {study: side for study, side in sides.items() if side.lacks is None}
    pairs: list[tuple[Number, Verdict]] = []
    for origin, target in permutations(ready, 2):
        best = max(ready[origin].arms, key=lambda arm: float(aggregate_iqm(arm.scores)))
        there = next(arm for arm in ready[target].arms if arm.alpha == best.alpha)
        tuned = ready[target].tuned
        untrained = return_range(arms[target]).untrained
        way, whole = (float(aggregate_iqm(arm.scores)) - untrained for arm in (there, tuned))
        share = way / whole if whole > 0 else 1.0  # where nothing was learned, nothing is lost
        name = (
            f"{ALGORITHMS[target]}: probability that tuned beats {ALGORITHMS[origin]}'s best, "
            f"{best.name}, with {share:.0%} of its gain"
        )
        chance = replace(improvement(tuned.scores, there.scores), name=name)
        if {record.arm for record in tuned.records} == {there.name}:
            chance = Number(name, 0.5, 0.5, 0.5)  # the same runs
        behind = decide(share < NEAR_BEST, share >= NEAR_BEST)
        pairs.append((chance, combine([better(chance), behind])))
    pairs.sort(key=lambda pair: (pair[1] is Verdict.REPRODUCED, pair[0].value), reverse=True)
    verdicts = [verdict for _, verdict in pairs]
    all_pairs = len(ready) == len(ALGORITHMS)
    verdict = decide(
        Verdict.REPRODUCED in verdicts,
        all_pairs and all(verdict is Verdict.NOT_REPRODUCED for verdict in verdicts),
    )
    lacks = [side.lacks for side in sides.values() if side.lacks]
    needed = f"More runs: {'; '.join(lacks)}." if lacks else change(verdict)
    numbers = tuple(chance for chance, _ in pairs)
    return Check(statement, rule, verdict, numbers, runs_of(*ready.values()), needed)


def memory_check(arms: Arms) -> Check:
    """Whether AlphaGrad with momentum keeps less state than Adam."""
    numbers: list[Number] = []
    runs: dict[str, int] = {}
    for study, algorithm in ALGORITHMS.items():
        sides = alphagrad(study, arms), adam(study, arms)
        if all(side.arms for side in sides):
            ours, theirs = (_state(side.arms) for side in sides)
            runs |= runs_of(*sides)
            name = f"{algorithm}: bytes of state, as share of Adam's {theirs:g} for each element"
            numbers.append(Number(name, ours / theirs))
    less = [number.value < 1 for number in numbers]
    return Check(
        "AlphaGrad with momentum 0.9 keeps less state than Adam",
        "Reproduced if so in every study. Sizes do not depend on chance: one run will do.",
        decide(bool(less) and all(less), not all(less)),
        tuple(numbers),
        runs,
        "A record with another size." if less else "A run of each.",
    )


def stateless_check(arms: Arms) -> Check:
    """Whether AlphaGrad without momentum keeps no state."""
    numbers: list[Number] = []
    runs: dict[str, int] = {}
    for study, algorithm in ALGORITHMS.items():
        side = family("", f"{study}_fair", arms, "alphagrad-stateless", 1)
        if side.arms:
            runs |= runs_of(side)
            numbers.append(
                Number(f"{algorithm}: bytes of state for each element", _state(side.arms))
            )
    sizes = [number.value for number in numbers]
    return Check(
        "AlphaGrad without momentum keeps no state",
        "Reproduced if the state of every run has 0 bytes. One run will do.",
        decide(bool(sizes) and not any(sizes), any(sizes)),
        tuple(numbers),
        runs,
        "A record with another size."
        if sizes
        else "A run of an arm alphagrad-stateless in one of the fair studies.",
    )


def _state(arms: list[Arm]) -> float:
    """Bytes of state for each element: the largest, since a run that diverged at once has none."""
    records = [record for arm in arms for record in arm.records]
    return max(record.optimizer.state_bytes / record.optimizer.parameters for record in records)


def without_factor(bound: float, row: Series) -> float:
    """A bound less its factor 1/tanh(alpha).

    It is the s with s^2 / (s + eps) = B (`alphagrad.theory.gradient_norm_bound`), and B has it.
    """
    eps = row.eps * len(row.sizes)
    rest = bound**2 / (bound + eps) * math.tanh(row.alpha)
    return (rest + math.sqrt(rest**2 + 4 * rest * eps)) / 2


def theory_checks(records: list[Theory]) -> tuple[Check, ...]:
    """Whether the bound holds where it is proved, and whether it needs its factor 1/tanh(alpha)."""
    series = [row for record in records for row in record.series]
    cases = [case for row in series for case in row.cases]
    below = sum(norm <= bound for norm, bound in cases)
    beyond, beyond_with_n = (
        sum(
            norm > without_factor(bound, row)
            for row in series
            for norm, bound in zip(row.min_gradient_norm, getattr(row, bounds), strict=True)
        )
        for bounds in ("bound", "bound_with_n")
    )
    exceeded = sum(record.summary.smoothness_exceeded for record in records)
    slopes = [row.slope for row in series if row.slope is not None]
    none = "A record of `python -m experiments.convergence`."
    numbers = [Number(f"cases below the bound, of {len(cases):,}", below)]
    if slopes:
        numbers += [
            Number("median slope of log norm against log T, step 1/sqrt(T)", np.median(slopes)),
            Number(
                "constant steps stay away from the minimum, of records",
                sum(record.summary.counterexamples_stay for record in records),
            ),
        ]
    return (
        Check(
            "The smallest gradient norm stays below the bound, which with a step of 1/sqrt(T) goes "
            "to 0 as 1/sqrt(T)",
            "Reproduced if it does in every case (functions, alphas, epsilons, sizes, T; "
            "docs/theory.md) and no step needs a larger L than is used; else not. Holds for exact "
            "gradients without momentum; a constant step need not converge.",
            decide(bool(cases) and below == len(cases) and not exceeded, bool(cases)),
            tuple(numbers) if cases else (),
            {"theory": len(records)} if records else {},
            "A case above the bound." if records else none,
        ),
        Check(
            "The bound, with K = min(n, alpha^2), needs the factor 1/tanh(alpha)",
            "Reproduced if a measured norm exceeds the bound without that factor; else not. With "
            "the paper's n in place of K the bound is too loose for these cases to tell; "
            "docs/theory.md has one that does.",
            decide(beyond > 0, bool(cases)),
            (
                Number("cases above the bound without 1/tanh(alpha)", beyond),
                Number("the same with n in place of K", beyond_with_n),
            )
            if cases
            else (),
            {"theory": len(records)} if records else {},
            "Nothing but an error in the record." if records else none,
        ),
    )
