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
from scripts.scores import MEASURES
from scripts.verdicts import Check, Verdict

ALPHAS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
STEADY = (0.0, 50.0, 80.0, 100.0)
REPRODUCED, NOT, UNDECIDED = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.UNDECIDED


def duel(
    ours: float, theirs: float = 100.0, seeds: int = 10, **fields: Any
) -> list[dict[str, Any]]:
    """Confirm runs of AlphaGrad at alpha 3 and of Adam; later seeds a little higher."""
    return [
        make_record(family, value, 100 + seed, score=score + seed / 4, stage="confirm", **fields)
        for family, value, score in (("adam", 3e-4, theirs), ("alphagrad", 3.0, ours))
        for seed in range(seeds)
    ]


def sweep(
    *scores: float, rates: Sequence[float] = (100,), seeds: int = 5, **fields: Any
) -> list[dict[str, Any]]:
    """Tuning runs: AlphaGrad at the first alphas and Adam at rates, with a score each."""
    arms = [("adam", 3e-4 * 10**n, rate) for n, rate in enumerate(rates)]
    arms += [("alphagrad", alpha, score) for alpha, score in zip(ALPHAS, scores, strict=False)]
    return [
        make_record(family, value, seed, score=score + seed / 4, **fields)
        for family, value, score in arms
        for seed in range(seeds)
    ]


def check(results: Path, rule: Rule) -> Check:
    """The check of a rule; of one by both measures, which the records hold alike, the first."""
    found = rule.checks(Evidence(results))
    if len(found) > 1:
        assert [each.measure for each in found] == [measure.title for measure in MEASURES]
        assert found[0].verdict is found[1].verdict
    return found[0]


def values(found: Check) -> dict[str, float]:
    return {number.name: number.value for number in found.numbers}


@pytest.mark.parametrize(("ours", "verdict"), [(200.0, REPRODUCED), (50.0, NOT)])
def test_substantially_better(tmp_path: Path, ours: float, verdict: Verdict) -> None:
    write_study(tmp_path, "s", *duel(ours))
    found = check(tmp_path, Substantial(rule="substantial", study="s"))
    assert found.verdict is verdict
    assert found.runs == {"s": 20}
    assert found.p_value is not None
    assert found.p_value < 0.05
    assert found.statement.endswith(": AlphaGrad (alphagrad-alpha3) against Adam (adam)")


def test_better_but_not_substantially(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *duel(1050, 1000))
    found = check(tmp_path, Substantial(rule="substantial", study="s"))
    assert found.numbers[0].value == 1
    assert found.verdict is NOT
    assert values(found)["probability of 10% more gain"] == 0
    assert check(tmp_path, Better(rule="better", study="s")).verdict is REPRODUCED


@pytest.mark.parametrize(
    ("ours", "seeds", "verdict"),
    [(100, 20, REPRODUCED), (100, 5, UNDECIDED), (99, 8, UNDECIDED), (50, 20, NOT)],
)
def test_competitive_is_not_inferior(
    tmp_path: Path, ours: float, seeds: int, verdict: Verdict
) -> None:
    write_study(tmp_path, "s", *duel(ours, seeds=seeds))
    assert check(tmp_path, Competitive(rule="competitive", study="s")).verdict is verdict


def test_equal_scores_are_no_gain(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *duel(100, seeds=20))
    assert check(tmp_path, Substantial(rule="substantial", study="s")).verdict is NOT


def test_four_seeds_decide_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *duel(200, seeds=4))
    found = check(tmp_path, Better(rule="better", study="s"))
    assert found.verdict is UNDECIDED
    assert found.change == "A plan with 5 seeds at least: S has 4."


def test_what_learned_nothing_decides_nothing(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *duel(-5, -9, returns=(10.0, 5.0, 0.0, 0.0)))
    found = check(tmp_path, Better(rule="better", study="s"))
    assert found.verdict is UNDECIDED
    assert found.change == "Runs that learn something: on S neither does."
    failed = [record | {"status": "diverged", "reason": "nan"} for record in duel(50)]
    write_study(tmp_path, "t", *failed)
    for rule in (Better(rule="better", study="t"), Substantial(rule="substantial", study="t")):
        assert check(tmp_path, rule).verdict is UNDECIDED


