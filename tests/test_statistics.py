from functools import partial
from random import Random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from support.estimates import ends

from scripts.statistics import (
    PERCENTILE_LEVEL,
    RESAMPLES,
    FloatArray,
    aggregate_iqm,
    aggregate_optimality_gap,
    improvement,
    interval_estimates,
    mean_of_means,
    performance_profile,
    probability_of_improvement,
)

NAN = float("nan")
samples = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32))
long_samples = arrays(np.float64, st.integers(3, 12), elements=st.floats(-1e6, 1e6, width=32))


def test_iqm_cuts_a_quarter_at_each_end_rounded_down() -> None:
    assert aggregate_iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == (2 + 3 + 4 + 5) / 4
    assert aggregate_iqm(np.array([1.0, 2, 9])) == 4
    assert aggregate_iqm(np.arange(10.0) ** 2) == np.mean([4, 9, 16, 25, 36, 49])


def test_strata_are_pooled() -> None:
    assert aggregate_iqm(np.array([0.0, 10]), np.array([4.0, 6])) == 5


def test_every_task_counts_the_same_in_the_mean_of_means() -> None:
    tasks = np.array([1.0, 9]), np.array([2.0]), np.array([7.0, 7])
    assert mean_of_means(*tasks) == (5 + 2 + 7) / 3


def test_optimality_gap_ignores_what_exceeds_the_target() -> None:
    scores = np.array([400.0, 475, 500])
    assert aggregate_optimality_gap(scores, target=475.0) == 25
    assert aggregate_optimality_gap(scores[1:], target=475.0) == 0
    estimate = interval_estimates(partial(aggregate_optimality_gap, target=475.0), scores)
    assert (estimate.value, *ends(estimate)) == (25, 0, 75)


def test_probability_of_improvement_by_hand() -> None:
    # Of the six pairs X wins three and ties one.
    x, y = np.array([1.0, 3, 5]), np.array([2.0, 3])
    assert_allclose(probability_of_improvement(x, y), 3.5 / 6)
    assert_allclose(probability_of_improvement(y, x), 2.5 / 6)


@given(samples, samples)
def test_probability_of_improvement_is_mann_whitneys_u(x: FloatArray, y: FloatArray) -> None:
    u = scipy.stats.mannwhitneyu(x, y, method="asymptotic").statistic
    assert_allclose(probability_of_improvement(x, y), u / (x.size * y.size))


def test_improvement_is_brunner_and_munzels_estimate_with_an_interval() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(1, 1, 60), rng.normal(0, 1, 80)
    estimate = improvement((x, y))
    assert estimate.value == pytest.approx(float(probability_of_improvement(x, y)))
    low, high = ends(estimate)
    # Of two normal distributions, one standard deviation apart.
    assert low < scipy.stats.norm.cdf(1 / np.sqrt(2)) < high
    # The same standard error as SciPy's test, on the logit's scale and so wider at the far side.
    statistic = abs(scipy.stats.brunnermunzel(x, y).statistic)
    error = (estimate.value - 0.5) / statistic
    assert high - low == pytest.approx(2 * 1.98 * error, rel=0.05)


@pytest.mark.parametrize("runs", [5, 10, 20])
def test_complete_separation_is_not_certainty(runs: int) -> None:
    low, high = ends(improvement((np.arange(100.0, 100 + runs), np.arange(float(runs)))))
    assert 0.5 < low < 0.9 < high == 1
    turned = ends(improvement((np.arange(float(runs)), np.arange(100.0, 100 + runs))))
    assert_allclose(turned, [0, 1 - low])


def test_what_ties_completely_is_not_known_exactly() -> None:
    low, high = ends(improvement((np.zeros(10), np.zeros(10))))
    assert low < 0.3
    assert high > 0.7


def test_the_p_value_is_that_of_the_interval() -> None:
    rng = np.random.default_rng(4)
    pairs = [(rng.normal(1, 1, 10), rng.normal(0, 1, 12)), (rng.normal(9, 1, 8), np.zeros(8))]
    for estimate in (improvement(*pairs), improvement(pairs[1])):
        assert estimate.p_value is not None
        low, high = ends(estimate)
        assert estimate.p_value(float(low)) == pytest.approx(0.05)
        if high < 1:
            assert estimate.p_value(float(high)) == pytest.approx(0.05)
    bootstrapped = interval_estimates(mean_of_means, rng.normal(0, 1, 20))
    assert bootstrapped.p_value is not None
    assert bootstrapped.p_value(float(ends(bootstrapped)[0])) == pytest.approx(0.05, abs=0.005)


def test_tasks_are_averaged_and_their_uncertainties_with_them() -> None:
    rng = np.random.default_rng(5)
    pairs = [(rng.normal(shift, 1, 15), rng.normal(0, 1, 15)) for shift in (0, 1, 2)]
    alone = [improvement(pair) for pair in pairs]
    together = improvement(*pairs)
    assert together.value == pytest.approx(np.mean([each.value for each in alone]))
    assert np.ptp(ends(together)) < min(np.ptp(ends(each)) for each in alone[:2])
    # A task in which all runs are separated does not make the others surer than they are.
    apart = improvement(pairs[0], (np.full(15, 9.0), np.zeros(15)))
    assert np.ptp(ends(apart)) > np.ptp(ends(alone[0])) / 2 * 0.95


