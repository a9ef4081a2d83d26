from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from support.records import make_record, write_study

from scripts.scores import arms_of
from scripts.stability import (
    ReturnRange,
    collapsed,
    decades,
    drawdown,
    instability,
    return_range,
    smoothed,
)
from scripts.statistics import FloatArray
from scripts.studies import load_study

curves = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 60)),
    elements=st.integers(-1000, 1000),
)


def test_smoothing_is_over_a_twentieth_of_the_run() -> None:
    assert_array_equal(smoothed(np.array([[1.0, 3, 5, 7]])), [[1, 3, 5, 7]])
    ramp = np.arange(40.0)[np.newaxis]
    assert_array_equal(smoothed(ramp), ramp[:, 1:] - 0.5)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0, 1, 2, 3], 0),
        ([3, 2, 1, 0], 1),
        ([0, 4, 3, 8, 2, 10], 0.6),
        ([-10, -2, -6, 0], 0.4),
        ([5, 5, 5], 0),
    ],
)
def test_drawdown_of_hand_made_curves(curve: list[float], expected: float) -> None:
    assert_allclose(drawdown(np.array([curve], dtype=float)), [expected])


@given(curves, st.integers(-100, 100), st.integers(1, 50))
def test_drawdown_is_a_share_that_shift_and_scale_leave_alone(
    curve: FloatArray, shift: int, scale: int
) -> None:
    falls = drawdown(curve)
    assert ((falls >= 0) & (falls <= 1 + 1e-9)).all()
    assert_allclose(drawdown(scale * curve + shift), falls, atol=1e-9)
    assert_array_equal(drawdown(np.sort(curve, axis=1)), 0)


def test_collapse_is_measured_from_the_untrained_return(tmp_path: Path) -> None:
    runs: list[tuple[float, list[float | None]]] = [
        (-60, [-100, 100, 0, -60]),  # lost 160 of the 200 it had gained
        (20, [-100, 100, 0, 20]),  # kept more than half
        (-104, [-100, -98, -104, -104]),  # never learned
        (500, [-100, 0, 200, 500]),
    ]
    records = [
        make_record("sgd", 1.0, seed, score=score, returns=returns)
        for seed, (score, returns) in enumerate(runs)
    ]
    write_study(tmp_path, "ppo", *records)
    study = load_study(tmp_path, "ppo")
    (arm,) = arms_of(study, study.tasks[0])
    extent = return_range([arm])
    assert extent == ReturnRange(-100, 500)
    assert_array_equal(extent.share(np.array([-100.0, 200, 500])), [0, 0.5, 1])
    assert_array_equal(collapsed(arm, extent), [True, False, False, False])


def test_a_run_that_failed_is_not_steady(tmp_path: Path) -> None:
    records = [
        make_record("sgd", 1.0, 0, returns=[0, 50, 100, 90]),
        make_record("sgd", 1.0, 1, returns=[0, 9, 9, 9]),  # less than a tenth of the way
        make_record("sgd", 1.0, 2, returns=[0, 50, None, None], diverged_at=500),
    ]
    write_study(tmp_path, "ppo", *records)
    study = load_study(tmp_path, "ppo")
    (arm,) = arms_of(study, study.tasks[0])
    assert_allclose(drawdown(arm.curves), [0.1, 0, 0])
    assert_allclose(instability(arm, return_range([arm])), [0.1, 1, 1])


def decades_of(*values: float, untrained: float = 0.0) -> float:
    settings = [10.0**power for power in range(len(values))]
    scores = [np.array([value]) for value in values]
    return float(decades(*scores, settings=settings, untrained=untrained))


def test_decades_of_hand_made_sweeps() -> None:
    assert decades_of(7, 7, 7) == 2
    # From 0 to 100 and back, 10% of each decade lies above 90.
    assert_allclose(decades_of(0, 100, 0), 0.2)
    assert_allclose(decades_of(0, 100, 100), 1.1)
    # All below 0: the way is measured from the untrained return.
    assert_allclose(decades_of(-500, -100, -500, untrained=-500), 0.2)
    assert np.isnan(decades_of(-5, -3, -4, untrained=0))


@given(
    arrays(np.float64, (4, 5), elements=st.integers(-1000, 1000)),
    st.integers(-1000, 1000),
    st.integers(1, 10),
)
def test_decades_are_left_alone_by_shift_and_scale(
    scores: FloatArray, shift: int, scale: int
) -> None:
    found = partial(decades, settings=[1, 3, 10, 30])
    value = found(*scores, untrained=-1001)
    assert 0 <= value <= np.log10(30) + 1e-9
    moved = found(*(scale * scores + shift), untrained=shift - 1001 * scale)
    assert_allclose(moved, value, atol=1e-9)
