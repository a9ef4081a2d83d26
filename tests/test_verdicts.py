import pytest

from scripts.verdicts import Number, Verdict, above, below, better, combine

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