def test_a_measure_that_was_not_taken_decides_nothing(tmp_path: Path) -> None:
    records = duel(200)
    for record in records:
        record["evaluation"] = {"step": [], "returns": []}
    write_study(tmp_path, "s", *records)
    training, evaluation = Better(rule="better", study="s").checks(Evidence(tmp_path))
    assert training.verdict is REPRODUCED
    assert evaluation.verdict is UNDECIDED
    assert evaluation.change == "Runs with a number: some have no evaluation return."


def test_diverged_runs_are_the_worst(tmp_path: Path) -> None:
    records = duel(500)
    for record in records[10:]:  # AlphaGrad's
        record |= {"status": "diverged", "reason": "train/value_loss is nan"}
    write_study(tmp_path, "s", *records)
    found = check(tmp_path, Better(rule="better", study="s"))
    assert found.numbers[0].value == 0
    assert found.verdict is NOT


@pytest.mark.parametrize("drawdown", ["larger", "smaller"])
def test_stability_compares_drawdowns(tmp_path: Path, drawdown: str) -> None:
    records = [*duel(90), *sweep(90, 20)]
    for record in records:
        falls = (record["family"] == "alphagrad") == (drawdown == "larger")
        fall = 60.0 - record["seed"] % 100
        returns = [0.0, 100.0, fall, 100.0] if falls else list(STEADY)
        record["curve"]["return_mean"] = returns
        record["evaluation"]["returns"] = [[value] for value in returns]
    write_study(tmp_path, "s", *records)
    rule = {"rule": "stability", "study": "s", "statement": "So", "drawdown": drawdown}
    found = check(tmp_path, Stability.model_validate(rule))
    assert found.verdict is REPRODUCED
    assert found.numbers[0].name == f"probability of a {drawdown} drawdown"
    each = [number for number in found.numbers if "tuning runs of" in number.name]
    assert [number.value for number in each] == [1, 1]  # each alpha
    rule["drawdown"] = {"larger": "smaller", "smaller": "larger"}[drawdown]
    assert check(tmp_path, Stability.model_validate(rule)).verdict is NOT


def test_diverged_runs_count_as_unsteady(tmp_path: Path) -> None:
    records = duel(100)
    for record in records[:5]:
        record |= {"status": "diverged", "reason": "train/value_loss is nan", "steps": 500}
    write_study(tmp_path, "s", *records)
    rule = Stability(rule="stability", study="s", statement="More stable", drawdown="smaller")
    found = values(check(tmp_path, rule))
    assert found["share of runs that diverged, adam"] == 0.5
    assert found["share of runs that diverged, alphagrad-alpha3"] == 0
    assert found["probability of a smaller drawdown"] == 0.75


CRITICAL = Critical(rule="critical", study="s", statement="Choose with care")


@pytest.mark.parametrize(
    ("scores", "rates", "verdict"),
    [
        ((20, 90, 20, 20, 20, 20), (90, 90, 90), REPRODUCED),
        ((90, 90, 90, 90, 90, 90), (20, 90, 20), NOT),
        ((90, 90, 90, 90, 90, 90), (90, 90, 90), NOT),  # as good as the control
    ],
)
def test_a_setting_is_critical_if_it_is_good_over_fewer_decades_than_the_control(
    tmp_path: Path, scores: Sequence[float], rates: Sequence[float], verdict: Verdict
) -> None:
    write_study(tmp_path, "s", *sweep(*scores, rates=rates))
    found = check(tmp_path, CRITICAL)
    assert found.verdict is verdict
    assert found.numbers[0].name == "decades of AlphaGrad's α less those of Adam's lr"
    assert found.numbers[2].name == "decades of Adam's lr, S"
    assert found.numbers[0].value == found.numbers[1].value - found.numbers[2].value


def test_a_critical_setting_waits_for_all_tuning_runs(tmp_path: Path) -> None:
    records = sweep(20, 90, 20, 20, 20, 20, rates=(90, 90, 90))
    write_study(tmp_path, "s", *records)
    next(tmp_path.glob(f"records/*{records[-1]['identity']}.json")).unlink()
    found = check(tmp_path, CRITICAL)
    assert found.verdict is Verdict.INCOMPLETE
    assert found.change.endswith("alphagrad-alpha300 (tuning) on HalfCheetah-v4 of s, seeds 4.")


