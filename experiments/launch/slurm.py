"""Runs as tasks of a Slurm cluster: job arrays, submitted by sbatch and watched by squeue.

Unlike ``sacct``, ``squeue`` needs no accounting database. A task that Slurm preempts, or that comes
near its time limit, saves a checkpoint and is requeued (experiments/runs/checkpoints.py).
"""

import os
import re
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from experiments.config import Count, Index, Positive
from experiments.endings import one_line
from experiments.interrupts import Interrupted
from experiments.launch.launchers import command
from experiments.mistakes import ConfigurationError
from experiments.runs.reading import read_json
from experiments.runs.run import Run, RunBusyError
from experiments.runs.writing import write_json
from experiments.validation import require_folder

FILE = "slurm.json"
"""In a run's folder: the task as which it was submitted last."""
INTERVAL = 10.0
"""Seconds from one look at the queue to the next; all tasks are seen in one look."""
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "TIMEOUT"),
}
WAITING = {
    *("None", "Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning"),
    *("Reservation", "Licenses", "Prolog"),
}
"""Slurm's reasons that pass by themselves; others are told, for the task may never start."""


class SlurmError(Exception):
    """A command of Slurm's failed; the text is one line."""


class State(NamedTuple):
    """What Slurm says of a task: its state, why it is pending, and our comment on its array."""

    name: str
    reason: str = ""
    comment: str = ""


FORGOTTEN = State("forgotten by Slurm")
"""The state of a task that squeue lists no more: it ended more than MinJobAge ago."""


