"""What Slurm says of tasks, by ``squeue``: unlike ``sacct`` it needs no accounting database."""

import subprocess
import time
from collections.abc import Iterable

from submitit.slurm.slurm import SlurmInfoWatcher

ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "TIMEOUT"),
}
UNKNOWN = "forgotten by Slurm"
"""The state of a task that squeue lists no more: it ended more than MinJobAge ago."""
INTERVAL = 10.0
"""Seconds from one look at the queue to the next; all tasks are seen in one look."""


class SlurmError(Exception):
    """A command of Slurm's failed; the text is one line."""


def slurm(*command: str) -> str:
    """What a command of Slurm's prints.

    Raises:
        SlurmError: if it fails, or is not there.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SlurmError(f"there is no {command[0]} here: this is no Slurm cluster") from error
    except subprocess.CalledProcessError as error:
        raise SlurmError(" ".join(error.stderr.split())) from error
    return done.stdout


def task_states() -> dict[str, str]:
    """The state of each of this user's tasks that Slurm remembers.

    Its keys are ``<job>`` or, in an array, ``<job>_<index>``.

    Raises:
        SlurmError: if Slurm does not answer.
    """
    lines = slurm("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i|%T")
    return dict(line.split("|") for line in lines.split())


class Queue:
    """Looks at the queue from time to time, for tasks that are at their end."""

    def __init__(self) -> None:
        self.next_look = 0.0
        self.ended_before: set[str] = set()

    def ended(self, tasks: Iterable[str]) -> dict[str, str]:
        """The states of those tasks that two looks in a row have found at their end.

        One look is not enough: a task that is being requeued seems to have ended. A Slurm that does
        not answer, while it is restarted say, is asked again the next time.
        """
        if time.monotonic() < self.next_look:
            return {}
        self.next_look = time.monotonic() + INTERVAL
        try:
            states = task_states()
        except SlurmError:
            return {}
        ended = {task: states.get(task, UNKNOWN) for task in tasks}
        ended = {task: state for task, state in ended.items() if state in (*ENDED, UNKNOWN)}
        confirmed = {task: state for task, state in ended.items() if task in self.ended_before}
        self.ended_before = set(ended)
        return confirmed


class QueueWatcher(SlurmInfoWatcher):
    """Tells submitit, in Hydra's launcher, which jobs are at their end."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()

    def update(self) -> None:
        """Look at the queue, if it is time to."""
        for job, state in self.queue.ended(self._registered).items():
            self._info_dict[job] = {"State": state}
