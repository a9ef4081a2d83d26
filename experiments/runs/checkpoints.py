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
        """The checkpoints, newest first."""
        found = [path for path in self.folder.glob("step-*.pt") if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: path.name, reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of nested plain data and tensors; drop all but the last two."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        digest = hashlib.sha256(content).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".writing"
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / f"step-{step:012d}-{digest}.pt")
        finally:
            temporary.unlink(missing_ok=True)
        for path in self.paths()[KEPT:]:
            path.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest whole checkpoint; each damaged one is reported in a line and passed over."""
        for path in self.paths():
            content = path.read_bytes()
            match = NAME.fullmatch(path.name)
            assert match is not None
            if hashlib.sha256(content).hexdigest()[:16] == match[2]:
                state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
                return state
            print(f"{path}: damaged, passed over", file=sys.stderr, flush=True)
        return None

    def delete(self) -> None:
        """Remove the checkpoints and the folder."""
        for path in [*self.paths(), self.folder / ".writing"]:
            path.unlink(missing_ok=True)
        if self.folder.exists():
            self.folder.rmdir()


class Checkpoint(BaseCallback):
    """Saves at fixed steps, between two rollouts.

    It has to be the last callback: the others have then done their part at this step, and find
    nothing left to do when the run goes on from here.

    During the training it puts off the signal that Slurm sends before a preemption or a time limit:
    a checkpoint is saved first, then submitit's handler is called, which requeues the task.

    Args:
        save: writes a checkpoint.
        interval: environment steps from one checkpoint to the next.
        seconds: save at least this often, whatever the steps.
        interrupted: called after such a signal, when the checkpoint has been saved.
    """

    SIGNAL = signal.SIGUSR2

    def __init__(
        self,
        save: Callable[[], None],
        interval: int,
        seconds: float,
        interrupted: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.save = save
        self.interval = interval
        self.seconds = seconds
        self.interrupted = interrupted
        self.signalled = False

    def _put_off(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def _on_training_start(self) -> None:
        self._plan()
        self.handler = signal.getsignal(self.SIGNAL)
        if callable(self.handler):
            signal.signal(self.SIGNAL, self._put_off)

    def _on_training_end(self) -> None:
        if callable(self.handler):
            signal.signal(self.SIGNAL, self.handler)

    def _plan(self) -> None:
        self.due_step = (self.model.num_timesteps // self.interval + 1) * self.interval
        self.due_time = time.monotonic() + self.seconds

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.signalled:
            self.save()
            self.interrupted()
            assert callable(self.handler)
            self.handler(self.SIGNAL, None)
        if self.model.num_timesteps >= self.due_step or time.monotonic() >= self.due_time:
            self.save()
            self._plan()
