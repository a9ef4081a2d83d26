"""The choice of a value by the returns of its tuning runs."""

import numpy as np
import pytest

from experiments.choice import choose

NAMES = {0.1: "a", 1.0: "b", 10.0: "c"}


def test_the_highest_interquartile_mean_is_chosen_whatever_one_lucky_seed_got() -> None:
    lucky, steady = [0, 1, 1, 1, 1000], [2, 2, 2, 2, 2]
    choice = choose({1.0: "lucky", 3.0: "steady"}, {1.0: lucky, 3.0: steady}, None)
    assert (choice.value, choice.arm) == (3.0, "steady")
    assert {name: each.iqm for name, each in choice.by.items()} == {"lucky": 1, "steady": 2}
    # With two of five resampled runs the lucky one counts: the choice is not quite sure.
    shares = [each.chosen_share for each in choice.by.values()]
    assert shares == [pytest.approx(0.26, abs=0.05), pytest.approx(0.74, abs=0.05)]


@pytest.mark.parametrize(
    ("scores", "default", "chosen"),
    [
        ({0.1: 1, 1.0: 5, 10.0: 5}, None, 1.0),
        ({0.1: 1, 1.0: 5, 10.0: 5}, 10.0, 10.0),
        ({0.1: 1, 1.0: 5, 10.0: 5}, 0.1, 1.0),
        ({0.1: -np.inf, 1.0: -np.inf, 10.0: -np.inf}, None, 0.1),
        ({0.1: -np.inf, 1.0: -np.inf, 10.0: -7}, 1.0, 10.0),
    ],
)
def test_equal_values_go_to_the_default_else_to_the_smaller(
    scores: dict[float, float], default: float | None, chosen: float
) -> None:
    returns = {value: [score] * 3 for value, score in scores.items()}
    choice = choose(NAMES, returns, default)
    assert choice.value == chosen
    assert list(choice.by) == ["a", "b", "c"]
    assert choice.by[choice.arm].chosen_share == 1


def test_a_run_that_diverged_counts_as_the_worst() -> None:
    one_of_three = choose({1.0: "a", 2.0: "b"}, {1.0: [9, 9, -np.inf], 2.0: [1, 1, 1]}, None)
    assert one_of_three.arm == "b"
    assert one_of_three.by["a"].iqm is None
    one_of_five = choose(
        {1.0: "a", 2.0: "b"}, {1.0: [9, 9, 9, 9, -np.inf], 2.0: [1, 1, 1, 1, 1]}, None
    )
    assert one_of_five.arm == "a"
    assert one_of_five.by["a"].iqm == 9
    assert "a (IQM 9 of 5 seeds, chosen in 72%" in str(one_of_five)


def test_a_single_run_says_nothing_of_how_sure_the_choice_is() -> None:
    choice = choose({1.0: "a", 2.0: "b"}, {1.0: [3], 2.0: [1, 2]}, None)
    assert {each.chosen_share for each in choice.by.values()} == {None}
    assert str(choice) == "a (IQM 3 of 1 seed)"
