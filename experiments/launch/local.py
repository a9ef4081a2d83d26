"""Runs as processes of this machine."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from experiments.config import Count, Positive, resolve_device
from experiments.launch.launchers import command
from experiments.mistakes import ConfigurationError
from experiments.runs.run import Run, RunBusyError
from experiments.validation import require_device, require_folder

STOP_SECONDS = 30.0
"""How long a process has to leave its files in order when it is interrupted."""
GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Local:
    """Runs as processes of this machine, by default one for each core that this one may use.

    Attributes:
        runs_per_gpu: with ``device=cuda``, how many runs share each GPU that torch finds.
        run_timeout_min: minutes after which a run's process is ended and has failed; null is never.
    """

    runs_per_gpu: Count = 1
    run_timeout_min: Positive | None = None

    def check(self, runs: Sequence[Run]) -> None:
        """Look whether the devices are here, and the folders can be written."""
        for device in {run.config.device for run in runs}:
            require_device(device)
        for folder in {run.config.runs for run in runs}:
            require_folder("runs", folder)

    def places(self, runs: Sequence[Run], workers: int | None) -> Sequence[str | None]:
        """Return the GPU of each run that goes on at a time, in the order of being given out."""
        at_once = workers or len(os.sched_getaffinity(0))
        if any(needs_gpu(run) for run in runs):
            gpus = [str(index) for index in range(torch.cuda.device_count())]
            if visible := os.environ.get(GPUS):
                gpus = visible.split(",")[: len(gpus)]
            return (gpus * self.runs_per_gpu)[:at_once]
        return [None] * at_once

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Do the runs; one that another process is at work on is waited for."""
        waiting = list(runs)
        free = deque(self.places(runs, workers))
        running: list[Task] = []
        try:
            while waiting or running:
                for run in list(waiting):
                    if not free:
                        break
                    with suppress(RunBusyError):  # another study's, or its process outlived one
                        if run.prepare("running"):
                            running.append(Task(run, free.popleft()))
                        waiting.remove(run)
                time.sleep(0.1)
                for task in [task for task in running if self.has_ended(task)]:
                    running.remove(task)
                    free.append(task.place)
        finally:
            for task in running:
                task.process.terminate()
            for task in running:
                task.stop()

    def has_ended(self, task: "Task") -> bool:
        """Return whether a task has come to its end, and see to it that its run has."""
        limit = self.run_timeout_min
        if task.process.poll() is not None:
            task.close(f"its process ended with {task.end()}")
        elif limit is not None and task.seconds > 60 * limit:
            task.process.kill()
            task.process.wait()
            task.close(f"its process was ended after launcher.run_timeout_min = {limit:g} minutes")
        else:
            return False
        return True


class Task:
    """A run's process, started here; what it prints goes to ``output.txt`` in the run's folder.

    Args:
        run: the run, whose folder has been prepared.
        place: the GPU that is given to it, as in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, run: Run, place: str | None) -> None:
        self.run = run
        self.place = place
        self.began = time.monotonic()
        gpu = {GPUS: place} if place is not None and needs_gpu(run) else {}
        with (run.folder / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                [*command(), str(run.folder)],
                env=os.environ | gpu,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the study, which then stops its runs
            )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def close(self, reason: str) -> None:
        """Finish the run's end, or mark it as failed: whatever a process did, it has no record."""
        try:
            if self.run.record is not None:
                self.run.settle()
                return
            failed = self.run.status.get("status") == "failed"
        except ConfigurationError as error:  # it has left damaged files
            reason, failed = str(error), False
        if not failed:
            self.run.fail(reason)

    def stop(self) -> None:
        """Wait for the process, which has been told to end, and kill it if it does not."""
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        status = self.run.status
        if self.run.record is None and status.get("status") == "running":
            self.run.report("interrupted", status["step"])

    def end(self) -> str:
        """Return how the process ended, in words: the signal, or what it printed last."""
        code = self.process.returncode
        if code < 0:
            return signal_name(-code)
        return f"exit code {code}: {last_line(self.run.folder / 'output.txt')}"


def needs_gpu(run: Run) -> bool:
    """Return whether a run is for a GPU, whichever."""
    return resolve_device(run.config.device) == torch.device("cuda")


def signal_name(number: int) -> str:
    """Return a signal's name, which real-time ones do not have."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_line(path: Path) -> str:
    """Return what was printed last to a file, at most a thousand bytes of it."""
    with path.open("rb") as file:
        file.seek(max(os.path.getsize(path) - 1000, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing")
