from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from support.records import make_record, write_study

from scripts.scores import (
    EVALUATION,
    MEASURES,
    TRAINING,
    Arm,
    Measure,
    area_under_curve,
    arms_of,
    fill_curves,
    lowest_return,
    scale_of,
)
from scripts.studies import Stage, load_study

NAN = float("nan")


def arms_from(results: Path, *records: dict[str, Any], measure: Measure = TRAINING) -> list[Arm]:
    write_study(results, "ppo", *records)
    study = load_study(results, "ppo")
    return arms_of(study, study.tasks[0], measure)


def test_empty_cells_take_the_last_value_and_leading_ones_the_first() -> None:
    curves = np.array([[NAN, 1, NAN, 3, NAN], [5, 6, 7, 8, 9], [NAN] * 5])
    expected = [[1, 1, 1, 3, 3], [5, 6, 7, 8, 9], [-2] * 5]
    assert_array_equal(fill_curves(curves, -2), expected)


def test_area_under_curve_is_the_mean_over_cells() -> None:
    assert_array_equal(area_under_curve(np.array([[0.0, 1, 2, 3], [5, 5, 5, 5]])), [1.5, 5])


@pytest.mark.parametrize("measure", MEASURES)
def test_what_counts(tmp_path: Path, measure: Measure) -> None:
    adam, sgd = arms_from(
        tmp_path,
        make_record("adam", seed=0, returns=[10, 50, None, 100]),
        make_record("adam", seed=1, returns=[20, 60, None, None], diverged_at=500),
        make_record("sgd", 1.0, returns=[None] * 4, diverged_at=3),
        measure=measure,
    )
    assert_array_equal(adam.measured, [100, -np.inf])
    assert_array_equal(adam.scores, [100, 15])  # untrained: the lowest that is known
    assert_array_equal(adam.failed, [False, True])
    assert_array_equal(sgd.scores, [15])
    assert_array_equal(sgd.curves, np.full_like(sgd.curves, 15))
    full = {TRAINING.name: [[10, 50, 50, 100], [20, 60, 60, 60]]}
    seen = {EVALUATION.name: [[10, 50, 100], [20, 60, 60]]}  # at no step without an evaluation
    assert_array_equal(adam.curves, (full | seen)[measure.name])
    assert adam.steps.shape == (adam.curves.shape[1],)


def test_a_bad_score_is_lower_than_the_untrained_policys(tmp_path: Path) -> None:
    records = [
        make_record("adam", returns=[10, 50, 90, 100]),
        make_record("sgd", 1.0, 0, returns=[10, 5, 2, -3]),
        make_record("sgd", 1.0, 1, diverged_at=600),
    ]
    _, sgd = arms_from(tmp_path, *records)
    assert_array_equal(sgd.scores, [-3, -3])


def test_the_lowest_return_is_that_of_a_task(tmp_path: Path) -> None:
    write_study(
        tmp_path,
        "ppo",
        make_record(environment="A", returns=[None, None]),
        make_record("sgd", 1.0, environment="A", returns=[-5, 3]),
        make_record(environment="B", returns=[None, None]),
        make_record("sgd", 1.0, environment="B", returns=[7, 8]),
    )
    study = load_study(tmp_path, "ppo")
    assert [lowest_return(study, task) for task in study.tasks] == [-5, 7]
    assert [arms_of(study, task)[0].scores for task in study.tasks] == [[-5], [7]]


def test_a_study_without_an_episode_has_no_scores(tmp_path: Path) -> None:
    (arm,) = arms_from(tmp_path, make_record(returns=[None, None]))
    assert_array_equal(arm.scores, [NAN])
    assert_array_equal(arm.curves, [[NAN, NAN]])


def test_a_study_without_evaluations_has_no_evaluation_returns(tmp_path: Path) -> None:
    record = make_record()
    record["evaluation"] = {"step": [], "returns": []}
    (arm,) = arms_from(tmp_path, record, measure=EVALUATION)
    assert_array_equal(arm.scores, [NAN])
    assert np.isnan(arm.curves).all()


def test_stages_are_counted_apart(tmp_path: Path) -> None:
    records = [make_record(seed=0, returns=[1, 9])]
    records += [make_record(seed=100, returns=[3, 7], stage="confirm")]
    write_study(tmp_path, "ppo", *records)
    study = load_study(tmp_path, "ppo")
    (task,) = study.tasks
    for stage, score in ((Stage.tune, 9), (Stage.confirm, 7)):
        (arm,) = arms_of(study, task, stage=stage)
        assert (arm.stage, arm.scores.tolist()) == (stage, [score])


def test_a_normalised_score_is_0_untrained_and_1_of_the_baseline(tmp_path: Path) -> None:
    adam, sgd = arms_from(
        tmp_path,
        *(make_record(seed=seed, returns=[10, 60]) for seed in range(3)),
        *(
            make_record("sgd", 1.0, seed, returns=[10, score])
            for seed, score in enumerate([0, 110])
        ),
    )
    scale = scale_of([adam, sgd])
    assert scale is not None
    assert_array_equal(scale(adam.scores), [1, 1, 1])
    assert_array_equal(scale(sgd.scores), [-0.2, 2])
    assert scale_of([sgd]) is None


def test_a_baseline_that_learned_nothing_gives_no_scale(tmp_path: Path) -> None:
    arms = arms_from(tmp_path, make_record(returns=[10, 10]))
    scale = scale_of(arms)
    assert scale is not None
    assert np.isnan(scale(arms[0].scores)).all()
