"""Where the runs of a study are done: in processes of this machine, or as tasks of a Slurm cluster.

A launcher returns when every run has a record or has failed. Each run is a process of its own: one
that the system kills, for want of memory say, takes no other run with it, is marked as failed, and
goes on from its last checkpoint when it is tried again.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

import submitit
import torch
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError

from experiments.config import (
    ConfigurationError,
    Count,
    Index,
    Positive,
    TrainConfig,
    arguments,
    check_target,
    require_device,
    resolve_device,
)
from experiments.launch.slurm import ENDED, INTERVAL, Queue, SlurmError, slurm, task_states
from experiments.runs.run import REPOSITORY, Run, RunBusyError, read_json, write_json
from experiments.train import BUSY, execute


class Launcher(Protocol):
    """Does runs."""

    def check(self, runs: Sequence[Run]) -> None:
        """Look for what would keep the runs from starting.

        Raises:
            ConfigurationError: if something would.
        """

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Do the runs, ``workers`` at a time, and wait for them; stop them when interrupted."""


def make_launcher(settings: dict[str, Any]) -> Launcher:
    """The launcher of one of ``configs/launcher``.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    launcher: Launcher = check_target("launcher", settings, {})(**arguments(settings))
    return launcher


@dataclass(frozen=True)
class Local:
    """Runs as processes of this machine, by default one for each core that this one may use.

    Attributes:
        runs_per_gpu: with ``device=cuda``, how many runs share each GPU that torch finds.
    """

    runs_per_gpu: Count = 1

    def check(self, runs: Sequence[Run]) -> None:
        """Look whether the devices are here."""
        for device in {run.config.device for run in runs}:
            require_device(device)

    def places(self, runs: Sequence[Run], workers: int | None) -> list[str | None]:
        """The GPU of each run that goes on at a time, in the order of being given out."""
        places: list[str | None] = [None]
        at_once = workers or len(os.sched_getaffinity(0))
        if any(needs_gpu(run) for run in runs):
            places = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
            return (places * self.runs_per_gpu)[:at_once]
        return places * at_once

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Do the runs; one that another process is at work on is waited for."""
        waiting = list(runs)
        free = deque(self.places(runs, workers))
        running: list[tuple[Run, str | None, subprocess.Popen[bytes]]] = []
        try:
            while waiting or running:
                for run in list(waiting):
                    if not free:
                        break
                    with suppress(RunBusyError):  # another study's, or its process outlived one
                        if run.announce():
                            place = free.popleft()
                            running.append((run, place, start_process(run, place)))
                        waiting.remove(run)
                time.sleep(0.1)
                for task in list(running):
                    run, place, process = task
                    if (code := process.poll()) is None:
                        continue
                    running.remove(task)
                    free.append(place)
                    if code == BUSY:  # another process has just taken it
                        waiting.append(run)
                    elif code and not run.ended:
                        run.fail(f"its process ended with {end_of(run, code)}", "")
        finally:
            for _, _, process in running:
                process.terminate()
            for _, _, process in running:
                process.wait()


def needs_gpu(run: Run) -> bool:
    """Whether a run is for a GPU, whichever."""
    return resolve_device(run.config.device) == torch.device("cuda")


def start_process(run: Run, place: str | None) -> "subprocess.Popen[bytes]":
    """Start a run; what it prints goes to ``output.txt`` in its folder."""
    device = [f"device={place}"] if needs_gpu(run) else []
    command = [sys.executable, "-m", "experiments.train", *run.overrides, *device]
    with (run.folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )


def end_of(run: Run, code: int) -> str:
    """How a run's process ended, in words: the signal, or what it printed last."""
    if code < 0:
        return signal.Signals(-code).name
    lines = (run.folder / "output.txt").read_text(errors="replace").splitlines()
    return f"exit code {code}: {lines[-1] if lines else 'it printed nothing'}"


class Task:
    """A run as a task of Slurm, begun again by submitit after a preemption or a time limit."""

    def __call__(self, config: TrainConfig, overrides: list[str]) -> str:
        """Train, from the last checkpoint on; returns a line on what became of it."""
        run = Run(config, overrides)
        while True:
            try:
                require_device(config.device)
                return execute(run)
            except ConfigurationError as error:
                run.fail(str(error), "")
                return str(error)
            except RunBusyError:  # a node that failed may hold its lock for minutes
                time.sleep(INTERVAL)

    def checkpoint(self, config: TrainConfig, overrides: list[str]) -> DelayedSubmission:
        """What submitit calls the next time: the same, the run has its own checkpoint."""
        return DelayedSubmission(self, config, overrides)


