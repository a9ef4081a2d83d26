"""Runs and processes for tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments.config import EnvironmentConfig, TrainConfig
from experiments.runs.run import Run
from experiments.runs.writing import write_json
from experiments.train import main

ROOT = Path(__file__).parents[2]
TINY = ["total_steps=1200", "algorithm.learning_starts=200", "evaluation.points=0"]
"""What makes a run of DQN on CartPole last a second."""


def make_run(folder: Path, **changes: Any) -> Run:
    """Return a run of DQN whose folder is in ``folder``."""
    config = TrainConfig(
        algorithm={"_target_": "stable_baselines3.DQN", "name": "dqn", "gamma": 0.99},
        environment=EnvironmentConfig(id="CartPole-v1"),
        optimizer={"_target_": "torch.optim.Adam", "name": "adam", "eps": 1e-8},
        runs=str(folder),
        **changes,
    )
    return Run(config, ["seed=3"])


def outcome(**changes: Any) -> dict[str, Any]:
    """Return a record's fields that a training gives, as far as they are read again."""
    timing = {"wall_seconds": 1.0, "steps_per_second": 1000.0}
    return {"steps": 1000, "final_score": None, "timing": timing} | changes


def publish(run: Run, results: Path, value: float = 100.0, status: str = "completed") -> Path:
    """Publish a record of a run in which all episodes had one return; return its path."""
    steps = run.config.total_steps
    record = {
        "schema_version": 1,
        "identity": run.identity,
        "status": status,
        "configuration": run.config.identified(),
        "curve": {"step": [steps / 2, steps], "episodes": [3, 3], "return_mean": [value, value]},
        "timing": {"wall_seconds": 7200.0, "steps_per_second": steps / 7200},
    }
    path = results / "records" / f"{run.folder.name}.json"
    write_json(path, record)
    return path


def start_module(
    module: str, *arguments: str, folder: Path = ROOT, **variables: str
) -> "subprocess.Popen[str]":
    """Start a module of the project from a folder, as a user does from elsewhere."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background with SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run_module(
    module: str, *arguments: str, folder: Path = ROOT, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run a module of the project to its end."""
    process = start_module(module, *arguments, folder=folder, **variables)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def in_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Do as the command does, without the seconds that a process takes; code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["experiments/train.py", *arguments])
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    return code, *capsys.readouterr()


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/record.json"))]