def slurm(*arguments: str, script: str | None = None) -> str:
    """Return what a command of Slurm's prints.

    Raises:
        SlurmError: if it fails, or is not there.
    """
    try:
        done = subprocess.run(arguments, input=script, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SlurmError(f"there is no {arguments[0]} here: this is no Slurm cluster") from error
    except subprocess.CalledProcessError as error:
        raise SlurmError(one_line(error.stderr)) from error
    return done.stdout


def task_states() -> dict[str, State]:
    """Return the state of each of this user's tasks that Slurm remembers.

    Its keys are ``<job>`` or, in an array, ``<job>_<index>``.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    columns = "--format=%i|%T|%r|%k"
    listed = slurm("squeue", "--me", "--array", "--states=all", "--noheader", columns)
    rows = [line.split("|", 3) for line in listed.splitlines()]
    # Of another job's comment that has several lines, only the first begins a row.
    return {row[0]: State(*row[1:]) for row in rows if len(row) == 4}


def requeue_task() -> None:
    """Put the task that this process does back into the queue.

    Raises:
        SlurmError: if Slurm refuses.
    """
    # Not by SLURM_JOB_ID: that of an array's last task stands for all its tasks.
    job, index = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
    slurm("scontrol", "requeue", f"{job}_{index}")


@dataclass(frozen=True)
class Slurm:
    """Runs as tasks of Slurm job arrays.

    Attributes:
        partition: of the cluster; null is its default.
        account: to be charged; null is the user's default.
        timeout_min: minutes after which a task is requeued, to go on from a checkpoint.
        mem_gb: memory of a task.
        cpus_per_task: CPU cores of a task; a run computes on one.
        gpus_per_node: GPUs of a task; at least one for ``device=cuda``.
        signal_delay_s: seconds before the time limit at which a checkpoint is saved.
        additional_parameters: whatever else ``sbatch`` takes: ``{qos: low, gres: shard:1}``.
    """

    partition: str | None = None
    account: str | None = None
    timeout_min: Count = 1440
    mem_gb: Positive = 4
    cpus_per_task: Count = 1
    gpus_per_node: Index = 0
    signal_delay_s: Count = 120
    additional_parameters: dict[str, Any] = field(default_factory=dict)

    def check(self, runs: Sequence[Run]) -> None:
        """Look whether there is a Slurm that would take such tasks."""
        devices = {run.config.device.partition(":")[0] for run in runs}
        if "auto" in devices:
            raise ConfigurationError("device = 'auto': with launcher=slurm it must be cpu or cuda")
        if "cuda" in devices and not (self.gpus_per_node or "gres" in self.additional_parameters):
            raise ConfigurationError(
                "launcher.gpus_per_node = 0: device=cuda needs at least 1, "
                "or gres in launcher.additional_parameters"
            )
        for folder in {run.config.runs for run in runs}:
            require_folder("runs", folder)
        try:
            task_states()
            if runs:
                self.sbatch(runs[:1], 1, "--test-only")
        except SlurmError as error:
            raise ConfigurationError(f"launcher = slurm: {error}") from error

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Submit the runs that no earlier call has in the queue, and wait for all."""
        tasks: dict[str, Run] = {}
        try:
            with submission_lock(Path(runs[0].config.runs)):
                states = task_states()
                queued = {task for task, state in states.items() if state.name not in ENDED}
                tasks |= {
                    task: run for run in runs if (task := submitted_task(run, states)) in queued
                }
                for run in tasks.values():
                    if run.status["status"] == "pending":  # as before, but now for this study
                        run.report("pending", run.status["step"])
                self.submit([run for run in runs if run not in tasks.values()], workers, tasks)
            wait(tasks)
        except Interrupted as interruption:
            if interruption.number == signal.SIGHUP:  # the terminal is lost: they go on
                tasks.clear()
            raise
        finally:
            if tasks:
                cancel(tasks)

    def submit(self, runs: Sequence[Run], workers: int | None, tasks: dict[str, Run]) -> None:
        """Put runs into the queue, in arrays as large as the cluster takes, and into ``tasks``.

        Raises:
            SlurmError: if sbatch refuses them.
        """
        new = [run for run in runs if _prepared(run)]
        size = max_array_size()
        arrays = [new[first : first + size] for first in range(0, len(new), size)]
        for array in arrays:
            at_once = max((workers or len(new)) // len(arrays), 1)
            submission = secrets.token_hex(8)
            for index, run in enumerate(array):  # a kill may come before sbatch's answer is kept
                write_json(run.folder / FILE, {"submission": submission, "index": index})
            job = self.sbatch(array, at_once, "--parsable", submission).strip().partition(";")[0]
            for index, run in enumerate(array):
                tasks[f"{job}_{index}"] = run
                write_json(run.folder / FILE, {"task": f"{job}_{index}"})

    def sbatch(self, runs: Sequence[Run], at_once: int, how: str, submission: str = "") -> str:
        """Submit runs as one array; return what sbatch prints.

        Args:
            runs: the runs.
            at_once: how many are done at a time.
            how: ``--parsable``, or ``--test-only``.
            submission: what the array's comment ends in, by which its tasks are found again.

        Raises:
            SlurmError: if sbatch refuses them.
        """
        options: dict[str, Any] = {
            "job-name": "alphagrad",
            "array": f"0-{len(runs) - 1}%{at_once}",
            "output": "/dev/null",  # a run's is in its folder
            "requeue": None,
            "time": self.timeout_min,
            "signal": f"USR2@{self.signal_delay_s}",
            "mem": f"{self.mem_gb * 1024:.0f}M",
            "cpus-per-task": self.cpus_per_task,
        }
        if self.partition is not None:
            options["partition"] = self.partition
        if self.account is not None:
            options["account"] = self.account
        if self.gpus_per_node:
            options["gpus-per-node"] = self.gpus_per_node
        options |= {name.replace("_", "-"): v for name, v in self.additional_parameters.items()}
        options["comment"] = f"{options.get('comment', '')} {submission}".strip()
        given = [f"--{name}" + ("" if v is None else f"={v}") for name, v in options.items()]
        return slurm("sbatch", how, *given, script=self.script(runs))

    def script(self, runs: Sequence[Run]) -> str:
        """Return the batch script, in which a task finds its run's folder by its index."""
        folders = "\n".join(shlex.quote(str(run.folder)) for run in runs)
        srun = ["srun", "--unbuffered", f"--cpus-per-task={self.cpus_per_task}"]
        return (
            f"#!/bin/bash\nfolders=(\n{folders}\n)\n"
            'folder="${folders[SLURM_ARRAY_TASK_ID]}"\n'
            f'{shlex.join(srun)} {shlex.join(command())} "$folder" --task '
            '>> "$folder/output.txt" 2>&1\n'
        )


def _prepared(run: Run) -> bool:
    try:
        return run.prepare("pending")
    except RunBusyError:  # its task waits until the other process has ended
        return True


def submission_lock(runs: Path) -> FileLock:
    """Return what keeps two studies that are started together from submitting a run twice."""
    runs.mkdir(parents=True, exist_ok=True)
    return FileLock(runs / ".slurm.lock")


def submitted_task(run: Run, states: Mapping[str, State]) -> str | None:
    """Return the task as which a run was submitted last; None if it never was.

    Args:
        run: the run.
        states: of the tasks that Slurm remembers. A study that was killed before it kept sbatch's
            answer is known by the comment only.
    """
    submitted = read_json(run.folder / FILE) or {}
    if "submission" not in submitted:
        return submitted.get("task")
    found = (
        task
        for task, state in states.items()
        if state.comment.endswith(submitted["submission"])
        and task.endswith(f"_{submitted['index']}")
    )
    return next(found, None)


def max_array_size() -> int:
    """Return how many tasks the cluster takes in one array.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", slurm("scontrol", "show", "config"), re.M)
    return int(found[1]) if found else 1000


class Queue:
    """Looks at the queue from time to time."""

    def __init__(self) -> None:
        self.next_look = 0.0
        self.ended_before: set[str] = set()

    def look(self, tasks: Iterable[str]) -> dict[str, State]:
        """Return the states of tasks; nothing if it is not yet time, or Slurm does not answer.

        A task has ended when two looks in a row say so, and is left out until then: one that is
        being requeued seems to have ended.
        """
        if time.monotonic() < self.next_look:
            return {}
        self.next_look = time.monotonic() + INTERVAL
        try:
            found = task_states()
        except SlurmError:  # while it is restarted, say
            return {}
        states = {task: found.get(task, FORGOTTEN) for task in tasks}
        ended = {task for task, state in states.items() if has_ended(state)}
        unconfirmed = ended - self.ended_before
        self.ended_before = ended
        return {task: state for task, state in states.items() if task not in unconfirmed}


def has_ended(state: State) -> bool:
    """Return whether a task in this state runs no more."""
    return state.name in ENDED or state == FORGOTTEN


def wait(tasks: dict[str, Run]) -> None:
    """Take tasks out as their runs end; a run whose task ends without a record has failed."""
    queue = Queue()
    while tasks:
        time.sleep(1)
        for task, state in queue.look(tasks).items():
            run = tasks[task]
            if has_ended(state) and not run.ended:
                if state == FORGOTTEN and run.status["status"] == "pending":
                    state = State("CANCELLED")  # Slurm forgets at once what has never run
                run.fail(f"its Slurm task {task} is {state.name}; see {run.folder / 'output.txt'}")
            elif state.name == "PENDING" and state.reason not in WAITING:
                tell_reason(run, f"Slurm's reason: {state.reason}")
        for task in [task for task, run in tasks.items() if run.ended]:
            tasks.pop(task).settle()


def tell_reason(run: Run, reason: str) -> None:
    """Say in a pending run's status why it does not start."""
    status = run.status
    if status["status"] == "pending" and status["reason"] != reason:
        run.report("pending", status["step"], reason)


def cancel(tasks: Mapping[str, Run]) -> None:
    """Take tasks out of the queue; those at work leave their files in order.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    slurm("scancel", *tasks)
    for run in tasks.values():
        status = run.status
        if status.get("status") == "pending":
            run.report("interrupted", status["step"])
