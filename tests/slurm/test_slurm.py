"""Studies and sweeps on a Slurm cluster of two nodes, as a user starts them."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cluster import slurm

ROOT = Path(__file__).parents[2]
SHORT = ["total_steps=2000", "algorithm.learning_starts=200", "evaluation.points=1"]
# Without a checkpoint before its end but for those that a signal asks for.
SLOW = ["checkpoint.points=1", *SHORT]
SLOW_TASK = "+study.tasks.CartPole-v1.environment='slow_environment:Slow-v0'"


def study(
    folder: Path, overrides: list[str], *more: str, **variables: str
) -> subprocess.Popen[str]:
    joined = json.dumps(overrides, separators=(",", ":"))
    arguments = ["study=dqn", "scale=quick", f"overrides={joined}", f"runs={folder}/runs"]
    arguments += [
        f"results={folder}/results",
        "launcher=slurm",
        "launcher.mem_gb=1",
        "stage=tune",
        *more,
    ]
    return start(folder, "study", *arguments, **variables)


def start(folder: Path, module: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    variables = {"SLOW_UNTIL": str(folder / "fast"), "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen(
        [sys.executable, "-u", "-m", f"experiments.{module}", *arguments],
        cwd=ROOT,
        env=os.environ | variables | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something to be true, at most so long."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    return value


def tasks(folder: Path) -> dict[str, Path]:
    """The run folder of each submitted task."""
    found = folder.glob("runs/*/slurm.json")
    known = ((path, json.loads(path.read_text())) for path in found)
    return {content["task"]: path.parent for path, content in known if "task" in content}


def status(run: Path) -> tuple[str, int]:
    """The status of a run, and how far it is."""
    content = status_of(run)
    return content["status"], content["step"]


def status_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "status.json").read_text())
    return content


def under_way(run: Path) -> bool:
    """Whether a run has taken steps, and goes on."""
    return status(run)[0] == "running" and status(run)[1] > 0


def process_of(task: str) -> int:
    """The process that does a task, on either node."""
    array, _, index = task.partition("_")
    variables = {f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={index}"}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "comm").read_text().startswith("python") and variables <= set(
                (path / "environ").read_text().split("\0")
            ):
                return int(path.name)
    raise AssertionError(f"no process of task {task}")


def requeue_soon(process: "subprocess.Popen[str]") -> None:
    """Slurm holds what was requeued for two minutes; release it, with time enough to finish.

    Not in the second in which it was requeued: slurmd would take it for the revoked task, and Slurm
    call it failed.
    """
    released: set[str] = set()
    while process.poll() is None:
        for line in slurm("squeue", "--me", "--array", "-h", "-tPD", "-o%i %r").splitlines():
            task, reason = line.split(maxsplit=1)
            if reason == "BeginTime" and task not in released:
                slurm("scontrol", "update", f"JobId={task}", "StartTime=now+2", "TimeLimit=60")
                released.add(task)
        time.sleep(1)


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/record.json"))]


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in record if name not in ("timing", "provenance")}


def assert_equal(record: dict[str, Any], expected: dict[str, Any]) -> None:
    """Records are long: name the fields that differ."""
    assert [name for name in record if record[name] != expected[name]] == []
    assert record == expected


def test_two_studies_together_submit_each_run_once_and_a_killed_one_goes_on(
    tmp_path: Path, slurm_folder: Path
) -> None:
    more = ["study.quick.values.alphagrad=[1,3,10]", "study.quick.seeds.tune=2", "workers=2"]
    first, second = study(tmp_path, SHORT, *more), study(tmp_path, SHORT, *more)
    wait_until(lambda: len(tasks(tmp_path)) == 8)
    submitted = tasks(tmp_path)
    [array] = {task.partition("_")[0] for task in submitted}
    first.kill()
    second.kill()
    first.communicate()
    second.communicate()

    process = study(tmp_path, SHORT, *more)
    output, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, "")
    assert "8 of 8 runs done, 0 running, 0 failed" in output
    assert len(list(tmp_path.glob("results/quick/records/*.json"))) == 8
    assert tasks(tmp_path) == submitted  # none was submitted twice
    wait_until(lambda: len(completed(slurm_folder, array)) == 8)
    assert set(completed(slurm_folder, array)) == {("COMPLETED", "n1"), ("COMPLETED", "n2")}


def test_what_a_study_submitted_that_was_killed_at_once_is_found_again(tmp_path: Path) -> None:
    """The first study dies between sbatch's answer and its keeping."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sbatch").write_text(
        f'#!/bin/bash\n{shutil.which("sbatch")} "$@" || exit\n'
        'case "$*" in *--parsable*) kill -KILL $PPID ;; esac\n'
    )
    (programs / "sbatch").chmod(0o755)
    before = arrays()
    path = f"{programs}:{os.environ['PATH']}"
    mine = "+launcher.additional_parameters.comment=mine"
    killed = study(tmp_path, SHORT, "study.quick.seeds.tune=1", mine, PATH=path)
    _, errors = killed.communicate()
    assert (killed.returncode, errors) == (-signal.SIGKILL, "")
    [array] = arrays() - before
    assert tasks(tmp_path) == {}

    process = study(tmp_path, SHORT, "study.quick.seeds.tune=1")
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "3 of 3 runs done, 0 running, 0 failed" in output
    assert arrays() - before == {array}


def arrays() -> set[str]:
    """The arrays that Slurm remembers."""
    return set(slurm("squeue", "--me", "--states=all", "-h", "-o%F").split())


