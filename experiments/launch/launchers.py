"""Where runs are done: the interface of a launcher, and how one is made from its settings.

A launcher returns when every run has a record or has failed. Each run is a process of its own,
``python -m experiments.train --folder <folder>``, in a folder that was prepared for it: one that
the system kills, for want of memory say, takes no other run with it, is marked as failed, and goes
on from its last checkpoint when it is tried again.
"""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from experiments.config import arguments
from experiments.runs.run import Run
from experiments.validation import check_target


class Launcher(Protocol):
    """Does runs."""

    def check(self, runs: Sequence[Run]) -> None:
        """Look for what would keep the runs from starting; write nothing.

        Raises:
            ConfigurationError: if something would.
        """

    def launch(self, runs: Sequence[Run], workers: int | None) -> None:
        """Do the runs, ``workers`` at a time, and wait for them; stop them when interrupted.

        Raises:
            ConfigurationError: if they cannot be started.
            OSError: if the disk is full, say.
        """


def make_launcher(settings: dict[str, Any]) -> Launcher:
    """Return the launcher of one of ``configs/launcher``.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    launcher: Launcher = check_target("launcher", object, settings, {})(**arguments(settings))
    return launcher


def command() -> list[str]:
    """Return the command that does the run in a folder, whose path is to be added."""
    return [sys.executable, "-u", "-m", "experiments.train", "--folder"]
