"""What studies plan, and which plans are refused."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support.runs import publish

from experiments.mistakes import ConfigurationError
from experiments.plan import Plan
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
    return config.make_plan()


@cache
def paper(study: str) -> Plan:
    """A committed study with its committed choices, to be read only."""
    return plan(f"study={study}", f"results={ROOT / 'results'}")


def multiples(planned: Plan, task: str, rate: float) -> dict[str, list[tuple[float, float]]]:
    """Of each family's tuned arms on a task, the multiples of a learning rate, and the alphas."""
    families: dict[str, list[tuple[float, float]]] = {}
    for arm in planned.arms:
        if arm.task == task and arm.tune_seeds:
            multiple = round(arm.config.algorithm["learning_rate"] / rate, 3)
            setting = (multiple, arm.config.optimizer.get("alpha", 0))
            families.setdefault(arm.family, []).append(setting)
    return families


@pytest.mark.parametrize(("study", "rate"), [("dqn", 2.5e-4), ("ppo", 3e-4)])
def test_the_papers_studies_tune_the_rivals_as_alphagrad(study: str, rate: float) -> None:
    planned = paper(study)
    extended = (0.1, 0.3) if study == "ppo" else ()  # where the best alpha was an end of the grid
    few = {
        "alphagrad": [(1, alpha) for alpha in (*extended, *ALPHAS)],
        "alphagrad-stateless": [(10, alpha) for alpha in (1, 10, 100)],
    }
    more = {
        "normalized_sgd": [(multiple, 0) for multiple in (1, 3, 10, 100)],
        "sign_sgd": [(multiple, 0) for multiple in (0.01, 0.1, 1)],
    }
    for name, task in planned.tasks.items():
        if task.main is not None:
            continue
        families = multiples(planned, name, rate)
        rates = [multiple for multiple, _ in families.pop("adam")]
        assert (len(rates), min(rates), max(rates)) == (6, 0.1, 10)
        assert 1 in rates
        assert families == (few | more if name in ("CartPole-v1", "HalfCheetah-v4") else few)
    for arm in planned.arms:
        momentum = arm.config.optimizer.get("momentum", 0.9)
        assert momentum == (0 if arm.family == "alphagrad-stateless" else 0.9)
        if study == "ppo":
            clipped = 0.5 if arm.family == "adam" and "unclipped" not in arm.task else None
            assert arm.config.algorithm["max_grad_norm"] == clipped


def test_td3_has_four_rates_of_adam() -> None:
    families = multiples(paper("td3"), "Hopper-v4", 3e-4)
    assert sorted(families) == ["adam", "alphagrad"]
    assert [multiple for multiple, _ in families["adam"]] == [0.333, 1, 3.333, 10]


PLANNED = [  # study, task, environment, steps, seeds of both stages, tuning runs
    ("ppo", "HalfCheetah-v4", "HalfCheetah-v4", 1_000_000, 5, 15, 24 * 5 + 9 * 5),
    ("ppo", "Hopper-v4", "Hopper-v4", 1_000_000, 3, 15, 17 * 3),
    ("ppo", "HalfCheetah-v4-unclipped", "HalfCheetah-v4", 1_000_000, 0, 10, 0),
    ("dqn", "CartPole-v1", "CartPole-v1", 500_000, 7, 20, 22 * 7 + 7 * 3),
    ("dqn", "Acrobot-v1", "Acrobot-v1", 500_000, 5, 20, 15 * 5),
    ("dqn", "CartPole-v1-resets", "CartPole-v1", 500_000, 10, 20, 4 * 10),
    ("td3", "Hopper-v4", "Hopper-v4", 500_000, 3, 10, 3 * 3 + 7 * 5),
]


