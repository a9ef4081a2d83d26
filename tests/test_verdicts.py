import numpy as np
import pytest

from scripts.stability import ReturnRange
from scripts.verdicts import (
    SMALLEST_GAIN,
    Number,
    Verdict,
    above,
    below,
    better,
    combine,
    relative_gain,
)

REPRODUCED, NOT, UNDECIDED = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.75, 0.51, 1.0, REPRODUCED),
        (0.75, 0.5, 1.0, UNDECIDED),  # not significant
        (0.74, 0.51, 0.75, UNDECIDED),  # not meaningful, but may be
        (0.6, 0.51, 0.74, NOT),  # significant, not meaningful
        (1.0, None, None, UNDECIDED),
    ],
)
def test_better_at_its_edges(
    value: float, low: float | None, high: float | None, verdict: Verdict
) -> None:
    assert better(Number("", value, low, high)) is verdict


@pytest.mark.parametrize(
    ("low", "high", "is_above", "is_below"),
    [
        (0.51, 0.6, REPRODUCED, NOT),
        (0.5, 0.6, UNDECIDED, UNDECIDED),
        (0.4, 0.5, UNDECIDED, UNDECIDED),
        (0.4, 0.49, NOT, REPRODUCED),
        (None, None, UNDECIDED, UNDECIDED),
    ],
)
def test_above_and_below_at_their_edges(
    low: float | None, high: float | None, is_above: Verdict, is_below: Verdict
) -> None:
    estimate = Number("", 0.5, low, high)
    assert (above(estimate, 0.5), below(estimate, 0.5)) == (is_above, is_below)


def test_one_failed_check_outweighs_undecided_ones() -> None:
    assert combine([REPRODUCED, REPRODUCED]) is REPRODUCED
    assert combine([REPRODUCED, UNDECIDED]) is UNDECIDED
    assert combine([REPRODUCED, UNDECIDED, NOT]) is NOT


@pytest.mark.parametrize(
    ("x", "y", "gain", "low", "high"),
    [
        (60.0, 35.0, 1.0, 1, 1),  # 50 against 25
        (10.0, 60.0, -1.0, -1, -1),  # X gained nothing
        (0.0, 60.0, -1.2, -1.2, -1.2),  # X lost
        # Adam at or below the untrained return counts as a hundredth of the range: 1.
        (60.0, 10.0, 49.0, 49, 49),
        (60.0, -500.0, 49.0, 49, 49),
        # Neither learned: no share.
        (10.0, 10.0, None, None, None),
        (0.0, -500.0, None, None, None),
    ],
)
def test_relative_gain_is_finite_and_keeps_its_sign(
    x: float, y: float, gain: float | None, low: float | None, high: float | None
) -> None:
    assert SMALLEST_GAIN == 0.01
    with np.errstate(all="raise"):
        found = relative_gain(np.full(5, x), np.full(5, y), ReturnRange(10, 110), "Adam")
    if gain is None:
        assert np.isnan(found.value)
        assert above(found, -0.1) is UNDECIDED
    else:
        assert found.value == pytest.approx(gain)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_relative_gain_where_some_resamples_of_adam_gained_nothing() -> None:
    adam = np.array([5.0, 5, 5, 60, 60, 60])
    with np.errstate(all="raise"):
        found = relative_gain(np.full(6, 60.0), adam, ReturnRange(10, 110), "Adam")
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low < found.value < found.high == 49


def test_relative_gain_in_a_study_without_range_decides_nothing() -> None:
    with np.errstate(all="raise"):
        found = relative_gain(np.full(5, 11.0), np.full(5, 10.0), ReturnRange(10, 10), "Adam")
    assert above(found, -0.1) is UNDECIDED
