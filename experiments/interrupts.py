"""Ctrl-C, SIGTERM and SIGHUP: one line, exit code 130, whenever they come.

Until a program is at work, that is during its imports, and when its work is done, it ends at once.
At work it raises `Interrupted` where it is, so that it can leave its files in order. This module
imports nothing that takes time: `experiments` installs it before all else.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants this process to end. An environment may raise its base.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int | None = None) -> None:
        super().__init__()
        self.number = number


def install() -> None:
    """End this process at once when it is interrupted, but for signals that it ignores: nohup's.

    Slurm's warning, which would end it too, waits until `experiments.runs.checkpoints` listens.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` within; what comes after that, while files are left in order, is ignored.

    Does nothing in another thread than the main one, where Python allows no handlers.
    """
    try:
        earlier = {
            number: signal.signal(number, _interrupt)
            for number in SIGNALS
            if signal.getsignal(number) != signal.SIG_IGN
        }
    except ValueError:
        earlier = {}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def ignore_interruptions() -> None:
    """Let nothing of the kind disturb what this process does at its end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(EXIT_CODE)


def _interrupt(number: int, frame: FrameType | None) -> None:
    ignore_interruptions()
    raise Interrupted(number)