@dataclass(frozen=True)
class Slurm:
    """Runs as tasks of a Slurm job array. Names as in submitit, see its documentation.

    Attributes:
        partition: of the cluster; null is its default.
        account: to be charged; null is the user's default.
        timeout_min: minutes after which a task is requeued, to go on from a checkpoint.
        mem_gb: memory of a task.
        cpus_per_task: CPU cores of a task; a run computes on one.
        gpus_per_node: GPUs of a task; at least one for ``device=cuda``.
        signal_delay_s: seconds before the time limit at which a checkpoint is saved.
        max_num_timeout: how often a task may reach its time limit.
        additional_parameters: whatever else ``sbatch`` takes: ``{qos: low, gres: shard:1}``.
    """

    partition: str | None = None
    account: str | None = None
    timeout_min: Count = 1440
    mem_gb: Positive = 4
    cpus_per_task: Count = 1
    gpus_per_node: Index = 0
    signal_delay_s: Count = 120
    max_num_timeout: Index = 100
    additional_parameters: dict[str, Any] = field(default_factory=dict)

    def check(self, runs: Sequence[Run]) -> None:
        """Look whether there is a Slurm, and whether it is asked for the GPUs that are needed."""
        devices = {run.config.device.partition(":")[0] for run in runs}
        if "auto" in devices:
            raise ConfigurationError("device = 'auto': with launcher=slurm it must be cpu or cuda")
        if "cuda" in devices and not (self.gpus_per_node or "gres" in self.additional_parameters):
            raise ConfigurationError(
                "launcher.gpus_per_node = 0: device=cuda needs at least 1, "
                "or gres in launcher.additional_parameters"
            )
        try:
            task_states()
        except SlurmError as error:
            raise ConfigurationError(f"launcher = slurm: {error}") from error

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Submit the runs that no earlier call has in the queue, and wait for all."""
        queued = {task for task, state in task_states().items() if state not in ENDED}
        tasks = {task: run for run in runs if (task := submitted_task(run)) in queued}
        for run in tasks.values():
            if run.status["status"] == "pending":  # as before, but now for this study
                run.report("pending", run.status["step"])
        new = [run for run in runs if run not in tasks.values()]
        try:
            tasks |= self.submit(new, workers)
            wait(tasks)
        finally:
            if tasks:
                slurm("scancel", *tasks)

    def submit(self, runs: Sequence[Run], workers: int | None) -> dict[str, Run]:
        """Put runs into the queue; returns them by their tasks.

        Raises:
            ConfigurationError: if sbatch refuses them.
        """
        if not runs:
            return {}
        folder = Path(runs[0].config.runs) / ".slurm" / "%j"
        executor = submitit.AutoExecutor(
            folder, cluster="slurm", slurm_max_num_timeout=self.max_num_timeout
        )
        executor.update_parameters(
            name="alphagrad",
            timeout_min=self.timeout_min,
            mem_gb=self.mem_gb,
            cpus_per_task=self.cpus_per_task,
            gpus_per_node=self.gpus_per_node or None,
            slurm_partition=self.partition,
            slurm_account=self.account,
            slurm_signal_delay_s=self.signal_delay_s,
            slurm_array_parallelism=workers or len(runs),
            slurm_additional_parameters=self.additional_parameters,
        )
        for run in runs:
            run.report("pending", run.status.get("step", 0))
        configs, overrides = [run.config for run in runs], [run.overrides for run in runs]
        try:
            with redirect_stderr(StringIO()):  # the error has it too
                jobs = executor.map_array(Task(), configs, overrides)
        except (FailedJobError, FailedSubmissionError) as error:
            for run in runs:
                (run.folder / "status.json").unlink()
            raise ConfigurationError(f"launcher: {' '.join(str(error).split())}") from error
        tasks = {job.job_id: run for job, run in zip(jobs, runs, strict=True)}
        for task, run in tasks.items():
            write_json(run.folder / "slurm.json", {"task": task})
        return tasks


def submitted_task(run: Run) -> str | None:
    """The task as which a run was submitted last."""
    submitted = read_json(run.folder / "slurm.json") or {}
    return submitted.get("task")


def wait(tasks: dict[str, Run]) -> None:
    """Take tasks out as their runs end; a run whose task ends without a word has failed."""
    queue = Queue()
    while tasks:
        time.sleep(1)
        for task, state in queue.ended(tasks).items():
            run = tasks[task]
            if not run.ended:
                log = Path(run.config.runs, ".slurm", task, f"{task}_0_log.err")
                run.fail(f"its Slurm task {task} is {state}; its log is {log}", "")
        for task in [task for task, run in tasks.items() if run.ended]:
            del tasks[task]
