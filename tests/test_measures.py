from collections.abc import Sequence

import numpy as np
import pytest

from experiments.measures import (
    Record,
    counted,
    evaluation_return,
    floor,
    training_curve,
    training_return,
    untrained_return,
)


def record(
    returns: Sequence[float | None] = range(10),
    *,
    episodes: list[int] | None = None,
    evaluations: dict[int, list[float]] | None = None,
    status: str = "completed",
) -> Record:
    """A record of 1,000 steps with a cell for each hundred, or as many as there are returns."""
    counts = episodes or [int(value is not None) for value in returns]
    edges = [1000 * (cell + 1) // len(returns) for cell in range(len(returns))]
    evaluations = evaluations or {}
    return {
        "status": status,
        "configuration": {"total_steps": 1000},
        "curve": {"step": edges, "episodes": counts, "return_mean": returns},
        "evaluation": {"step": list(evaluations), "returns": list(evaluations.values())},
    }


def test_the_training_return_is_that_of_the_episodes_that_ended_in_the_last_tenth() -> None:
    assert training_return(record()) == 9.0


def test_every_episode_of_the_window_counts_the_same() -> None:
    returns = [0.0] * 18 + [1.0, 4.0]
    assert training_return(record(returns, episodes=[5] * 18 + [2, 1])) == 2.0


def test_without_an_episode_in_the_window_the_last_one_before_counts() -> None:
    assert training_return(record([1.0, 2.0, 3.0, *[None] * 7])) == 3.0


@pytest.mark.parametrize("measure", [training_return, evaluation_return])
def test_a_diverged_run_measures_below_every_other(measure: object) -> None:
    run = record(evaluations={1000: [500.0]}, status="diverged")
    assert measure(run) == -np.inf  # type: ignore[operator]


def test_a_run_in_which_no_episode_ended_measures_below_every_other() -> None:
    assert training_return(record([None] * 10)) == -np.inf


def test_the_evaluation_return_is_that_of_the_window_with_its_start() -> None:
    run = record(evaluations={450: [90.0], 900: [1.0, 3.0], 950: [3.0, 5.0], 1000: [6.0, 0.0]})
    assert evaluation_return(run) == 3.0


def test_a_last_evaluation_before_the_window_counts_alone() -> None:
    """PPO's last whole rollout may end before it, in a run that is short."""
    assert evaluation_return(record(evaluations={400: [1.0], 800: [7.0]})) == 7.0


def test_a_run_without_evaluations_has_no_evaluation_return() -> None:
    assert np.isnan(evaluation_return(record()))


def test_the_untrained_return_is_where_the_curves_begin() -> None:
    curves = [training_curve(record(returns)) for returns in ([None, 3.0], [1.0, 9.0], [8.0])]
    assert untrained_return([*curves, training_curve(record([None]))]) == 3.0
    assert np.isnan(untrained_return([]))


@pytest.mark.parametrize(
    ("measured", "untrained", "lowest"),
    [
        ([-np.inf, 5.0, 2.0], 1.0, 1.0),
        ([-np.inf, 5.0, -2.0], 1.0, -2.0),  # worse than untrained: failing does not help
        ([-np.inf, -np.inf], 1.0, 1.0),
        ([-np.inf, 4.0], np.nan, 4.0),
    ],
)
def test_a_run_without_a_result_counts_with_the_lowest_that_is_known(
    measured: list[float], untrained: float, lowest: float
) -> None:
    assert floor(np.array(measured), untrained) == lowest
    assert counted(np.array(measured), lowest).min() == lowest


def test_nothing_known_is_no_floor() -> None:
    assert np.isnan(floor(np.array([-np.inf]), np.nan))
