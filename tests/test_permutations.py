"""The verdicts' comparisons, of the committed records, beside tests of other making."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from adastop import MultipleAgentsComparator

from scripts.scores import MEASURES, Arm, Measure, arms_of
from scripts.statistics import FloatArray, improvement, probability_of_improvement
from scripts.studies import load_study, study_names

RESULTS = Path(__file__).parent.parent / "results"
SEEDS = 5


@cache
def pairs(measure: Measure) -> list[tuple[str, Arm, Arm]]:
    """Each arm of a task against the baseline, where both have seeds enough."""
    found = []
    for name in study_names(RESULTS):
        study = load_study(RESULTS, name)
        for task in study.tasks:
            arms = [a for a in arms_of(study, task, measure) if len(a.records) >= SEEDS]
            baseline = [arm for arm in arms if arm.is_baseline]
            others = [arm for arm in arms if not arm.is_baseline]
            found += [(f"{name} {task.name} {a.name}", a, b) for b in baseline for a in others]
    return found


def at_the_half(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """The probability of improvement, and the p-value of its being a half."""
    estimate = improvement((x, y))
    assert estimate.p_value is not None
    return float(estimate.value), float(estimate.p_value(0.5))


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_what_is_significant_is_so_by_a_permutation_test_too(measure: Measure) -> None:
    assert len(pairs(measure)) > 30
    significant = 0
    for name, x, y in pairs(measure):
        _, p_value = at_the_half(x.measured, y.measured)
        if p_value >= 0.05:
            continue
        significant += 1
        permuted = scipy.stats.permutation_test(
            (x.measured, y.measured),
            lambda a, b, axis: probability_of_improvement(a, b, axis=axis),
            vectorized=True,
            n_resamples=2000,
            rng=np.random.default_rng(0),
        )
        assert permuted.pvalue < 0.05, name
    assert significant > 15


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_adastop_comes_to_the_same_or_is_not_sure(measure: Measure) -> None:
    agree, decided = 0, 0
    for name, x, y in pairs(measure):
        chance, p_value = at_the_half(x.measured, y.measured)
        sizes = np.array([len(x.scores), len(y.scores)])
        comparator = MultipleAgentsComparator(n=sizes, K=1, B=500, alpha=0.05, seed=0)
        comparator.partial_compare({"x": x.scores, "y": y.scores}, False)
        (decision,) = comparator.decisions.values()
        ours = "equal" if p_value >= 0.05 else "larger" if chance > 0.5 else "smaller"
        assert {ours, decision} != {"larger", "smaller"}, name
        agree += ours == decision
        decided += 1
    assert agree / decided > 0.7
