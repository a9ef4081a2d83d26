"""What studies plan, and which plans are refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.mistakes import ConfigurationError
from experiments.plan import Arm, Plan
from experiments.runs.records import digest
from experiments.study import StudyRunConfig
from experiments.validation import typed

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path.stem for path in (ROOT / "configs/study").glob("*.yaml"))
ALPHAS = (1, 3, 10, 30, 100, 300)


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        yield


def plan(*overrides: str, **changes: Any) -> Plan:
    """The plan that a command line gives; ``changes`` are made to the study, as in its YAML."""
    composed = OmegaConf.to_container(compose("study", list(overrides)), throw_on_missing=True)
    assert isinstance(composed, dict)
    composed["study"] |= changes
    config: StudyRunConfig = typed("", StudyRunConfig, composed)
    return config.plan()


@pytest.mark.parametrize(("study", "seeds"), [("dqn", 10), ("td3", 5), ("ppo", 10)])
def test_the_papers_studies(study: str, seeds: int) -> None:
    planned = plan(f"study={study}")
    extended = (0.1, 0.3) if study == "ppo" else ()  # where the best alpha was an end of the grid
    names = ["adam", *(f"alphagrad-alpha{alpha:g}" for alpha in (*extended, *ALPHAS))]
    assert [arm.name for arm in planned.arms] == names
    pairs = [(m.run.config.optimizer["name"], m.run.config.seed) for m in planned.members()]
    assert pairs == [(name, seed) for seed in range(seeds) for name in names]
    assert len({member.run.identity for member in planned.members()}) == len(pairs)
    for arm in planned.arms:
        optimizer = arm.config.optimizer
        assert optimizer.get("momentum", 0.9) == 0.9
        assert arm.value == optimizer.get("alpha", arm.config.algorithm["learning_rate"])


@pytest.mark.parametrize(("study", "rate"), [("dqn", 2.5e-4), ("td3", 3e-4), ("ppo", 3e-4)])
def test_the_fair_studies_tune_the_rivals_and_share_the_papers_runs(
    study: str, rate: float
) -> None:
    def settings(arm: Arm) -> tuple[float, float]:
        multiple = arm.config.algorithm["learning_rate"] / rate
        return round(multiple, 3), arm.config.optimizer.get("alpha", 0)

    fair = plan(f"study={study}_fair")
    shared = {m.run.identity for m in plan(f"study={study}").members() if m.run.config.seed == 0}
    families: dict[str, list[tuple[float, float]]] = {}
    for arm in fair.arms:
        families.setdefault(arm.family, []).append(settings(arm))
        momentum = arm.config.optimizer.get("momentum", 0.9)
        assert momentum == (0 if arm.family == "alphagrad-stateless" else 0.9)
        scaling = arm.config.optimizer.get("alpha_scaling", "none")
        assert scaling == ("sqrt" if arm.family == "alphagrad-sqrt" else "none")
        if study == "ppo":
            clipped = arm.config.algorithm["max_grad_norm"]
            assert clipped == (0.5 if arm.family in ("adam", "sgd") else None)
        if arm.family in ("adam", "alphagrad") and settings(arm)[0] == 1:
            assert arm.run(0).identity in shared
    rates = [multiple for multiple, _ in families.pop("adam")]
    assert len(rates) == 6
    assert (min(rates), max(rates)) == (0.1, 10)
    assert 1 in rates
    assert families == {
        "alphagrad": [(1, alpha) for alpha in ALPHAS],
        "alphagrad-stateless": [(10, alpha) for alpha in (1, 10, 100)],
        "alphagrad-sqrt": [(1, alpha) for alpha in (0.01, 0.1, 1)],
        "sign_sgd": [(multiple, 0) for multiple in (0.01, 0.1, 1)],
        "normalized_sgd": [(multiple, 0) for multiple in (1, 10, 100)],
        "sgd": [(multiple, 0) for multiple in (1, 10, 100)],
    }


@pytest.mark.parametrize("study", ["dqn", "td3", "ppo"])
def test_the_quick_scale_is_smaller_and_lies_apart(study: str) -> None:
    quick, paper = plan(f"study={study}", "scale=quick"), plan(f"study={study}")
    assert [arm.name for arm in quick.arms] == ["adam", "alphagrad-alpha3", "alphagrad-alpha10"]
    members = quick.members()
    assert len(members) == 6
    assert {m.record.parent for m in members} == {Path("results/quick/records")}
    assert quick.path == Path(f"results/quick/{study}/study.json")
    assert quick.arms[0].config.total_steps < paper.arms[0].config.total_steps


@pytest.mark.parametrize("study", STUDIES)
def test_the_committed_manifest_is_the_plan(study: str) -> None:
    planned = plan(f"study={study}", f"results={ROOT / 'results'}")
    if planned.path.exists():  # a study that has been started
        assert json.loads(planned.path.read_text()) == planned.manifest()


def test_the_committed_records_are_whole_and_of_planned_runs() -> None:
    planned = {
        member.run.identity for study in STUDIES for member in plan(f"study={study}").members()
    }
    for path in (ROOT / "results/records").iterdir():
        record = json.loads(path.read_text())
        assert record.pop("digest") == digest(record), path
        assert path.stem.endswith(f"-{record['identity']}")
        assert record["identity"] in planned, path


TWO_TASKS = {
    "tasks": {
        "CartPole-v1": {"protocol": "dqn_cleanrl", "total_steps": 20_000},
        "swing": {
            "protocol": "dqn_cleanrl",
            "environment": "Acrobot-v1",
            "seeds": {"tune": 3},
            "values": {"adam": [1e-3, 1e-4], "alphagrad": []},
            "overrides": ["algorithm.gamma=0.9"],
        },
    },
    "seeds": {"tune": 2},
}
SETS_ALPHA = {
    "protocol": "dqn_cleanrl",
    "environment": "Acrobot-v1",
    "values": {"adam": []},
    "overrides": ["optimizer.alpha=3"],
}


def test_tasks_differ_in_steps_seeds_values_and_settings() -> None:
    planned = plan("study=dqn", **TWO_TASKS)
    [first, *others] = [arm for arm in planned.arms if arm.task == "CartPole-v1"]
    assert (first.name, len(others), len(first.seeds)) == ("adam", 6, 2)
    assert {arm.config.total_steps for arm in (first, *others)} == {20_000}
    swing = [arm for arm in planned.arms if arm.task == "swing"]
    assert [arm.name for arm in swing] == ["adam-lr0.0001", "adam-lr0.001"]
    assert {arm.config.environment.id for arm in swing} == {"Acrobot-v1"}
    assert {arm.config.algorithm["gamma"] for arm in swing} == {0.9}
    seeds = [(m.run.config.environment.id, m.run.config.seed) for m in planned.members("swing")]
    assert seeds == [("Acrobot-v1", seed) for seed in range(3) for _ in swing]
    manifest = planned.manifest()
    assert [task["name"] for task in manifest["tasks"]] == ["CartPole-v1", "swing"]
    assert manifest["tasks"][1]["environment"] == "Acrobot-v1"
    runs = [run for arm in manifest["arms"] for run in arm["runs"]]
    assert [run["identity"] for run in runs] == [
        arm.run(seed).identity for arm in planned.arms for seed in arm.seeds
    ]
    with pytest.raises(ConfigurationError, match="task = 'cart': should be one of CartPole-v1, sw"):
        planned.members("cart")


def test_the_baseline_and_the_subject_are_the_first_two_unless_named() -> None:
    planned = plan("study=ppo")
    assert (planned.baseline, planned.subject) == ("adam", "alphagrad")
    family = {"title": "Lion", "optimizer": "sgd", "tuned": "algorithm.learning_rate"}
    lion = {"lion": family | {"values": [1e-4], "default": 1e-4}}
    alone = plan("study=ppo", families=lion, quick={})
    assert (alone.baseline, alone.subject) == ("lion", "lion")
    assert [arm.name for arm in alone.arms] == ["lion"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a/b"}, "study.name = 'a/b'"),
        ({"name": "records"}, "study.name = 'records': this folder is taken"),
        ({"seed": 3}, "study.seed = 3: no such setting"),
        ({"seeds": -1}, "study.seeds"),
        ({"seeds": [1, 2]}, "study.seeds"),
        ({"seeds": {"tune": -1}}, "study.seeds.tune = -1"),
        ({"seeds": {"tune": 0}}, "study.seeds.tune = 0"),
        (
            {"quick": {}, "tasks": {"x": SETS_ALPHA}},
            "task x: 'optimizer.alpha=3': families.alphagrad tunes this",
        ),
        ({"tasks": {}}, "tasks: should have at least one"),
        ({"tasks": [1]}, "study.tasks"),
        ({"tasks": {"../x": {"protocol": "dqn_cleanrl"}}}, "study.tasks"),
        ({"tasks": {"CartPol-v1": {"protocol": "dqn_cleanrl"}}}, "CartPol-v1"),
        ({"tasks": {"CartPole-v1": {"protocol": "dqn"}}}, "protocol/dqn"),
        ({"tasks": {"CartPole-v1": {"steps": 3}}}, "no such setting"),
        ({"tasks": {"CartPole-v1": {"protocol": "dqn_cleanrl", "values": {"lion": [1]}}}}, "lion"),
        ({"families": {}}, "families: should have at least one"),
        ({"baseline": "adm"}, "baseline: 'adm' should be one of adam, alphagrad"),
        ({"subject": "lion"}, "subject: 'lion' should be one of"),
        ({"quick": {"tasks": ["x"]}}, "quick.tasks: 'x' should be one of CartPole-v1"),
        ({"quick": {"values": {"x": [1]}}}, "quick.values: 'x' should be one of"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_a_study_with_a_mistake_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan("study=dqn", **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ({"values": [float("nan")]}, "values"),
        ({"values": ["1,2"]}, "values"),
        ({"values": [1, 1.0]}, "the same run as alphagrad-alpha1"),
        ({"values": [2, -1]}, "arm alphagrad-alpha-1 of CartPole-v1: optimizer"),
        ({"values": []}, "task CartPole-v1 has no value of any"),
        ({"tuned": "optimizer.alpah"}, "alpah"),
        ({"optimizer": "adamm"}, "adamm"),
        ({"overrides": ["seed=7"]}, "'seed=7': a study sets this itself"),
        ({"overrides": ["optimizer.name=a"]}, "'optimizer.name=a': a study sets this itself"),
        ({"overrides": ["optimizer.momentum=0,1"]}, "momentum"),
        ({"overrides": ["+optimizer.alpha=1"]}, "families.alphagrad tunes this"),
        ({"tuned": "seed"}, "families.alphagrad.tuned: 'seed': a study sets this itself"),
        ({"overrides": ["optimizer.bets=3"]}, "bets"),
        ({"short": "a/b"}, "families.alphagrad.short"),
        ({"default": None}, "default = null: the baseline should have one"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_family_with_a_mistake_is_refused(family: dict[str, Any], words: str) -> None:
    settings = {"title": "AlphaGrad", "optimizer": "alphagrad", "tuned": "optimizer.alpha"}
    families = {"alphagrad": settings | {"values": [1], "default": 1000} | family}
    with pytest.raises(ConfigurationError) as caught:
        plan("study=dqn", families=families, quick={})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trackers_group_runs_by_task_and_family() -> None:
    for arm in plan("study=ppo").arms:
        assert arm.config.tracking.group == "ppo/HalfCheetah-v4"
        assert arm.config.tracking.job_type == arm.family
    quick = plan("study=ppo", "scale=quick").arms[0].config
    assert quick.tracking.group == "ppo-quick/HalfCheetah-v4"
