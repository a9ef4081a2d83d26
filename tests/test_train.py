"""One run, as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
TINY = {
    "dqn_cleanrl": ["total_steps=1200", "algorithm.learning_starts=200"],
    "td3_cleanrl": ["total_steps=700", "algorithm.learning_starts=500"],
    "ppo_cleanrl": ["total_steps=6200", "algorithm.n_epochs=1"],
}
FIELDS = {
    *("schema_version", "identity", "status", "reason", "arm", "seed", "configuration", "steps"),
    *("curve", "final_score", "final_episodes", "evaluation", "metrics", "optimizer", "timing"),
    *("diagnostics", "provenance"),
}


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.train", *arguments, f"runs={folder}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/record.json"))]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_run_of_each_protocol_leaves_its_record(protocol: str, tmp_path: Path) -> None:
    arguments = [
        f"protocol={protocol}",
        *["optimizer=alphagrad", "optimizer.alpha=10", "seed=3"],
        *["evaluation.points=2", "evaluation.episodes=1", *TINY[protocol]],
    ]
    outcome = train(tmp_path, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    assert "completed" in outcome.stdout
    [record] = records(tmp_path)
    assert set(record) == FIELDS
    total = record["configuration"]["total_steps"]
    assert record["status"] == "completed"
    assert record["arm"] == "alphagrad-alpha10"
    assert record["steps"] == (6144 if protocol == "ppo_cleanrl" else total)
    assert len(record["evaluation"]["step"]) == 2
    assert all(len(returns) == 1 for returns in record["evaluation"]["returns"])
    assert sum(record["curve"]["episodes"]) >= record["final_episodes"] > 0
    assert len(record["curve"]["step"]) == 200
    # Momentum keeps one fp32 number for each parameter.
    assert record["optimizer"]["state_bytes"] == 4 * record["optimizer"]["parameters"] > 0
    assert any("loss" in name for name in record["metrics"])
    progress = pd.read_csv(next(tmp_path.glob("*/progress.csv")))
    assert "rollout/ep_rew_mean" in progress

    again = train(tmp_path, *arguments)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert records(tmp_path) == [record]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_run_is_determined_by_its_configuration(protocol: str, tmp_path: Path) -> None:
    arguments = [f"protocol={protocol}", "optimizer=adam", "evaluation.points=1", *TINY[protocol]]
    pair = []
    for name in ("first", "second"):
        assert train(tmp_path / name, *arguments).returncode == 0
        [record] = records(tmp_path / name)
        assert record["optimizer"]["state_bytes"] == 8 * record["optimizer"]["parameters"]
        del record["timing"], record["provenance"]
        pair.append(record)
    assert pair[0] == pair[1]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_diverged_run_is_a_result(protocol: str, tmp_path: Path) -> None:
    outcome = train(
        tmp_path,
        *[f"protocol={protocol}", "optimizer=sgd", "algorithm.learning_rate=1e30"],
        *["evaluation.points=0", *TINY[protocol]],
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Traceback" not in outcome.stdout + outcome.stderr
    [record] = records(tmp_path)
    assert record["status"] == "diverged"
    assert f"at step {record['steps']}" in record["reason"]
    assert 0 < record["steps"] <= record["configuration"]["total_steps"]


@pytest.mark.slow
def test_a_sweep_is_checked_before_it_starts_and_runs_in_parallel(tmp_path: Path) -> None:
    sweep = ["-m", "protocol=dqn_cleanrl", "optimizer=alphagrad", *TINY["dqn_cleanrl"]]
    sweep += ["evaluation.points=0", "seed=range(2)", "hydra/launcher=joblib"]
    refused = train(tmp_path, *sweep, "optimizer.alpha=1,10,-1")
    assert refused.returncode == 2
    assert "Invalid alpha value: -1" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

    outcome = train(tmp_path, *sweep, "optimizer.alpha=1,10")
    assert outcome.returncode == 0, outcome.stderr
    arms = [(record["arm"], record["seed"]) for record in records(tmp_path)]
    assert sorted(arms) == [
        ("alphagrad-alpha1", 0),
        ("alphagrad-alpha1", 1),
        ("alphagrad-alpha10", 0),
        ("alphagrad-alpha10", 1),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["protocol=dqn_cleanrl", "optimizer.alpha=-1"], "Invalid alpha value: -1"),
        (["protocol=dqn_cartpol"], "protocol/dqn_cartpol"),
        (["algorithm=td3", "environment.id=CartPole-v1"], "Discrete"),
        (["protocol=ppo_cleanrl", "total_steps=9"], "total_steps = 9"),
        (["protocol=dqn_cleanrl", "device=cuda:99"], "device = 'cuda:99': torch finds"),
        (["protocol=dqn_cleanrl", "seed=range(2)"], "seed"),
        (["protocol=dqn_cleanrl", "optimizer.alpha"], "optimizer.alpha"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_created(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    outcome = train(tmp_path, *arguments)
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_raises_leaves_its_traceback(tmp_path: Path) -> None:
    outcome = train(
        tmp_path,
        *["algorithm=ppo", "environment.id=CartPole-v1", "total_steps=4096"],
        *["algorithm.batch_size=64", "algorithm.n_steps=64", "algorithm.ent_coef=high"],
    )
    assert outcome.returncode == 1
    assert "failed: TypeError" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "Traceback" in next(tmp_path.glob("*/traceback.txt")).read_text()
    assert json.loads(next(tmp_path.glob("*/status.json")).read_text())["status"] == "failed"
