"""Rules on records whose answer is known."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.records import make_convergence, make_record, write_study

from alphagrad.theory import gradient_norm_bound
from scripts.checks.base import Opponents, Rule, Subject
from scripts.checks.comparisons import Better, Competitive, Stability, Substantial
from scripts.checks.convergence import Bound, BoundFactor, without_factor
from scripts.checks.memory import LessMemory, Stateless
from scripts.checks.tuning import Critical, Interaction
from scripts.convergence import Convergence
from scripts.evidence import ClaimError, Evidence, Group
from scripts.verdicts import Check, Verdict

ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
STEADY = (0.0, 50.0, 80.0, 100.0)


def sweep(
    *scores: float, adam: float = 100.0, seeds: int = 6, **fields: Any
) -> list[dict[str, Any]]:
    """Adam, and AlphaGrad at the first alphas with a score each; later seeds a little higher."""
    arms = [
        ("adam", 3e-4, adam),
        *(("alphagrad", *arm) for arm in zip(ALPHAS, scores, strict=False)),
    ]
    return [
        make_record(family, value, seed, score=score + seed, **fields)
        for family, value, score in arms
        for seed in range(seeds)
    ]


def check(results: Path, rule: Rule) -> Check:
    (check,) = rule.checks(Evidence(results))
    return check


@pytest.mark.parametrize(
    ("score", "verdict"), [(200.0, Verdict.REPRODUCED), (50.0, Verdict.NOT_REPRODUCED)]
)
def test_substantially_better(tmp_path: Path, score: float, verdict: Verdict) -> None:
    write_study(tmp_path, "s", *sweep(*[score] * 6))
    found = check(tmp_path, Substantial(rule="substantial", study="s"))
    assert found.verdict is verdict
    assert found.runs == {"s": 42}
    assert found.statement.endswith(": AlphaGrad (alphagrad-alpha1) against Adam (adam)")


def test_better_but_not_substantially(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(1050, 1, adam=1000))
    found = check(tmp_path, Substantial(rule="substantial", study="s"))
    assert found.numbers[0].value == 1
    assert found.verdict is Verdict.NOT_REPRODUCED
    assert check(tmp_path, Better(rule="better", study="s")).verdict is Verdict.REPRODUCED


def test_equal_scores_are_no_gain_and_competitive(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(*[100.0] * 6, seeds=10))
    found = check(tmp_path, Substantial(rule="substantial", study="s"))
    assert found.verdict is Verdict.NOT_REPRODUCED
    found = check(tmp_path, Competitive(rule="competitive", study="s"))
    assert found.verdict is Verdict.REPRODUCED


def test_too_few_seeds_are_undecided_and_say_so(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(*[200.0] * 6, seeds=4))
    found = check(tmp_path, Better(rule="better", study="s"))
    assert found.verdict is Verdict.UNDECIDED
    assert found.change == "More runs: AlphaGrad has 4 of 5 seeds in s."


def test_planned_values_without_runs_are_undecided_and_say_so(tmp_path: Path) -> None:
    records = sweep(*[200.0] * 6)
    write_study(tmp_path, "s", *records)
    for record in records[-6:]:
        next(tmp_path.glob(f"records/*{record['identity']}.json")).unlink()
    found = check(tmp_path, Better(rule="better", study="s"))
    assert found.verdict is Verdict.UNDECIDED
    assert found.change == "More runs: AlphaGrad has runs at 5 of 6 settings in s."
    some = Group(family="alphagrad", values=[1, 3])
    found = check(tmp_path, Better(rule="better", study="s", subject=some))
    assert found.verdict is Verdict.REPRODUCED
    assert found.runs == {"s": 18}


def test_a_study_that_was_never_planned_is_undecided(tmp_path: Path) -> None:
    found = check(tmp_path, Better(rule="better", study="s"))
    assert (found.verdict, found.runs) == (Verdict.UNDECIDED, {})
    assert found.change == "More runs: there are none of study s."


def test_only_the_named_values_take_part(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(20, 90, 40, adam=50))
    coarse = Group(family="alphagrad", values=[1, 10])
    found = check(tmp_path, Better(rule="better", study="s", subject=coarse))
    assert found.verdict is Verdict.NOT_REPRODUCED
    assert "alphagrad-alpha10)" in found.statement
    assert check(tmp_path, Better(rule="better", study="s")).verdict is Verdict.REPRODUCED


def test_the_setting_is_chosen_on_the_other_seeds(tmp_path: Path) -> None:
    records = sweep(*[10.0] * 6)
    for record in records:  # alpha 3 shines on even seeds, alpha 30 on odd ones
        shines = {3.0: 0, 30.0: 1}.get(record["value"])
        if record["seed"] % 2 == shines:
            record["final_score"] = 1000.0
    write_study(tmp_path, "s", *records)
    (task,) = Evidence(tmp_path).tasks("s", None)
    side = task.subject(None)
    assert side.tuned.scores.max() < 1000
    assert side.chosen == "alphagrad-alpha3 and alphagrad-alpha30"


@pytest.mark.parametrize("drawdown", ["larger", "smaller"])
def test_stability_compares_drawdowns(tmp_path: Path, drawdown: str) -> None:
    records = sweep(90, 20)
    for record in records:
        falls = (record["family"] == "alphagrad") == (drawdown == "larger")
        returns = [0.0, 100.0, 60.0 - record["seed"], 100.0] if falls else list(STEADY)
        record["curve"]["return_mean"] = returns
    write_study(tmp_path, "s", *records)
    rule = {"rule": "stability", "study": "s", "statement": "So", "drawdown": drawdown}
    found = check(tmp_path, Stability.model_validate(rule))
    assert found.verdict is Verdict.REPRODUCED
    assert found.numbers[0].name == f"probability of a {drawdown} drawdown"
    assert [number.value for number in found.numbers[-2:]] == [1, 1]  # each alpha
    rule["drawdown"] = {"larger": "smaller", "smaller": "larger"}[drawdown]
    assert check(tmp_path, Stability.model_validate(rule)).verdict is Verdict.NOT_REPRODUCED


def test_diverged_runs_count(tmp_path: Path) -> None:
    records = sweep(*[100.0] * 6)
    for record in records:
        if record["family"] == "adam" and record["seed"] < 3:
            record |= {"status": "diverged", "reason": "train/value_loss is nan", "steps": 500}
    write_study(tmp_path, "s", *records)
    rule = Stability(rule="stability", study="s", statement="More stable", drawdown="smaller")
    found = check(tmp_path, rule)
    values = {number.name: number.value for number in found.numbers}
    assert found.runs == {"s": 42}
    assert values["share of runs that diverged, Adam"] == 0.5
    assert values["share of runs that diverged, AlphaGrad"] == 0


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [((20, 90, 40, 20, 20, 20), Verdict.REPRODUCED), ((80, 81, 82, 83, 83, 80), "not reproduced")],
)
def test_a_setting_is_critical_if_few_values_are_good(
    tmp_path: Path, scores: Sequence[float], verdict: str
) -> None:
    write_study(tmp_path, "s", *sweep(*scores))
    found = check(tmp_path, Critical(rule="critical", study="s", statement="Choose with care"))
    assert found.verdict == verdict
    assert found.numbers[0].name.startswith("S: share of the range of α, 1 to 300, ")


def test_a_setting_with_which_nothing_was_learned_is_undecided(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(5, 9, 8, returns=[50.0, 20.0, 10.0, 10.0]))
    found = check(tmp_path, Critical(rule="critical", study="s", statement="Choose with care"))
    assert found.verdict is Verdict.UNDECIDED
    assert math.isnan(found.numbers[0].value)


def test_one_value_has_no_range(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(20))
    with pytest.raises(ClaimError, match="should be two or more, all above 0"):
        check(tmp_path, Critical(rule="critical", study="s", statement="Choose with care"))


INTERACTION = Interaction(
    rule="interaction",
    statement="What is best here is not good enough there",
    over=[Subject(study="a"), Subject(study="b"), Subject(study="c")],
)


def write_three(results: Path, others: float) -> None:
    """Studies whose best alpha is 3, 3 and 30."""
    for study, best in (("a", 1), ("b", 1), ("c", 3)):
        scores = [others] * 6
        scores[best] = 200.0
        records = sweep(*scores, environment=study, returns=[0.0] * 4)
        write_study(results, study, *records)


@pytest.mark.parametrize(("others", "verdict"), [(190, "not reproduced"), (100, "reproduced")])
def test_settings_that_lose_less_than_a_tenth_do_not_interact(
    tmp_path: Path, others: float, verdict: str
) -> None:
    write_three(tmp_path, others)
    found = check(tmp_path, INTERACTION)
    assert found.verdict == verdict
    assert len(found.numbers) == 6
    assert found.numbers[0].value == 1  # the ranks alone would tell them apart


def test_interaction_waits_for_all_tasks(tmp_path: Path) -> None:
    write_three(tmp_path, 190)
    over = [*INTERACTION.over, Subject(study="d")]
    found = check(tmp_path, INTERACTION.model_copy(update={"over": over}))
    assert found.verdict is Verdict.UNDECIDED
    assert found.change == "More runs: there are none of study d."


def test_interaction_needs_the_same_values(tmp_path: Path) -> None:
    write_three(tmp_path, 190)
    some = Subject(study="c", subject=Group(family="alphagrad", values=[1, 3]))
    with pytest.raises(ClaimError, match="the same values"):
        check(tmp_path, INTERACTION.model_copy(update={"over": [Subject(study="a"), some]}))


def test_memory_is_read_from_the_state(tmp_path: Path) -> None:
    rule = LessMemory(rule="less_memory", statement="Less", over=[Opponents(study="s")])
    assert check(tmp_path, rule).verdict is Verdict.UNDECIDED
    records = sweep(*[100.0] * 6, seeds=1)
    write_study(tmp_path, "s", *records)
    found = check(tmp_path, rule)
    assert found.verdict is Verdict.REPRODUCED
    assert found.numbers[0].name == "S: bytes of state, as share of Adam's 8 for each element"
    records[-1]["optimizer"]["state_bytes"] = 8000
    write_study(tmp_path, "s", *records)
    found = check(tmp_path, rule)
    assert found.verdict is Verdict.NOT_REPRODUCED
    assert [number.value for number in found.numbers] == [1]


def test_nothing_takes_less_than_no_memory(tmp_path: Path) -> None:
    records = sweep(100.0, seeds=1)
    for record in records:
        record["optimizer"]["state_bytes"] = 0
    write_study(tmp_path, "s", *records)
    rule = LessMemory(rule="less_memory", statement="Less", over=[Opponents(study="s")])
    assert check(tmp_path, rule).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(("size", "verdict"), [(0, "reproduced"), (4, "not reproduced")])
def test_stateless_has_no_bytes(tmp_path: Path, size: int, verdict: str) -> None:
    record = make_record("alphagrad-stateless", 10)
    record["optimizer"]["state_bytes"] = size
    write_study(tmp_path, "s", record, make_record())
    subject = Subject(study="s", subject=Group(family="alphagrad-stateless"))
    rule = Stateless(rule="stateless", statement="None", over=[subject])
    assert check(tmp_path, rule).verdict == verdict


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_a_bound_without_its_factor_is_that_of_alpha_infinity(eps: float) -> None:
    given = {"gap": 1.0, "smoothness": 1.0, "lr": 0.1, "constant": 3.0}
    bound = gradient_norm_bound(**given, steps=10, alpha=0.3, eps=2 * eps)
    record = json.dumps(make_convergence(alpha=0.3, eps=eps, sizes=[2, 3]))
    row = Convergence.model_validate_json(record).series[0]
    without = gradient_norm_bound(**given, steps=10, alpha=math.inf, eps=2 * eps)
    assert without_factor(bound, row) == pytest.approx(without)


@pytest.mark.parametrize(("norm", "verdict"), [(2.0, "reproduced"), (2.1, "not reproduced")])
def test_one_case_above_the_bound_refutes_it(tmp_path: Path, norm: float, verdict: str) -> None:
    bound = Bound(rule="bound", statement="It holds")
    factor = BoundFactor(rule="bound_factor", statement="It needs its factor")
    assert check(tmp_path, bound).verdict is check(tmp_path, factor).verdict is Verdict.UNDECIDED
    bounds = {"bound": [2.0, 2.0], "bound_with_n": [2.0, 30.0]}
    series = {"steps": [10, 20], "min_gradient_norm": [1.0, norm]} | bounds
    (tmp_path / "convergence").mkdir()
    record = json.dumps(make_convergence(**series))
    (tmp_path / "convergence" / "0.json").write_text(record)
    assert check(tmp_path, bound).verdict == verdict
    found = check(tmp_path, factor)
    assert found.verdict is Verdict.REPRODUCED
    assert [number.value for number in found.numbers] == [2, 1]


@pytest.mark.parametrize("practice", [{"momentum": 0.9}, {"noise": 0.1}])
def test_momentum_and_noise_are_judged_apart(tmp_path: Path, practice: dict[str, float]) -> None:
    record = make_convergence()
    record["series"] += make_convergence(**practice, min_gradient_norm=[1.1])["series"]
    (tmp_path / "convergence").mkdir()
    (tmp_path / "convergence" / "0.json").write_text(json.dumps(record))
    assert check(tmp_path, Bound(rule="bound", statement="It holds")).verdict == "reproduced"
    found = check(tmp_path, Bound(rule="bound", statement="So it does", practice=True))
    assert found.verdict == "not reproduced"
    assert found.numbers[0].name == "cases below the bound, of 1"
