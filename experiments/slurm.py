"""What Slurm says of tasks, by ``squeue``: unlike ``sacct`` it needs no accounting database."""

import subprocess
import time

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


class QueueWatcher(SlurmInfoWatcher):
    """Tells submitit which jobs are at their end."""

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """The state of a job; ``PENDING`` stands for all that are not at their end."""
        return self.get_info(job_id, mode).get("State", "PENDING")

    def update(self) -> None:
        """Look at the queue; a Slurm that does not answer is asked again the next time."""
        self._last_status_check = time.time()
        try:
            states = task_states()
        except SlurmError:
            return
        for job in self._registered:
            state = states.get(job, UNKNOWN)
            ended = state in (*ENDED, UNKNOWN)
            self._info_dict[job] = {"State": state if ended else "PENDING"}
