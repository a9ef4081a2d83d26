"""Checkpoints of a run: when they are written, how they are kept, and which one is read back.

A checkpoint is a file ``step-<steps>-<digest>.pt``. The digest, the start of the file's SHA-256, is
checked before it is read. A file appears under its name only when it is whole and on the disk, and
the last two are kept: one that is damaged later costs one interval, not the run.
"""

import hashlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

KEPT = 2
NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints in a folder."""

    folder: Path

    def paths(self) -> list[Path]:
        """Return the checkpoints, newest first; what else lies in the folder is left alone."""
        found = [path for path in self.folder.glob("step-*.pt") if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    @property
    def step(self) -> int:
        """The step of the newest checkpoint, unread; 0 if there is none."""
        return max((_step(path) for path in self.paths()), default=0)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of nested plain data and tensors; keep it and the one before.

        Those of later steps go too: they could not be read, or the run would have gone on there.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        digest = hashlib.sha256(content).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".writing"
        saved = self.folder / f"step-{step:012d}-{digest}.pt"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(saved)
        finally:
            temporary.unlink(missing_ok=True)
        before = next((path for path in self.paths() if _step(path) < step), None)
        for path in self.paths():
            if path not in (saved, before):
                _remove(path)

    def load(self) -> dict[str, Any] | None:
        """Return the newest whole checkpoint; pass over each that is not, with a line on it."""
        for path in self.paths():
            try:
                content = path.read_bytes()
                if hashlib.sha256(content).hexdigest()[:16] == path.stem.rpartition("-")[2]:
                    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
                    return state
                reason = "damaged"
            except OSError as error:  # the disk's, or it is a folder
                reason = f"cannot be read: {error.strerror}"
            except Exception as error:  # of another version of torch, say
                reason = f"cannot be loaded: {type(error).__name__}"
            print(f"{path}: {reason}, passed over", file=sys.stderr, flush=True)
        return None

    def delete(self) -> None:
        """Remove the checkpoints, and the folder if nothing else is in it."""
        for path in [*self.paths(), self.folder / ".writing"]:
            _remove(path)
        with suppress(OSError):
            self.folder.rmdir()


def _remove(path: Path) -> None:
    with suppress(OSError):  # it costs space, but no run
        path.unlink()


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


class Checkpoint(BaseCallback):
    """Saves at fixed steps, between two rollouts.

    It has to be the last callback: the others have then done their part at this step, and find
    nothing left to do when the run goes on from here.

    During the training it puts off the signal that Slurm sends before a preemption or a time limit:
    a checkpoint is saved first, then the task leaves and is requeued. A task that has come no
    further since it began is left to Slurm, which requeues what it preempts, and ends what has
    reached its limit.

    Args:
        save: writes a checkpoint.
        interval: environment steps from one checkpoint to the next.
        seconds: save at least this often, whatever the steps.
        preempted: called after such a signal, when the checkpoint has been saved; None leaves the
            signal alone.
    """

    SIGNAL = signal.SIGUSR2

    def __init__(
        self,
        save: Callable[[], None],
        interval: int,
        seconds: float,
        preempted: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self.save = save
        self.interval = interval
        self.seconds = seconds
        self.preempted = preempted
        self.signalled = False

    def _put_off(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def _on_training_start(self) -> None:
        self.first_step = self.model.num_timesteps
        self._plan()
        if self.preempted is not None:
            signal.signal(self.SIGNAL, self._put_off)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {self.SIGNAL})  # one may have come

    def _plan(self) -> None:
        self.due_step = (self.model.num_timesteps // self.interval + 1) * self.interval
        self.due_time = time.monotonic() + self.seconds

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.signalled and self.preempted and self.model.num_timesteps > self.first_step:
            self.signalled = False
            self.save()
            self.preempted()
        if self.model.num_timesteps >= self.due_step or time.monotonic() >= self.due_time:
            self.save()
            self._plan()
