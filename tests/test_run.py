"""A run's folder: atomic files, standard JSON, and what the files say."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.config import EnvironmentConfig, TrainConfig
from experiments.runs.files import read_json, write_json, write_text
from experiments.runs.run import Run, RunBusyError


def make_run(folder: Path, **changes: Any) -> Run:
    config = TrainConfig(
        algorithm={"_target_": "stable_baselines3.DQN", "name": "dqn", "gamma": 0.99},
        environment=EnvironmentConfig(id="CartPole-v1"),
        optimizer={"_target_": "torch.optim.Adam", "name": "adam", "eps": 1e-8},
        runs=str(folder),
        **changes,
    )
    return Run(config, ["seed=3"])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": math.nan})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert read_json(path) == {"value": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_a_folder_names_the_run_for_people_and_by_identity(tmp_path: Path) -> None:
    run = make_run(tmp_path, seed=3)
    assert run.folder == tmp_path / f"dqn-CartPole-v1-adam-seed3-{run.identity}"
    assert len(run.identity) == 12


def test_what_a_run_leaves(tmp_path: Path) -> None:
    run = make_run(tmp_path, seed=3)
    assert run.record is None
    assert run.status == {}
    run.folder.mkdir()
    run.start()
    assert run.status["status"] == "running"
    run.report("running", 500)
    assert run.status["step"] == 500
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["seed"] == 3
    record = run.finish(None, {"steps": 1000, "final_score": None})
    assert run.record == record
    assert run.status["status"] == "completed"
    assert record["schema_version"] == 1
    assert record["arm"] == "adam"
    assert record["configuration"]["optimizer"] == {"_target_": "torch.optim.Adam", "eps": 1e-8}
    provenance = record["provenance"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["command"].startswith("python -m experiments.train")
    assert provenance["started"] <= provenance["finished"]
    assert provenance == json.loads((run.folder / "provenance.json").read_text()) | {
        "finished": provenance["finished"]
    }


def test_a_failure_keeps_step_reason_and_traceback_until_the_next_start(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    run.start()
    run.report("running", 123)
    run.fail("OSError: no space", "Traceback ...")
    assert run.record is None
    assert (run.status["status"], run.status["step"]) == ("failed", 123)
    assert run.status["reason"] == "OSError: no space"
    assert (run.folder / "traceback.txt").read_text() == "Traceback ..."
    run.start()
    assert not (run.folder / "traceback.txt").exists()


def test_a_run_is_locked_by_one_process_and_free_when_that_dies(tmp_path: Path) -> None:
    code = (
        "import sys, experiments.runs.run, tests.test_run as t; from pathlib import Path\n"
        "with t.make_run(Path(sys.argv[1])).lock(): print('locked', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    holder = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    run = make_run(tmp_path)
    with pytest.raises(RunBusyError, match=str(run.folder)), run.lock():
        pass
    holder.kill()
    holder.communicate()
    with run.lock(), pytest.raises(RunBusyError), make_run(tmp_path).lock():
        pass