@pytest.mark.parametrize("study", ["dqn", "td3", "ppo"])
def test_the_papers_studies_have_these_tasks_and_seeds(study: str) -> None:
    planned = paper(study)
    tasks = planned.manifest()["tasks"]
    assert [
        (
            study,
            *(task[field] for field in ("name", "environment", "total_steps")),
            *task["seeds"].values(),
            len(planned.members("tune", task["name"])),
        )
        for task in tasks
    ] == [row for row in PLANNED if row[0] == study]
    for task in tasks:
        assert (task["role"] == "sensitivity") == (task["sensitivity_of"] is not None)
        runs = [member.run.config for member in planned.members("confirm", task["name"])]
        default = planned.config.families["adam"].default
        baseline = [
            run.seed
            for run in runs
            if run.tracking.job_type == "adam" and run.algorithm["learning_rate"] == default
        ]
        assert baseline == list(range(100, 100 + task["seeds"]["confirm"]))
        assert {run.seed for run in runs} == set(baseline)
    for stage, evaluation in (("tune", (20, 5, False)), ("confirm", (20, 10, True))):
        found = [member.run.config.evaluation for member in planned.members(stage)]
        assert {(e.points, e.episodes, e.at_start) for e in found} == {evaluation}


@pytest.mark.parametrize(
    ("study", "task", "overrides"),
    [
        ("dqn", "CartPole-v1-resets", {("environment", "reset_transitions"): True}),
        ("ppo", "HalfCheetah-v4-unclipped", {("algorithm", "max_grad_norm"): None}),
    ],
)
def test_a_sensitivity_is_its_main_task_but_for_its_overrides(
    study: str, task: str, overrides: dict[tuple[str, str], Any]
) -> None:
    planned = paper(study)
    main = planned.tasks[task].main
    arms = {arm.name: arm for arm in planned.arms if arm.task == main}
    own = [arm for arm in planned.arms if arm.task == task]
    assert own
    for arm in own:
        here, there = arm.config.identified(), arms[arm.name].config.identified()
        for (group, setting), value in overrides.items():
            assert here[group].pop(setting) == value
            there[group].pop(setting, None)
        assert here == there


@pytest.mark.parametrize("study", ["dqn", "td3", "ppo"])
def test_the_quick_scale_is_smaller_and_lies_apart(study: str) -> None:
    quick = plan(f"study={study}", "scale=quick")
    assert [arm.name for arm in quick.arms] == ["adam", "alphagrad-alpha3", "alphagrad-alpha10"]
    members = quick.members("tune")
    assert len(members) == 3
    assert {m.record.parent for m in members} == {Path("results/quick/records")}
    assert quick.path == Path(f"results/quick/{study}/study.json")
    assert quick.arms[0].config.total_steps < paper(study).arms[0].config.total_steps


@pytest.mark.parametrize("study", STUDIES)
def test_the_committed_manifest_is_the_plan(study: str) -> None:
    planned = paper(study)
    assert json.loads(planned.path.read_text()) == planned.manifest()


def test_the_committed_records_are_whole_and_of_planned_runs() -> None:
    planned = {
        member.run.identity
        for study in STUDIES
        for stage in ("tune", "confirm")
        for member in paper(study).members(stage)
    }
    for path in (ROOT / "results/records").iterdir():
        record = json.loads(path.read_text())
        assert record.pop("digest") == digest(record), path
        assert path.stem.endswith(f"-{record['identity']}")
        assert record["identity"] in planned, path