def test_a_setting_with_which_nothing_was_learned_is_undecided(tmp_path: Path) -> None:
    records = sweep(5, 9, 8, rates=(5, 9), returns=[50.0, 20.0, 10.0, 10.0])
    write_study(tmp_path, "s", *records)
    found = check(tmp_path, CRITICAL)
    assert found.verdict is UNDECIDED
    assert math.isnan(found.numbers[0].value)


def test_diverged_settings_decide_nothing(tmp_path: Path) -> None:
    records = sweep(*[50.0] * 6, rates=(90, 90))
    failed = [record | {"status": "diverged", "reason": "nan"} for record in records]
    write_study(tmp_path, "s", *failed)
    assert check(tmp_path, CRITICAL).verdict is UNDECIDED


def test_one_value_is_no_setting_to_choose(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *sweep(20))
    assert check(tmp_path, CRITICAL).change == "A plan: there is none of both in study s."
    families = {"adam": 1.0, "alphagrad": -3.0}
    records = [make_record(name, v * n, 0) for name, v in families.items() for n in (1, 2)]
    write_study(tmp_path, "s", *records)
    with pytest.raises(ClaimError, match="should have values above 0 only"):
        check(tmp_path, CRITICAL)


INTERACTION = Interaction(
    rule="interaction",
    statement="What is best here is not good enough there",
    over=[Subject(study="a"), Subject(study="b"), Subject(study="c")],
)


def write_three(results: Path, others: float, seeds: int = 10) -> None:
    """Studies whose best alpha is 3, 3 and 30, and is confirmed."""
    for study, best in (("a", 3.0), ("b", 3.0), ("c", 30.0)):
        scores = [200.0 if alpha == best else others for alpha in ALPHAS]
        records = sweep(*scores, seeds=8, environment=study, returns=[0.0] * 4)
        records += [
            make_record(
                "alphagrad",
                best,
                100 + seed,
                score=200 + seed / 4,
                environment=study,
                returns=[0.0] * 4,
                stage="confirm",
            )
            for seed in range(seeds)
        ]
        write_study(results, study, *records)


@pytest.mark.parametrize(("others", "verdict"), [(190, NOT), (100, REPRODUCED)])
def test_settings_that_lose_less_than_a_tenth_do_not_interact(
    tmp_path: Path, others: float, verdict: Verdict
) -> None:
    write_three(tmp_path, others)
    found = check(tmp_path, INTERACTION)
    assert found.verdict is verdict
    assert len(found.numbers) == 6
    assert found.numbers[0].value == 1  # the ranks alone would tell them apart
    assert min(number.value for number in found.numbers) == 0.5  # the same value is a tie


def test_interaction_waits_for_all_runs(tmp_path: Path) -> None:
    write_three(tmp_path, 100, seeds=0)
    found = check(tmp_path, INTERACTION)
    assert found.verdict is Verdict.INCOMPLETE
    assert found.exploratory
    assert found.numbers[0].value == 1
    over = [*INTERACTION.over, Subject(study="d")]
    found = check(tmp_path, INTERACTION.model_copy(update={"over": over}))
    assert found.change == "A plan: there is none of both in study d."


def test_interaction_needs_a_value_in_common(tmp_path: Path) -> None:
    for study, alphas in (("a", (1.0, 3.0)), ("b", (10.0, 30.0))):
        records = [make_record("alphagrad", alpha, environment=study) for alpha in alphas]
        write_study(tmp_path, study, *records)
    over = INTERACTION.over[:2]
    with pytest.raises(ClaimError, match="no value of the setting in common"):
        check(tmp_path, INTERACTION.model_copy(update={"over": over}))


def test_memory_is_read_from_the_state(tmp_path: Path) -> None:
    rule = LessMemory(rule="less_memory", statement="Less", over=[Opponents(study="s")])
    assert check(tmp_path, rule).verdict is UNDECIDED
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
