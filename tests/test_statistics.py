from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from support.estimates import ends
from support.records import make_record, write_study

from scripts.statistics import (
    RESAMPLES,
    Arm,
    FloatArray,
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    area_under_curve,
    arms_of,
    chance_of_gain,
    fill_curves,
    interval_estimates,
    lowest_return,
    performance_profile,
    probability_of_improvement,
    tuned_arm,
)
from scripts.studies import load_study

NAN = float("nan")
samples = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32))
long_samples = arrays(np.float64, st.integers(3, 12), elements=st.floats(-1e6, 1e6, width=32))


def test_iqm_cuts_a_quarter_at_each_end_rounded_down() -> None:
    assert aggregate_iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == (2 + 3 + 4 + 5) / 4
    assert aggregate_iqm(np.array([1.0, 2, 9])) == 4
    assert aggregate_iqm(np.arange(10.0) ** 2) == np.mean([4, 9, 16, 25, 36, 49])


def test_strata_are_pooled() -> None:
    assert aggregate_iqm(np.array([0.0, 10]), np.array([4.0, 6])) == 5
    assert aggregate_mean(np.array([0.0, 10]), np.array([2.0])) == 4


def test_median_is_the_middle_of_all_samples() -> None:
    assert aggregate_median(np.array([1.0, 9]), np.array([2.0])) == 2


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


def test_probability_of_improvement_has_an_interval() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(1, 1, 60), rng.normal(0, 1, 80)
    estimate = interval_estimates(probability_of_improvement, x, y)
    # Of two normal distributions, one standard deviation apart.
    low, high = ends(estimate)
    assert low < scipy.stats.norm.cdf(1 / np.sqrt(2)) < high
    apart = interval_estimates(probability_of_improvement, x + 100, y)
    assert (apart.value, *ends(apart)) == (1, 1, 1)
    assert interval_estimates(probability_of_improvement, x, y[:2]).low is None


def test_performance_profile_is_the_share_of_runs_above() -> None:
    taus = np.array([-1.0, 0, 1, 2.5, 4])
    profile = performance_profile(np.array([0.0, 1, 2, 3]), taus)
    assert_array_equal(profile.value, [1, 0.75, 0.5, 0.25, 0])
    low, high = ends(profile)
    assert_array_equal([low[0], high[0], low[4]], [1, 1, 0])
    assert low[2] < 0.5 < high[2]


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
    # All 27 equally likely resamples of {0, 1, 2}: their means' 2.5% and 97.5% quantiles are 0
    # and 2, since 1/27 = 3.7% of the mass lies at each end.
    estimate = interval_estimates(aggregate_mean, np.array([0.0, 1, 2]))
    assert (estimate.value, *ends(estimate)) == (1, 0, 2)


def test_interval_of_a_large_sample_is_the_normal_one() -> None:
    scores = np.random.default_rng(1).normal(50, 10, 400)
    estimate = interval_estimates(aggregate_mean, scores)
    error = 1.96 * scores.std() / 20
    assert_allclose(ends(estimate), [scores.mean() - error, scores.mean() + error], atol=0.1)


def test_strata_are_resampled_apart() -> None:
    # Each stratum is constant, so no resample can differ; pooled resampling would.
    strata = np.zeros(4), np.full(4, 100.0)
    estimate = interval_estimates(aggregate_mean, *strata)
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
    estimate = interval_estimates(aggregate_mean, *map(np.array, strata))
    assert estimate.low is None
    assert estimate.high is None


def test_empty_cells_take_the_last_value_and_leading_ones_the_first() -> None:
    curves = np.array([[NAN, 1, NAN, 3, NAN], [5, 6, 7, 8, 9], [NAN] * 5])
    expected = [[1, 1, 1, 3, 3], [5, 6, 7, 8, 9], [-2] * 5]
    assert_array_equal(fill_curves(curves, -2), expected)


def test_area_under_curve_is_the_mean_over_cells() -> None:
    assert_array_equal(area_under_curve(np.array([[0.0, 1, 2, 3], [5, 5, 5, 5]])), [1.5, 5])


def arms_from(results: Path, *records: dict[str, Any]) -> list[Arm]:
    write_study(results, "ppo", *records)
    study = load_study(results, "ppo")
    return arms_of(study, study.tasks[0])


def test_what_counts(tmp_path: Path) -> None:
    adam, sgd = arms_from(
        tmp_path,
        make_record("adam", seed=0, score=90, returns=[10, 50, None, 100]),
        make_record("adam", seed=1, score=40, returns=[20, 60, None, None], diverged_at=500),
        make_record("sgd", 1.0, score=None, returns=[None] * 4, diverged_at=3),
    )
    assert_array_equal(adam.scores, [90, 40])
    assert_array_equal(adam.curves, [[10, 50, 50, 100], [20, 60, 60, 60]])
    assert_array_equal(sgd.scores, [10])
    assert_array_equal(sgd.curves, [[10] * 4])


