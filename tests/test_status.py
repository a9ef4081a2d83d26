"""The status of runs, read back from folders that runs have written."""

import io
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from support.runs import make_run, outcome

from experiments.config import TrackingConfig
from experiments.runs.run import Run
from experiments.runs.status import collect, main, rich_view, run_status


def started(folder: Path, seed: int) -> Run:
    run = make_run(folder, seed=seed, total_steps=1000)
    run.folder.mkdir()
    run.start()
    return run


def at(run: Run, step: int, seconds: float, first_step: int = 0) -> datetime:
    """Let the run report ``step`` as if ``seconds`` had passed since its start."""
    run.first_step = first_step
    run.report("running", step)
    status = run.status
    updated = datetime.fromisoformat(status["started"]) + timedelta(seconds=seconds)
    (run.folder / "status.json").write_text(json.dumps(status | {"updated": updated.isoformat()}))
    return updated


def test_pace_and_time_left_count_from_the_resumption(tmp_path: Path) -> None:
    run = started(tmp_path, 0)
    now = at(run, step=600, seconds=20, first_step=200)
    status = run_status(run.folder, now + timedelta(seconds=5))
    assert status is not None
    assert (status.state, status.steps_per_second, status.seconds_left) == ("running", 20.0, 20.0)
    assert status.task == "dqn-CartPole-v1"


def test_runs_of_a_study_are_counted_by_its_task_and_stage(tmp_path: Path) -> None:
    run = make_run(tmp_path, tracking=TrackingConfig(group="dqn/CartPole-v1/confirm"))
    run.folder.mkdir()
    run.start()
    started(tmp_path, 1)
    tasks = [status.task for status in collect(tmp_path)]
    assert sorted(tasks) == ["dqn-CartPole-v1", "dqn/CartPole-v1/confirm"]


def test_no_time_is_left_beyond_the_last_step(tmp_path: Path) -> None:
    run = started(tmp_path, 0)
    status = run_status(run.folder, at(run, step=1024, seconds=20))
    assert status is not None
    assert (status.state, status.seconds_left) == ("running", 0.0)


def test_a_run_without_a_heartbeat_is_stalled(tmp_path: Path) -> None:
    run = started(tmp_path, 0)
    now = at(run, step=600, seconds=10)
    status = run_status(run.folder, now + timedelta(seconds=121))
    assert status is not None
    assert (status.state, status.seconds_left) == ("stalled", None)


def test_a_pace_means_nothing_at_the_start(tmp_path: Path) -> None:
    run = started(tmp_path, 0)
    status = run_status(run.folder, at(run, step=1, seconds=1))
    assert status is not None
    assert (status.steps_per_second, status.seconds_left) == (None, None)


def test_a_damaged_status_is_told_beside_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started(tmp_path, 0)
    damaged = started(tmp_path, 1)
    (damaged.folder / "status.json").write_text("[]")
    main([f"--runs={tmp_path}", "--once"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dqn-CartPole-v1: 1 running, 1 damaged"
    assert f"{damaged.folder}/status.json: damaged" in lines[2]


@pytest.mark.parametrize("width", [80, 110])
def test_names_stay_whole_in_the_table(width: int, tmp_path: Path) -> None:
    long = make_run(tmp_path, seed=0)
    long.config.environment.id = "module:AnEnvironmentOfALongName-v0"
    runs = [Run(long.config, []), *(make_run(tmp_path, seed=seed) for seed in range(1, 4))]
    for run, state in zip(runs, ("running", "pending", "interrupted", "failed"), strict=True):
        run.folder.mkdir()
        run.report(state, 10)
    console = Console(width=width, file=io.StringIO(), force_terminal=True)
    console.print(rich_view(collect(tmp_path)))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    for run in runs:
        assert run.folder.name in drawn
    assert "dqn-module_AnEnvironmentOfALongName-v0 " in drawn


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"--runs={tmp_path}"])
    assert f"no runs in {tmp_path}" in capsys.readouterr().out
    started(tmp_path, 0).finish(None, outcome())
    started(tmp_path, 1).finish("train/loss is nan at step 70", outcome(steps=70))
    started(tmp_path, 2).fail("OSError: no space", "Traceback ...")
    started(tmp_path, 3)

    main([f"--runs={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "dqn-CartPole-v1: 1 completed, 1 running, 1 diverged, 1 failed"
    assert len(lines) == 4
    assert "seed1" in lines[1]
    assert "diverged at 70 of 1,000 steps: train/loss is nan at step 70" in lines[1]
    assert "failed at 0 of 1,000 steps: OSError: no space" in lines[2]

    main([f"--runs={tmp_path}", "--json"])
    states = [status["state"] for status in json.loads(capsys.readouterr().out)]
    assert states == ["completed", "diverged", "failed", "running"]