def test_failed_runs_are_below_all_others_and_nan_passes_nowhere() -> None:
    estimate = improvement((np.array([-np.inf, 1, 2, 3]), np.array([0.0, 0, 0, -np.inf])))
    assert estimate.value == (3 + 0.5 / 4 * 1 + 0) / 4
    for missing in (np.array([1.0, NAN, 3]), np.array([NAN] * 3)):
        for estimate in (improvement((missing, np.zeros(3))), improvement((np.zeros(3), missing))):
            assert np.isnan(estimate.value)
            assert estimate.low is None
        assert interval_estimates(mean_of_means, missing).low is None
    assert improvement((np.zeros(2), np.zeros(5))).low is None


def test_improvement_of_many_studies_at_once_is_that_of_each() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(0, 1, (7, 10)), rng.normal(0, 1, (7, 12))
    x[3] += 100
    together = improvement((x, y))
    for row in range(7):
        alone = improvement((x[row], y[row]))
        assert_allclose(ends(together)[:, row], ends(alone))


def test_performance_profile_is_the_share_of_runs_above() -> None:
    taus = np.array([-1.0, 0, 1, 2.5, 4])
    profile = performance_profile(np.array([0.0, 1, 2, 3]), taus=taus)
    assert_array_equal(profile.value, [1, 0.75, 0.5, 0.25, 0])
    low, high = ends(profile)
    assert_array_equal([low[0], high[0], low[4]], [1, 1, 0])
    assert low[2] < 0.5 < high[2]
    halves = performance_profile(np.zeros(4), np.ones(6), taus=np.array([0.5]))
    assert (halves.value, *ends(halves)) == (0.5, 0.5, 0.5)


@given(samples)
def test_iqm_lies_between_the_quartile_means_ends(scores: FloatArray) -> None:
    iqm = aggregate_iqm(scores)
    assert scores.min() - 1e-6 <= iqm <= scores.max() + 1e-6


@given(samples, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_iqm_follows_shift_and_scale(scores: FloatArray, shift: float, scale: float) -> None:
    assert_allclose(
        aggregate_iqm(scale * scores + shift), scale * aggregate_iqm(scores) + shift, atol=1e-3
    )


@given(samples, st.randoms(use_true_random=False))
def test_iqm_does_not_depend_on_the_order(scores: FloatArray, random: Random) -> None:
    shuffled = list(scores)
    random.shuffle(shuffled)
    assert_allclose(aggregate_iqm(np.array(shuffled)), aggregate_iqm(scores), atol=1e-6)


@settings(max_examples=20)
@given(long_samples)
def test_intervals_are_ordered_inside_the_sample_and_repeatable(scores: FloatArray) -> None:
    estimate = interval_estimates(aggregate_iqm, scores)
    low, high = ends(estimate)
    assert scores.min() - 1e-6 <= low <= high <= scores.max() + 1e-6
    assert_array_equal(ends(interval_estimates(aggregate_iqm, scores)), [low, high])


def test_interval_equals_the_exact_bootstrap_of_three_seeds() -> None:
    # All 27 equally likely resamples of {0, 1, 2}: their means' 1.5% and 98.5% quantiles are 0
    # and 2, since 1/27 = 3.7% of the mass lies at each end.
    estimate = interval_estimates(mean_of_means, np.array([0.0, 1, 2]))
    assert (estimate.value, *ends(estimate)) == (1, 0, 2)


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    scores = np.random.default_rng(1).normal(50, 10, 400)
    estimate = interval_estimates(mean_of_means, scores)
    error = scipy.stats.norm.ppf((1 + PERCENTILE_LEVEL) / 2) * scores.std() / 20
    assert_allclose(ends(estimate), [scores.mean() - error, scores.mean() + error], atol=0.1)


def test_strata_are_resampled_apart() -> None:
    # Each stratum is constant, so no resample can differ; pooled resampling would.
    strata = np.zeros(4), np.full(4, 100.0)
    estimate = interval_estimates(mean_of_means, *strata)
    assert_array_equal(ends(estimate), [50, 50])


def test_curves_have_pointwise_intervals() -> None:
    curves = np.random.default_rng(2).normal(size=(5, 3))
    estimate = interval_estimates(aggregate_iqm, curves)
    assert_allclose(estimate.value, scipy.stats.trim_mean(curves, 0.25, axis=0))
    for cell in range(3):
        alone = interval_estimates(aggregate_iqm, curves[:, cell])
        assert_allclose(ends(estimate)[:, cell], ends(alone), atol=0.05)


@pytest.mark.parametrize("strata", [([1.0, 2.0],), ([1.0, 2.0, 3.0], [1.0]), ([1.0, 2.0, NAN],)])
def test_no_interval_where_none_can_be_given(strata: tuple[list[float], ...]) -> None:
    estimate = interval_estimates(mean_of_means, *map(np.array, strata))
    assert estimate.low is None
    assert estimate.high is None


def test_intervals_are_scipys_at_ten_thousand_resamples_or_more() -> None:
    assert RESAMPLES >= 10_000
    scores = np.arange(8.0) ** 2
    ours = interval_estimates(mean_of_means, scores, seed=5)
    theirs = scipy.stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=PERCENTILE_LEVEL,
        method="percentile",
        rng=np.random.default_rng(5),
        batch=1000,
    ).confidence_interval
    assert_allclose(ends(ours), theirs)