def completed(slurm_folder: Path, array: str) -> list[tuple[str, str]]:
    """The last state and the node of each task of an array that has ended."""
    lines = (slurm_folder / "completed.txt").read_text().splitlines()
    return [
        (match[1], match[2])
        for line in lines
        if f"ArrayJobId={array} " in line
        and (match := re.search(r"JobState=(\w+) .*NodeList=(\S+)", line))
    ]


def test_a_preempted_run_is_requeued_and_ends_with_the_same_record(tmp_path: Path) -> None:
    one = ["study.quick.values={adam:[],alphagrad:[3]}", "study.quick.seeds.tune=1"]
    process = study(tmp_path, SLOW, SLOW_TASK, *one)
    [run] = wait_until(lambda: tasks(tmp_path)).values()
    wait_until(lambda: under_way(run))
    slurm("sbatch", "-phigh", "-N2", "--mem=100", "-o/dev/null", "--wrap=sleep 1")
    wait_until(lambda: status(run)[0] == "pending")
    (tmp_path / "fast").touch()
    command = json.loads((run / "provenance.json").read_text())["command"]
    alone = start(tmp_path, "train", *shlex.split(command)[3:], f"runs={tmp_path}/alone")
    requeue_soon(process)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "1 of 1 runs done, 0 running, 0 failed" in output
    [record] = records(tmp_path / "runs")
    [resumption] = record["provenance"]["resumed"]
    assert 0 < resumption["step"] < 2000
    assert resumption["same_episodes"]
    alone.communicate()
    [undisturbed] = records(tmp_path / "alone")
    assert_equal(without_times(record), without_times(undisturbed))


def test_what_became_of_a_task_is_told_by_its_name(tmp_path: Path) -> None:
    process = study(
        tmp_path,
        SLOW,
        SLOW_TASK,
        "study.quick.values.alphagrad=[1,3,10]",
        "study.quick.seeds.tune=1",
    )
    killed, cancelled, pending, _ = sorted(wait_until(lambda: full(tasks(tmp_path), 4)))
    folders = tasks(tmp_path)
    wait_until(lambda: all(under_way(folders[task]) for task in (killed, cancelled)))
    os.kill(process_of(killed), signal.SIGKILL)
    slurm("scancel", pending)
    slurm("scancel", cancelled)
    ended = [folders[task] for task in (killed, cancelled, pending)]
    wait_until(lambda: [status(run)[0] for run in ended] == ["failed"] * 3)
    (tmp_path / "fast").touch()
    output, errors = process.communicate()
    assert process.returncode == 1
    assert "1 of 4 runs done, 0 running, 3 failed" in output
    assert f"its Slurm task {killed} is FAILED" in errors
    assert f"its Slurm task {cancelled} is CANCELLED" in errors
    assert f"its Slurm task {pending} is CANCELLED" in errors
    assert "retry=failed" in errors
    assert "Traceback" not in errors


def full(found: dict[str, Path], number: int) -> dict[str, Path]:
    return found if len(found) == number else {}


def test_an_interrupted_study_leaves_no_task_behind(tmp_path: Path) -> None:
    process = study(tmp_path, SLOW, SLOW_TASK, "study.quick.seeds.tune=1")
    folders = wait_until(lambda: full(tasks(tmp_path), 3))
    wait_until(lambda: sum(under_way(run) for run in folders.values()) == 2)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted" in output
    wait_until(lambda: {status(run)[0] for run in folders.values()} == {"interrupted"})
    wait_until(lambda: not slurm("squeue", "--me", "-h", "--states=PENDING,RUNNING"))


def test_a_task_that_cannot_start_is_told_with_slurms_reason(tmp_path: Path) -> None:
    slurm("scontrol", "update", "PartitionName=high", "State=DOWN")
    try:
        one = ["study.quick.values={alphagrad:[]}", "study.quick.seeds.tune=1"]
        process = study(tmp_path, SHORT, *one, "launcher.partition=high")
        assert process.stdout is not None
        line = next(line for line in process.stdout if "PartitionDown" in line)
        assert "1 pending, 0 failed (Slurm's reason: PartitionDown)" in line
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
    finally:
        slurm("scontrol", "update", "PartitionName=high", "State=UP")


def test_more_runs_than_an_array_may_have_are_split(tmp_path: Path) -> None:
    process = study(
        tmp_path, SHORT, "study.quick.seeds.tune=3", "study.quick.values.alphagrad=[1,3,10]"
    )
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    assert "12 of 12 runs done" in output
    arrays = Counter(task.partition("_")[0] for task in tasks(tmp_path))
    assert sorted(arrays.values()) == [2, 10]  # support/cluster.py: MaxArraySize


def test_a_sweep_goes_on_after_its_time_limit(tmp_path: Path) -> None:
    process = start(
        tmp_path,
        "train",
        *["-m", "protocol=dqn_cleanrl", "environment.id=slow_environment:Slow-v0"],
        *["optimizer=alphagrad,adam", *SLOW, f"runs={tmp_path}"],
        *["hydra/launcher=slurm", "hydra.launcher.mem_gb=1"],
        *["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=10"],
    )
    runs = wait_until(
        lambda: len(found := list(tmp_path.glob("dqn-*/provenance.json"))) == 2 and found
    )
    wait_until(lambda: all(status(path.parent)[0] == "pending" for path in runs))
    (tmp_path / "fast").touch()
    requeue_soon(process)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    resumed = [record["provenance"]["resumed"] for record in records(tmp_path)]
    assert [len(resumptions) for resumptions in resumed] == [1, 1]  # neither disturbed the other


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("launcher.partition=none", "invalid partition"),
        ('overrides=["device=cuda"]', "launcher.gpus_per_node = 0"),
    ],
)
def test_a_mistake_is_one_line(override: str, words: str, tmp_path: Path) -> None:
    process = study(tmp_path, SHORT, override)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert words in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
