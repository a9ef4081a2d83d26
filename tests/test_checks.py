import json
import math
from pathlib import Path
from typing import Any

import pytest
from record_fixtures import make_record, make_theory, write_records

from alphagrad.theory import gradient_norm_bound
from scripts.checks import (
    ALPHAS,
    Arms,
    alphagrad,
    interaction_check,
    memory_check,
    stability_check,
    stateless_check,
    substantial_check,
    theory_checks,
    without_factor,
)
from scripts.records import load_study
from scripts.statistics import arms_of
from scripts.theory import Theory
from scripts.verdicts import Verdict

STUDIES = [f"{name}{kind}" for name in ("dqn", "td3", "ppo") for kind in ("", "_fair")]


def sweep(alphagrad: float, seeds: int = 6, alphas: tuple[int, ...] = ALPHAS) -> list[Any]:
    arms = {"adam": 100.0} | {f"alphagrad-alpha{alpha}": alphagrad for alpha in alphas}
    return [
        make_record(arm, seed, score=score + seed)
        for arm, score in arms.items()
        for seed in range(seeds)
    ]


def arms_from(folder: Path, **studies: list[Any]) -> Arms:
    return {name: [] for name in STUDIES} | {
        name: arms_of(load_study(write_records(folder / name, *records)))
        for name, records in studies.items()
    }


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(200.0, Verdict.REPRODUCED), (50.0, Verdict.NOT_REPRODUCED)],
)
def test_substantially_better(tmp_path: Path, score: float, verdict: Verdict) -> None:
    check = substantial_check("ppo", arms_from(tmp_path, ppo=sweep(score)))
    assert check.verdict is verdict
    assert check.runs == {"ppo": 42}


def test_equal_scores_are_no_substantial_gain(tmp_path: Path) -> None:
    check = substantial_check("ppo", arms_from(tmp_path, ppo=sweep(100.0, seeds=10)))
    assert check.verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("records", "lacks"),
    [
        (sweep(200.0, seeds=4), "AlphaGrad has 4 of 5 seeds in ppo"),
        (sweep(200.0, alphas=ALPHAS[:5]), "AlphaGrad has runs at 5 of 6 settings in ppo"),
    ],
)
def test_undecided_says_what_lacks(tmp_path: Path, records: list[Any], lacks: str) -> None:
    check = substantial_check("ppo", arms_from(tmp_path, ppo=records))
    assert check.verdict is Verdict.UNDECIDED
    assert lacks in check.change


def test_the_setting_is_chosen_on_the_other_seeds(tmp_path: Path) -> None:
    records = sweep(10.0)
    for record in records:  # alpha 3 shines on even seeds, alpha 30 on odd ones
        shines = {"alphagrad-alpha3": 0, "alphagrad-alpha30": 1}.get(record["arm"])
        if record["seed"] % 2 == shines:
            record["final_score"] = 1000.0
    side = alphagrad("ppo", arms_from(tmp_path, ppo=records))
    assert side.tuned.scores.max() < 1000
    assert side.chosen == "alphagrad-alpha3 and alphagrad-alpha30"


def test_alphas_that_differ_by_less_than_a_tenth_do_not_interact(tmp_path: Path) -> None:
    def scores(best: int, others: float) -> list[Any]:
        records = sweep(others)
        for record in records:
            record["curve"]["return_mean"] = [0.0] * len(record["curve"]["return_mean"])
            if record["arm"] == f"alphagrad-alpha{best}":
                record["final_score"] = 200.0 + record["seed"]
        return records

    for others, verdict in ((190.0, Verdict.NOT_REPRODUCED), (100.0, Verdict.REPRODUCED)):
        studies = {"dqn": scores(3, others), "td3": scores(3, others), "ppo": scores(30, others)}
        check = interaction_check(arms_from(tmp_path / verdict, **studies))
        assert check.verdict is verdict
        assert check.numbers[0].value == 1  # the ranks alone would tell them apart


def test_memory_is_read_from_the_state(tmp_path: Path) -> None:
    records = sweep(100.0, seeds=1)
    assert memory_check(arms_from(tmp_path, ppo=records)).verdict is Verdict.REPRODUCED
    records[-1]["optimizer"]["state_bytes"] = 8000
    check = memory_check(arms_from(tmp_path, ppo=records))
    assert check.verdict is Verdict.NOT_REPRODUCED
    assert [number.value for number in check.numbers] == [1]


@pytest.mark.parametrize(("size", "verdict"), [(0, "reproduced"), (4, "not reproduced")])
def test_stateless_has_no_bytes(tmp_path: Path, size: int, verdict: str) -> None:
    record = make_record("alphagrad-stateless-alpha10")
    record["optimizer"]["state_bytes"] = size
    assert stateless_check(arms_from(tmp_path, td3_fair=[record])).verdict == verdict


def test_diverged_runs_count(tmp_path: Path) -> None:
    records = sweep(100.0)
    for record in records:
        if record["arm"] == "adam" and record["seed"] < 3:
            record |= {"status": "diverged", "reason": "train/value_loss is nan", "steps": 500}
    check = stability_check("td3", arms_from(tmp_path, td3=records), "More stable", -1)
    values = {number.name: number.value for number in check.numbers}
    assert check.runs == {"td3": 42}
    assert values["share of runs that diverged, Adam"] == 0.5
    assert values["share of runs that diverged, AlphaGrad"] == 0


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_a_bound_without_its_factor_is_that_of_alpha_infinity(eps: float) -> None:
    given = {"gap": 1.0, "smoothness": 1.0, "lr": 0.1, "steps": 10, "constant": 3.0}
    bound = gradient_norm_bound(**given, alpha=0.3, eps=2 * eps)
    record = json.dumps(make_theory(alpha=0.3, eps=eps, sizes=[2, 3]))
    row = Theory.model_validate_json(record).series[0]
    without = gradient_norm_bound(**given, alpha=math.inf, eps=2 * eps)
    assert without_factor(bound, row) == pytest.approx(without)


@pytest.mark.parametrize(("norm", "verdict"), [(2.0, "reproduced"), (2.1, "not reproduced")])
def test_one_case_above_the_bound_refutes_it(norm: float, verdict: str) -> None:
    bounds = {"bound": [2.0, 2.0], "bound_with_n": [2.0, 30.0]}
    series = {"steps": [10, 20], "min_gradient_norm": [1.0, norm]} | bounds
    record = Theory.model_validate_json(json.dumps(make_theory(**series)))
    bound, factor = theory_checks([record])
    assert (bound.verdict, factor.verdict) == (verdict, "reproduced")
    assert [number.value for number in factor.numbers] == [2, 1]
    assert {check.verdict for check in theory_checks([])} == {Verdict.UNDECIDED}
