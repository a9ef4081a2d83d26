"""The line that is shown for many runs while they go on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.runs import make_run, outcome

from experiments.launch.progress import Pace, Watch, time_left
from experiments.launch.sweep import Job
from experiments.runs.run import Run


def jobs(folder: Path, number: int) -> list[Job]:
    return [Job(make_run(folder, seed=seed, total_steps=1000)) for seed in range(number)]


def at(run: Run, status: str, step: int, first_step: int = 0, reason: str | None = None) -> None:
    run.first_step = first_step
    run.report(status, step, reason)


def test_work_counts_from_the_resumption_and_a_failed_run_has_none_left(tmp_path: Path) -> None:
    members = jobs(tmp_path, 4)
    resumed, new, failed, _ = (job.run for job in members)
    watch = Watch("dqn", 6, members)
    assert watch.look() == ("dqn: 2 of 6 runs done, 0 running, 0 failed", 0, 4)
    at(resumed, "running", 750, first_step=500)
    at(new, "running", 250)
    assert watch.look() == ("dqn: 2 of 6 runs done, 2 running, 0 failed", 0.5, 3.5)
    at(failed, "failed", 500)
    assert watch.look() == ("dqn: 2 of 6 runs done, 2 running, 1 failed", 1.0, 3.0)
    resumed.finish(None, outcome())
    assert watch.look() == ("dqn: 3 of 6 runs done, 1 running, 1 failed", 1.25, 3.0)


def test_what_was_left_from_before_does_not_count(tmp_path: Path) -> None:
    members = jobs(tmp_path, 2)
    at(members[0].run, "running", 500)
    status = members[0].run.status
    before = (datetime.now(UTC) - timedelta(hours=1)).isoformat(timespec="seconds")
    path = members[0].run.folder / "status.json"
    path.write_text(json.dumps(status | {"updated": before}))
    assert Watch("dqn", 2, members).look() == ("dqn: 0 of 2 runs done, 0 running, 0 failed", 0, 2)


def test_a_run_that_hangs_and_one_that_cannot_start_are_told(tmp_path: Path) -> None:
    members = jobs(tmp_path, 2)
    watch = Watch("dqn", 2, members)
    watch.began -= timedelta(hours=1)
    at(members[0].run, "running", 500)
    path = members[0].run.folder / "status.json"
    silent = (datetime.now(UTC) - timedelta(minutes=10)).isoformat(timespec="seconds")
    path.write_text(json.dumps(members[0].run.status | {"updated": silent}))
    at(members[1].run, "pending", 0, reason="Slurm's reason: PartitionTimeLimit")
    line, _, _ = watch.look()
    assert line == (
        "dqn: 0 of 2 runs done, 0 running, 1 stalled, 1 pending, 0 failed "
        "(Slurm's reason: PartitionTimeLimit)"
    )


@pytest.mark.parametrize(("minutes", "printed"), [(0.0, 3), (1.0, 1)])
def test_off_a_terminal_a_line_that_stays_is_printed_once_a_minute(
    minutes: float,
    printed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = Watch("dqn", 4, [])
    monkeypatch.setattr(watch, "LINE_INTERVAL", 60 * minutes)
    ends = iter([False, False, True])
    monkeypatch.setattr(watch.finished, "wait", lambda seconds: next(ends))
    watch.run()
    assert capsys.readouterr().out == "dqn: 4 of 4 runs done, 0 running, 0 failed\n" * printed


def test_the_time_left_waits_for_work_and_does_not_jump_when_more_processes_start() -> None:
    pace = Pace()
    assert [pace.left(0.0, 4.0, now) for now in (0, 100)] == [None, None]
    assert [pace.left(0.01, 4.0, now) for now in (101, 102)] == [None, None]
    assert pace.left(0.21, 4.0, 121) == pytest.approx(379)
    # No work is done while the next processes start: the estimate grows by little.
    assert pace.left(0.21, 4.0, 124) == pytest.approx(436, abs=1)
    assert pace.left(4.0, 4.0, 500) == 0


def test_the_time_left_in_words() -> None:
    assert time_left(None) == ""
    assert time_left(125.4) == ", about 0:02:05 left"
