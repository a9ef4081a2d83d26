"""Tracking as a user has it: what arrives, what a failure costs, and what never leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.runs import make_run
from support.wandb_files import records_of, wandb_files
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.config import TrackingConfig
from experiments.views.tracking import TensorBoard, Trackers, drop_later_rows, last_step

ROOT = Path(__file__).parents[1]
KEY = "0123456789abcdef" * 2 + "deadbeef"
DQN = ["protocol=dqn_cleanrl", "algorithm.learning_starts=200", "evaluation.episodes=1"]


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *arguments, *DQN, f"runs={folder}"]


def train(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"WANDB_MODE": "online", "NETRC": str(folder / "none")} | variables
    return subprocess.run(
        command(folder, *arguments), cwd=ROOT, env=environment, capture_output=True, text=True
    )


def history(path: Path) -> list[dict[str, Any]]:
    return [r["history"]["item"] for r in records_of(path) if r["type"] == "history"]


def summary(path: Path) -> dict[str, Any]:
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
    found: dict[str, Any] = json.loads(subprocess.check_output(reader))
    return found


def events(folder: Path) -> EventAccumulator:
    [path] = {path.parent for path in folder.glob("tensorboard/*/*/*/events*")}
    return EventAccumulator(str(path)).Reload()


@contextmanager
def refusing_server() -> Iterator[str]:
    class Refuse(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_a_wrong_key_costs_one_warning_and_is_written_nowhere(tmp_path: Path) -> None:
    with refusing_server() as server:
        outcome = train(tmp_path, "total_steps=600", WANDB_API_KEY=KEY, WANDB_BASE_URL=server)
    assert outcome.returncode == 0
    assert "completed" in outcome.stdout
    assert "make wandb-sync" in outcome.stderr
    assert "401" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    [path] = wandb_files(tmp_path)
    assert summary(path)["summary"]["status"] == "completed"
    assert list(tmp_path.glob("wandb/run-*")) == []
    assert KEY not in outcome.stdout + outcome.stderr
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_server_out_of_reach_costs_one_warning(tmp_path: Path) -> None:
    unreachable = "http://127.0.0.1:9"
    outcome = train(tmp_path, "total_steps=600", WANDB_API_KEY=KEY, WANDB_BASE_URL=unreachable)
    assert outcome.returncode == 0
    assert "wandb is offline" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    [path] = wandb_files(tmp_path)
    assert summary(path)["state"] == "finished"


@pytest.mark.slow
def test_a_killed_run_keeps_its_id_and_shows_each_step_once(tmp_path: Path) -> None:
    arguments = ["total_steps=12000", "tracking=both", "optimizer.alpha=10", "evaluation.points=3"]
    environment = os.environ | {"WANDB_MODE": "offline"}
    process = subprocess.Popen(command(tmp_path, *arguments), cwd=ROOT, env=environment)
    early: Path | None = None
    done = 0
    while done < 9000:
        for path in tmp_path.glob("*/checkpoints/step-*.pt"):
            done = max(done, int(path.name.split("-")[1]))
            early = early or Path(shutil.copy(path, tmp_path))
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Go on from an early checkpoint, so that many steps are done twice.
    [checkpoints] = tmp_path.glob("*/checkpoints")
    folder = checkpoints.parent
    shutil.rmtree(checkpoints)
    checkpoints.mkdir()
    assert early is not None
    shutil.copy(early, checkpoints)
    outcome = train(tmp_path, *arguments, WANDB_MODE="offline")
    assert (outcome.returncode, outcome.stderr) == (0, "")

    record = json.loads((folder / "record.json").read_text())
    [resumption] = record["provenance"]["resumed"]
    first, second = wandb_files(tmp_path)
    assert first.name == second.name == f"run-{(folder / 'wandb.id').read_text()}.wandb"
    assert history(first)[-1]["global_step"] > resumption["step"]  # some steps were done twice
    rows = history(first) + history(second)
    for metric in ("rollout/ep_rew_mean", "train/loss", "evaluation/return_mean"):
        steps = [row["global_step"] for row in rows if metric in row]
        assert len(steps) > 1
        assert steps == sorted(set(steps))
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})

    shown = events(tmp_path)
    steps = [scalar.step for scalar in shown.Scalars("rollout/ep_rew_mean")]
    assert steps == sorted(set(steps))
    assert steps[-1] == [row["global_step"] for row in rows if "rollout/ep_rew_mean" in row][-1]


@pytest.mark.slow
def test_what_arrives_from_a_sweep(tmp_path: Path) -> None:
    outcome = train(
        tmp_path,
        *["-m", "total_steps=1500", "optimizer.alpha=1,10", "tracking=both"],
        *["tracking.group=study", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"],
        WANDB_MODE="offline",
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")
    arms = {}
    for path in wandb_files(tmp_path):
        found = summary(path)
        arms[found["config"]["alpha"]] = found
        [run] = [r["run"] for r in records_of(path) if r["type"] == "run"][:1]
        assert run["run_group"] == "study"
        assert run["job_type"] == f"alphagrad-alpha{found['config']['alpha']}"
        [axis] = [r["metric"] for r in records_of(path) if "step_metric" in r.get("metric", {})]
        assert (axis["glob_name"], axis["step_metric"]) == ("*", "global_step")
    assert sorted(arms) == [1, 10]
    for alpha, found in arms.items():
        assert found["state"] == "finished"
        assert found["name"] == f"alphagrad-alpha{alpha}/0"
        assert {"dqn", "CartPole-v1", "AlphaGrad"} <= set(found["tags"])
        config = found["config"]
        assert config["optimizer"]["alpha"] == config["alpha"]
        assert config["provenance"]["versions"]["torch"]
        [record] = [
            json.loads(path.read_text())
            for path in tmp_path.glob(f"*{config['identity']}/record.json")
        ]
        assert found["summary"]["final_score"] == pytest.approx(record["final_score"])
        assert found["summary"]["global_step"] == 1500
        assert any(key.startswith("diagnostics/saturated_share/") for key in found["summary"])
        [folder] = tmp_path.glob(f"tensorboard/study/alphagrad-alpha{alpha}/seed0-*")
        shown = EventAccumulator(str(folder)).Reload()
        assert "evaluation/return_mean" in shown.Tags()["scalars"]
        assert "_hparams_/session_start_info" in shown.summary_metadata
    assert len({found["run_id"] for found in arms.values()}) == 2


def test_a_tracker_that_fails_is_left_out_after_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def log(self, row: dict[str, float], step: int) -> None:
            raise OSError(28, f"No space left on device {KEY}")

        def finish(self, record: dict[str, Any] | None) -> None:
            raise AssertionError("is not called again")

    run = make_run(tmp_path, tracking=TrackingConfig(wandb=False))
    with Trackers(run) as trackers:
        trackers.trackers["wandb"] = Broken()
        for step in range(3):
            trackers.write({"train/loss": 1.0}, {}, step)
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "wandb is off" in errors
    assert "No space left" in errors
    assert KEY not in errors


def test_tracking_is_no_part_of_a_runs_identity(tmp_path: Path) -> None:
    plain = make_run(tmp_path)
    tracked = make_run(tmp_path, tracking=TrackingConfig(tensorboard=True), keep_model=True)
    assert plain.identity == tracked.identity


def test_a_wandb_folder_without_a_file_counts_as_nothing_logged(tmp_path: Path) -> None:
    assert last_step(tmp_path) == -1
    (tmp_path / "run-0123.wandb").touch()
    assert last_step(tmp_path) == -1


def test_tensorboard_has_each_step_once_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(first_step: int, steps: range, clock: float) -> None:
        monkeypatch.setattr(time, "time", lambda: clock)
        run = make_run(tmp_path, tracking=TrackingConfig(wandb=False, tensorboard=True))
        run.folder.mkdir(exist_ok=True)
        run.start()
        run.first_step = first_step
        tensorboard = TensorBoard(run)
        for step in steps:
            tensorboard.log({"loss": step + first_step / 1000}, step)
        tensorboard.finish(None)

    log(0, range(1, 60), clock=2e9)
    log(40, range(41, 80), clock=1e9)  # killed at 60, goes on from 40, and the clock went back
    log(70, range(71, 90), clock=1e9)
    assert len(list(tmp_path.glob("tensorboard/*/*/*/*tfevents*"))) == 1
    shown = events(tmp_path)
    scalars = shown.Scalars("loss")
    assert [scalar.step for scalar in scalars] == [*range(1, 90)]
    firsts = [0] * 40 + [40] * 30 + [70] * 19
    expected = [step + first / 1000 for step, first in zip(range(1, 90), firsts, strict=True)]
    assert [scalar.value for scalar in scalars] == pytest.approx(expected)
    assert scalars[0].wall_time == 2e9
    assert "_hparams_/session_start_info" in shown.summary_metadata


PROGRESS = """time/total_timesteps,train/loss,rollout/ep_rew_mean
100,,20.5
200,0.5,21.0
300,0.25,22.0
"""


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (PROGRESS, PROGRESS.rpartition("300")[0]),
        (PROGRESS.rpartition("0.25")[0], PROGRESS.rpartition("300")[0]),  # cut short by a kill
        (PROGRESS.replace("300,", "\0\0\0"), PROGRESS.rpartition("300")[0]),
        (PROGRESS.partition("\n")[0] + "\n", PROGRESS.partition("\n")[0] + "\n"),
        ("", ""),
        ("anything else", "anything else"),
    ],
)
def test_progress_loses_the_rows_that_come_again(tmp_path: Path, content: str, left: str) -> None:
    path = tmp_path / "progress.csv"
    path.write_text(content)
    drop_later_rows(path, 200)
    assert path.read_text() == left