ONE_TASK = {"CartPole-v1": {"protocol": "dqn_cleanrl", "total_steps": 20_000}}
TWO_TASKS = {
    "tasks": {
        "CartPole-v1": {"protocol": "dqn_cleanrl", "total_steps": 20_000},
        "swing": {
            "protocol": "dqn_cleanrl",
            "environment": "Acrobot-v1",
            "seeds": {"tune": 3},
            "families": ["adam"],
            "values": {"adam": [1e-3, 1e-4]},
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
    assert (first.family, len(others), len(first.tune_seeds)) == ("adam", 21, 2)
    assert {arm.config.total_steps for arm in (first, *others)} == {20_000}
    swing = [arm for arm in planned.arms if arm.task == "swing"]
    tuned = [arm for arm in swing if arm.tune_seeds]
    assert [arm.name for arm in tuned] == ["adam-lr0.0001", "adam-lr0.001"]
    assert {arm.config.environment.id for arm in swing} == {"Acrobot-v1"}
    assert {arm.config.algorithm["gamma"] for arm in swing} == {0.9}
    seeds = [
        (m.run.config.environment.id, m.run.config.seed) for m in planned.members("tune", "swing")
    ]
    assert seeds == [("Acrobot-v1", seed) for seed in range(3) for _ in tuned]
    manifest = planned.manifest()
    assert [task["name"] for task in manifest["tasks"]] == ["CartPole-v1", "swing"]
    assert manifest["tasks"][1]["environment"] == "Acrobot-v1"
    runs = [run for arm in manifest["arms"] for run in arm["runs"]]
    assert [run["identity"] for run in runs] == [
        arm.run("tune", seed).identity for arm in planned.arms for seed in arm.tune_seeds
    ]
    with pytest.raises(ConfigurationError, match="task = 'cart': should be one of CartPole-v1, sw"):
        planned.members("tune", "cart")


def test_the_baseline_and_the_subject_are_the_first_two_unless_named() -> None:
    planned = plan("study=ppo", "scale=quick")
    assert (planned.baseline, planned.subject) == ("adam", "alphagrad")
    family = {"title": "Lion", "optimizer": "sgd", "tuned": "algorithm.learning_rate"}
    lion = {"lion": family | {"values": [1e-4], "default": 1e-4}}
    alone = plan("study=dqn", families=lion, quick={}, tasks=ONE_TASK)
    assert (alone.baseline, alone.subject) == ("lion", "lion")
    assert [arm.name for arm in alone.arms] == ["lion"]


TWO_STAGES: dict[str, Any] = {
    "tasks": ONE_TASK
    | {"gamma": {"sensitivity_of": "CartPole-v1", "overrides": ["algorithm.gamma=0.9"]}},
    "families": {
        "adam": {
            "title": "Adam",
            "optimizer": "adam",
            "tuned": "algorithm.learning_rate",
            "values": [1e-4, 1e-3],
            "default": 1e-4,
            "short": "lr",
        },
        "alphagrad": {
            "title": "AlphaGrad",
            "optimizer": "alphagrad",
            "tuned": "optimizer.alpha",
            "values": [1, 3, 10],
        },
    },
    "seeds": {"tune": 3, "confirm": 2},
    "quick": {},
}


def two_stages(folder: Path, **changes: Any) -> Plan:
    return plan("study=dqn", f"results={folder}", f"runs={folder}/runs", **TWO_STAGES | changes)


def record_tuning(planned: Plan, folder: Path, family: str, *scores: float) -> None:
    """Publish records of a family's tuning runs; a value's seeds have equal scores."""
    values = [a for a in planned.arms if (a.task, a.family) == ("CartPole-v1", family)]
    for arm, score in zip(values, scores, strict=True):
        for seed in arm.tune_seeds:
            publish(arm.run("tune", seed), folder, score)


def confirmed(planned: Plan) -> list[tuple[str, str, int]]:
    """Task, arm and seed of each confirm run that is known."""
    return [
        (task, member.run.config.optimizer["name"], member.run.config.seed)
        for task in planned.tasks
        for member in planned.members("confirm", task)
    ]


def test_a_family_is_confirmed_once_all_its_values_are_tuned(tmp_path: Path) -> None:
    planned = two_stages(tmp_path)
    seeds, tasks = (100, 101), ("CartPole-v1", "gamma")
    baseline = [(task, "adam", seed) for task in tasks for seed in seeds]
    assert planned.choose() == []
    assert confirmed(planned) == baseline
    assert planned.waiting() == [
        "CartPole-v1: adam waits for 6 tuning runs of CartPole-v1",
        "CartPole-v1: alphagrad waits for 9 tuning runs of CartPole-v1",
        "gamma: alphagrad waits for 9 tuning runs of CartPole-v1",
    ]

    record_tuning(planned, tmp_path, "alphagrad", 10, 30, 20)
    [line] = planned.choose()
    expected = "alphagrad-alpha3 (IQM 30 of 3 seeds, chosen in 100% of resamples)"
    assert line == f"CartPole-v1, alphagrad: chosen is {expected}"
    chosen = [(task, "alphagrad-alpha3", seed) for task in tasks for seed in seeds]
    assert sorted(confirmed(planned)) == sorted(baseline + chosen)
    planned.write()
    # A sensitivity keeps to the baseline's default, and has no tuning runs of its own here.
    record_tuning(planned, tmp_path, "adam", 1, 2)
    assert len(planned.choose()) == 1
    better = [("CartPole-v1", "adam-lr0.001", seed) for seed in seeds]
    assert sorted(confirmed(planned)) == sorted(baseline + chosen + better)
    assert planned.waiting() == []

    planned.write()
    [task, sensitivity] = json.loads(planned.path.read_text())["tasks"]
    assert task["chosen"]["alphagrad"] == {
        "value": 3,
        "arm": "alphagrad-alpha3",
        "by": {
            f"alphagrad-alpha{alpha}": {"iqm": iqm, "seeds": 3, "chosen_share": share}
            for alpha, iqm, share in ((1, 10, 0), (3, 30, 1), (10, 20, 0))
        },
    }
    assert sensitivity["chosen"] == {}
    assert sensitivity["families"] == ["adam", "alphagrad"]
    runs = [
        (arm["task"], arm["name"], run["seed"])
        for arm in json.loads(planned.path.read_text())["arms"]
        for run in arm["runs"]
        if run["stage"] == "confirm"
    ]
    assert sorted(runs) == sorted(confirmed(planned))
    again = two_stages(tmp_path)
    assert again.manifest() == planned.manifest()
    assert again.choose() == []


def test_the_baselines_runs_are_shared_where_its_default_is_chosen(tmp_path: Path) -> None:
    planned = two_stages(tmp_path)
    record_tuning(planned, tmp_path, "adam", 2, 1)
    planned.choose()
    assert [run for run in confirmed(planned) if run[0] == "CartPole-v1"] == [
        ("CartPole-v1", "adam", seed) for seed in (100, 101)
    ]


def test_a_choice_stands_once_a_confirm_run_has_begun(tmp_path: Path) -> None:
    planned = two_stages(tmp_path)
    record_tuning(planned, tmp_path, "alphagrad", 10, 30, 20)
    planned.choose()
    planned.write()
    # More tuning runs, before anything is confirmed: the choice is open again, and made anew.
    more = {"seeds": {"tune": 4, "confirm": 2}}
    longer = two_stages(tmp_path, **more)
    longer.choose()
    assert "CartPole-v1: alphagrad waits for 3 tuning runs of CartPole-v1" in longer.waiting()
    record_tuning(longer, tmp_path, "alphagrad", 10, 20, 30)
    assert "chosen is alphagrad-alpha10 (IQM 30 of 4 seeds" in longer.choose()[0]

    # The same, after one was: in another folder of runs, so that only its record is here.
    [begun] = [
        member.run
        for member in planned.members("confirm", "gamma")
        if (member.run.config.optimizer["name"], member.run.config.seed)
        == ("alphagrad-alpha3", 101)
    ]
    publish(begun, tmp_path, 5)
    longer = two_stages(tmp_path, **more)
    before = longer.manifest()["tasks"][0]["chosen"]
    [line] = longer.choose()
    assert line.startswith("CartPole-v1, alphagrad: alphagrad-alpha3 was chosen and stands")
    assert "by all tuning runs of today it would be alphagrad-alpha10" in line
    assert longer.manifest()["tasks"][0]["chosen"] == before

    families = TWO_STAGES["families"]
    without = families | {"alphagrad": families["alphagrad"] | {"values": [1, 10]}}
    with pytest.raises(ConfigurationError, match="alphagrad-alpha3 of CartPole-v1 was chosen and"):
        two_stages(tmp_path, families=without).choose()


def test_a_run_that_diverged_is_the_worst_and_equal_values_go_to_the_smaller(
    tmp_path: Path,
) -> None:
    planned = two_stages(tmp_path)
    record_tuning(planned, tmp_path, "alphagrad", 10, 30, 10)
    [arm] = [a for a in planned.arms if (a.task, a.name) == ("CartPole-v1", "alphagrad-alpha3")]
    publish(arm.run("tune", 2), tmp_path, 30, status="diverged")
    [line] = planned.choose()
    assert "chosen is alphagrad-alpha1 (IQM 10 of 3 seeds" in line
    [task, _] = planned.manifest()["tasks"]
    assert task["chosen"]["alphagrad"]["by"]["alphagrad-alpha3"]["iqm"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "study.json: damaged"),
        ('{"schema_version": 2, "tasks": [{"name": "x"}]}', "study.json: damaged: not what"),
        ('{"schema_version": 2, "tasks": 3}', "study.json: damaged: not what"),
        (
            '{"schema_version": 2, "tasks": [{"name": "x", "chosen": {"adam": 3}}]}',
            "study.json: damaged: not what",
        ),
    ],
)
def test_a_damaged_manifest_is_named(content: str, words: str, tmp_path: Path) -> None:
    planned = two_stages(tmp_path)
    planned.path.parent.mkdir()
    planned.path.write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        planned.choose()


def test_a_record_without_a_curve_is_named(tmp_path: Path) -> None:
    planned = two_stages(tmp_path)
    record_tuning(planned, tmp_path, "alphagrad", 10, 30, 10)
    path = next((tmp_path / "records").iterdir())
    path.write_text("{}")
    with pytest.raises(ConfigurationError, match=f"{path.name}: damaged"):
        planned.choose()


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
        ({"seeds": {"tune": 101}}, "study.seeds.tune = 101"),
        ({"tasks": {"CartPole-v1": {}}}, "should have either a protocol or an algorithm"),
        ({"tasks": {"CartPole-v1": {"algorithm": "dqm"}}}, "algorithm/dqm"),
        (
            {"tasks": ONE_TASK | {"x": {"sensitivity_of": "y"}}},
            "tasks.x.sensitivity_of: 'y' should be one of CartPole-v1",
        ),
        (
            {"tasks": ONE_TASK | {"x": {"sensitivity_of": "CartPole-v1", "total_steps": 9}}},
            "tasks.x.total_steps = 9: should be left out: CartPole-v1's is taken over",
        ),
        (
            {"tasks": ONE_TASK | {"x": {"sensitivity_of": "CartPole-v1"}}},
            "arm adam of x: the same run as adam of CartPole-v1",
        ),
        (
            {
                "quick": {"tasks": ["x"]},
                "tasks": ONE_TASK | {"x": {"sensitivity_of": "CartPole-v1"}},
            },
            "quick.tasks: x is not without CartPole-v1",
        ),
        (
            {
                "tasks": {
                    "CartPole-v1": {
                        "protocol": "dqn_cleanrl",
                        "more_seeds": [{"family": "adam", "values": [7]}],
                    }
                }
            },
            "tasks.CartPole-v1.more_seeds: 7 is no value of adam",
        ),
        (
            {"tasks": {"CartPole-v1": {"protocol": "dqn_cleanrl", "families": ["lion"]}}},
            "families: 'lion' should be one of",
        ),
        (
            {"families": TWO_STAGES["families"] | {"adm": {"values": [1e-4]}}},
            "families.adm.optimizer is not set; did you mean adam?",
        ),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_a_study_with_a_mistake_is_refused(changes: dict[str, Any], words: str) -> None:
    scale = "quick" if "quick.tasks: x is" in words else "paper"
    with pytest.raises(ConfigurationError) as caught:
        plan("study=dqn", f"scale={scale}", **({"tasks": ONE_TASK} | changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ({"values": [float("nan")]}, "values"),
        ({"values": ["1,2"]}, "values"),
        ({"values": [1, 1.0]}, "the same run as alphagrad-alpha1"),
        ({"values": [2, -1]}, "task CartPole-v1, arm alphagrad-alpha-1: optimizer"),
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
        plan("study=dqn", families=families, quick={}, tasks=ONE_TASK)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trackers_group_runs_by_task_stage_and_family() -> None:
    for arm in paper("ppo").arms:
        for stage, seed in (("tune", 0), ("confirm", 100)):
            run = arm.run(stage, seed)
            assert run.config.tracking.group == f"ppo/{arm.task}/{stage}"
            assert run.config.tracking.job_type == arm.family
            assert f"tracking.group=ppo/{arm.task}/{stage}" in run.overrides
    quick = plan("study=ppo", "scale=quick").arms[0].run("tune", 0).config
    assert quick.tracking.group == "ppo-quick/HalfCheetah-v4/tune"
    mine = plan("study=ppo", "scale=quick", 'overrides=["tracking.group=mine"]').arms[0]
    assert mine.run("confirm", 100).config.tracking.group == "mine"
