import numpy as np
import pytest

from scripts.statistics import Estimate
from scripts.verdicts import (
    Check,
    Outcome,
    Progress,
    Verdict,
    above,
    all_of,
    better,
    change,
    combine,
    holm,
    joint_p_value,
    large_enough,
    number,
    over_measures,
    seeds_needed,
    with_gain,
)

REPRODUCED, NOT, UNDECIDED = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED
INCOMPLETE, DEPENDS = Verdict.INCOMPLETE, Verdict.DEPENDS
NAN = float("nan")


def estimate(value: float, low: float | None, high: float | None) -> Estimate:
    first, last = (None if end is None else np.asarray(end) for end in (low, high))
    return Estimate(np.asarray(value), first, last, lambda at: np.asarray(0.01))


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.75, 0.51, 1.0, REPRODUCED),
        (0.75, 0.5, 1.0, UNDECIDED),  # not significant
        (0.74, 0.51, 0.75, UNDECIDED),  # not meaningful, but may be
        (0.6, 0.51, 0.74, NOT),  # significant, not meaningful
        (1.0, None, None, UNDECIDED),
        (NAN, None, None, UNDECIDED),
    ],
)
def test_better_at_its_edges(
    value: float, low: float | None, high: float | None, verdict: Verdict
) -> None:
    assert better(estimate(value, low, high), 10).verdict is verdict


@pytest.mark.parametrize(
    ("low", "high", "is_above"),
    [
        (0.51, 0.6, REPRODUCED),
        (0.5, 0.6, UNDECIDED),
        (0.4, 0.5, UNDECIDED),
        (0.4, 0.49, NOT),
        (None, None, UNDECIDED),
    ],
)
def test_above_at_its_edges(low: float | None, high: float | None, is_above: Verdict) -> None:
    assert above(estimate(0.5, low, high), 0.5, 10).verdict is is_above


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.5, 0.2, 0.8, REPRODUCED),
        (0.49, 0.2, 0.8, UNDECIDED),
        (0.4, 0.2, 0.49, NOT),
        (NAN, None, None, UNDECIDED),
    ],
)
def test_a_size_need_not_be_sure_but_may_not_be_refuted(
    value: float, low: float | None, high: float | None, verdict: Verdict
) -> None:
    assert large_enough(estimate(value, low, high), 10).verdict is verdict


def test_more_gain_leaves_losses_and_failures() -> None:
    scores = np.array([20.0, 10, 5, -np.inf])
    assert list(with_gain(scores, 10, 1.1)) == [21, 10, 5, -np.inf]


def test_one_failed_check_outweighs_undecided_ones_but_not_missing_runs() -> None:
    assert combine([REPRODUCED, REPRODUCED]) is REPRODUCED
    assert combine([REPRODUCED, UNDECIDED]) is UNDECIDED
    assert combine([REPRODUCED, UNDECIDED, NOT]) is NOT
    assert combine([NOT, INCOMPLETE]) is combine([]) is INCOMPLETE


def test_measures_have_to_agree() -> None:
    assert over_measures([REPRODUCED, REPRODUCED]) is REPRODUCED
    assert over_measures([REPRODUCED, NOT]) is over_measures([UNDECIDED, NOT]) is DEPENDS
    assert over_measures([REPRODUCED, INCOMPLETE]) is INCOMPLETE


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def made(verdict: Verdict, p_value: float | None) -> Check:
    return Check("", "", verdict, (), {}, "", p_value=p_value)


def test_a_claims_p_value_is_that_of_its_decision() -> None:
    assert joint_p_value([made(REPRODUCED, 0.01), made(REPRODUCED, 0.04)]) == 0.04
    # One of two that may refute it by chance.
    assert joint_p_value([made(REPRODUCED, 0.01), made(NOT, 0.02)]) == 0.04
    assert joint_p_value([made(UNDECIDED, 1), made(REPRODUCED, 0.01)]) == 1
    assert joint_p_value([made(INCOMPLETE, 1)]) == 1
    # No matter of chance.
    assert joint_p_value([made(REPRODUCED, None)]) is None
    assert joint_p_value([made(NOT, None), made(REPRODUCED, 0.01)]) is None


def test_all_parts_have_to_hold() -> None:
    yes, no, open_ = Outcome(REPRODUCED, 0.01), Outcome(NOT, 0.02), Outcome(UNDECIDED, 1, 30)
    assert all_of([yes, Outcome(REPRODUCED, 0.03)]) == Outcome(REPRODUCED, 0.03)
    assert all_of([yes, no]) == Outcome(NOT, 0.04)
    assert all_of([yes, open_]) == Outcome(UNDECIDED, 1, 30)


def test_a_number_whose_resamples_all_agree_has_no_interval() -> None:
    assert number("n", estimate(1, 1, 1)).low is None
    assert number("n", estimate(1, 0.8, 1)).high == 1


def test_seeds_that_would_decide_grow_with_the_square_of_the_distance() -> None:
    near = seeds_needed(estimate(0.6, 0.4, 0.8), 0.5, 10, scale=False)
    far = seeds_needed(estimate(0.7, 0.5, 0.9), 0.5, 10, scale=False)
    assert near == pytest.approx(4 * far, rel=0.05)
    # (1.96 + 0.84)^2 times the variance over the distance's square
    assert far == np.ceil(10 * (2.8016 * 0.2 / 1.95996 / 0.2) ** 2)
    assert seeds_needed(estimate(0.5, 0.4, 0.6), 0.5, 10) == np.inf
    assert seeds_needed(estimate(1, 0.8, 1), 0.5, 10) < 10
    assert "not even 500 seeds" in change(Outcome(UNDECIDED, 1, np.inf))
    assert "About 30 seeds" in change(Outcome(UNDECIDED, 1, 30))


def test_what_is_missing_is_named() -> None:
    runs = [("s", "Hill", arm, seed) for arm in ("a", "b") for seed in (100, 101)]
    progress = Progress(frozenset(runs), frozenset(runs[:1]))
    assert progress.text == "1 of 4 runs"
    assert progress.missing == "a on Hill of s, seeds 101; b on Hill of s, all"
    assert not progress.complete
    assert Progress(frozenset(runs), frozenset(runs)).complete
    assert not Progress().complete
