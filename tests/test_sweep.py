"""Sweeps of ``-m`` by a sweeper that searches: Optuna, with the real plugin."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.runs import ROOT, in_process, records

from experiments.config import TrainConfig
from experiments.launch.sweep import one_by_one
from experiments.measures import evaluation_return, training_return
from experiments.views.tracking import SCALARS

SEARCH = [
    *["-m", "hydra/sweeper=optuna", "hydra/launcher=basic"],
    *["hydra.sweeper.n_trials=3", "algorithm=dqn", "environment.id=CartPole-v1"],
    *["total_steps=300", "algorithm.policy_kwargs.net_arch=[8]", "tracking=none"],
    *["evaluation.points=1", "evaluation.episodes=1", "checkpoint.points=0"],
]


@pytest.fixture
def search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # Optuna's log has an earlier stderr

    def command(*arguments: str) -> tuple[int, str, str]:
        return in_process(monkeypatch, capsys, *SEARCH, f"runs={tmp_path}", *arguments)

    return command


@pytest.mark.parametrize("objective", ["training", "evaluation"])
def test_optuna_finds_the_alpha_of_the_highest_score(
    objective: str, search: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    measure = {"training": training_return, "evaluation": evaluation_return}[objective]
    alpha = "optimizer.alpha=tag(log,interval(0.1,100.0))"
    code, output, _ = search("optimizer=alphagrad", alpha, f"objective={objective}")
    assert code == 0
    scores = {r["configuration"]["optimizer"]["alpha"]: measure(r) for r in records(tmp_path)}
    assert len(scores) == 3
    found = tmp_path / ".hydra/optimization_results.yaml"
    assert str(found) in output
    best = yaml.safe_load(found.read_text())
    assert best["best_value"] == max(scores.values())
    assert scores[best["best_params"]["optimizer.alpha"]] == best["best_value"]


def test_a_diverged_run_is_a_failed_trial_and_the_others_count(
    search: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, _ = search(
        "optimizer=sgd",
        "algorithm.learning_rate=1e30,1e-3",
        "hydra/sweeper/sampler=grid",
    )
    assert code == 0
    assert {record["status"] for record in records(tmp_path)} == {"diverged", "completed"}
    found = yaml.safe_load((tmp_path / ".hydra/optimization_results.yaml").read_text())
    assert found["best_params"] == {"algorithm.learning_rate": 1e-3}


def test_without_any_score_a_search_ends_with_1_and_one_line(
    search: Callable[..., tuple[int, str, str]],
) -> None:
    code, _, errors = search(
        "optimizer=sgd", "algorithm.learning_rate=interval(1e29,1e30)", "hydra.sweeper.n_trials=1"
    )
    assert code == 1
    assert "Traceback" not in errors
    assert errors.endswith(
        "no trial has a score: each run has failed or diverged, or ended no episode\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimizer.alpha=interval(-1.0,3.0)"], "Invalid alpha value: -1"),
        (["optimizer.alpha=interval(1.0,3.0)", "seed=0,1,-1"], "seed = -1"),
        (["objective=evaluation", "evaluation.points=0"], "evaluation.points = 0"),
        (["objective=speed"], "objective = 'speed': should be 'training' or 'evaluation'"),
    ],
)
def test_the_ends_of_a_search_are_checked_before_it_starts(
    arguments: list[str],
    words: str,
    search: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    code, output, errors = search("optimizer=alphagrad", *arguments)
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_each_value_of_each_setting_is_looked_at_once_beside_the_others_first() -> None:
    assert list(one_by_one(["a=1", "a=2"], ["b=1"], ["c=1", "c=2", "c=3"])) == [
        *[["a=1", "b=1", "c=1"], ["a=2", "b=1", "c=1"]],
        *[["a=1", "b=1", "c=2"], ["a=1", "b=1", "c=3"]],
    ]


def test_the_sweep_of_wandb_asks_for_runs_that_there_are(
    composed: Callable[..., TrainConfig],
) -> None:
    sweep = yaml.safe_load((ROOT / "configs/wandb_sweep.yaml").read_text())
    _, python, *module, protocol, optimizer, arguments = sweep["command"]
    assert [python, *module, arguments] == [
        *["python", "-m", "experiments.train", "${args_no_hyphens}"]
    ]
    alpha = sweep["parameters"].pop("optimizer.alpha")
    for value in (alpha["min"], alpha["max"]):
        overrides = [f"{name}={spec['values'][0]}" for name, spec in sweep["parameters"].items()]
        config = composed(protocol, optimizer, f"optimizer.alpha={value}", *overrides)
        assert config.tracking.wandb
        assert config.tracking.project == sweep["project"]
    assert sweep["metric"] == {"name": "final_score", "goal": "maximize"}
    assert sweep["metric"]["name"] in SCALARS