def test_the_lowest_return_is_that_of_a_task(tmp_path: Path) -> None:
    write_study(
        tmp_path,
        "ppo",
        make_record(environment="A", score=None, returns=[None, None]),
        make_record("sgd", 1.0, environment="A", returns=[-5, 3]),
        make_record(environment="B", score=None, returns=[None, None]),
        make_record("sgd", 1.0, environment="B", returns=[7, 8]),
    )
    study = load_study(tmp_path, "ppo")
    assert [lowest_return(study, task) for task in study.tasks] == [-5, 7]
    assert [arms_of(study, task)[0].scores for task in study.tasks] == [[-5], [7]]


def test_a_study_without_an_episode_has_no_scores(tmp_path: Path) -> None:
    (arm,) = arms_from(tmp_path, make_record(score=None, returns=[None, None]))
    assert_array_equal(arm.scores, [NAN])
    assert_array_equal(arm.curves, [[NAN, NAN]])


def sweep(folder: Path, *scores: list[float]) -> list[Arm]:
    return arms_from(
        folder,
        *(
            make_record("alphagrad", 10.0**index, seed, score=score)
            for index, arm in enumerate(scores)
            for seed, score in enumerate(arm)
        ),
    )


def test_a_tuned_arm_is_chosen_on_the_other_seeds(tmp_path: Path) -> None:
    # Without an even seed alpha 1 is best, with 18 and 16 against 12 in sum; without an odd one
    # alpha 10, with 19 and 17 against 11 and 9.
    tuned = tuned_arm(sweep(tmp_path, [0, 7, 2, 9], [8, 1, 8, 3]), "tuned")
    assert tuned.name == "tuned"
    assert [arm.value for arm in tuned.chosen] == [1, 10, 1, 10]
    assert [record.seed for record in tuned.records] == [0, 1, 2, 3]
    assert_array_equal(tuned.scores, [0, 1, 2, 3])
    assert tuned.curves.shape == (4, 4)


def test_tuning_takes_the_seeds_that_all_arms_have(tmp_path: Path) -> None:
    first, second = sweep(tmp_path, [0, 1, 2, 3, 4], [10, 11, 12])
    assert_array_equal(tuned_arm([first, second], "tuned").scores, second.scores)


def test_a_clear_winner_is_the_tuned_arm_and_so_is_an_only_arm(tmp_path: Path) -> None:
    arms = sweep(tmp_path, [0, 1, 2, 3, 4], [10, 11, 12, 13, 14])
    assert_array_equal(np.sort(tuned_arm(arms, "tuned").scores), arms[1].scores)
    assert_array_equal(tuned_arm(arms[:1], "tuned").scores, arms[0].scores)


def test_tuning_needs_two_seeds_of_every_arm(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the arms need two in common"):
        tuned_arm(sweep(tmp_path, [0, 1], [2]), "tuned")


def test_the_chance_that_a_small_study_shows_a_gain(tmp_path: Path) -> None:
    first, second, rival = sweep(tmp_path, [0, 2, 0, 0], [2, 0, 0, 0], [0, 1, 0, 0])
    chance = partial(chance_of_gain, rival=rival, untrained=-1.0)
    # One seed: the best of the two gains 3, 3, 1 or 1, and has to exceed 1.2 times 1, 2, 1 or 1.
    assert chance([first, second], seeds=1, gain=0.2) == pytest.approx(0.5, abs=0.02)
    assert chance([first], seeds=1, gain=0.2) == pytest.approx(0.25, abs=0.02)
    # With all seeds nothing is left to chance: mean gains of 1.5 against 1.25.
    assert chance([first], seeds=4, gain=0.1) == 1
    assert chance([first], seeds=4, gain=0.3) == 0


def test_a_tuned_arm_of_equal_arms_is_not_optimistic(tmp_path: Path) -> None:
    # All arms have the same distribution, so tuning gains nothing; choosing on the seeds that are
    # scored would gain about 1.27 standard deviations of an arm's mean.
    (arm,) = sweep(tmp_path, [0.0] * 10)
    rng = np.random.default_rng(0)
    means = []
    for _ in range(300):
        arms = [replace(arm, scores=rng.normal(size=10)) for _ in range(6)]
        means.append(tuned_arm(arms, "tuned").scores.mean())
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(300)


def test_intervals_are_scipys_at_ten_thousand_resamples_or_more() -> None:
    assert RESAMPLES >= 10_000
    scores = np.arange(8.0) ** 2
    ours = interval_estimates(aggregate_mean, scores, seed=5)
    theirs = scipy.stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(5),
        batch=1000,
    ).confidence_interval
    assert_allclose(ends(ours), theirs)
