"""One line for a study while its runs go on, and their records published as they finish."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.runs.run import Run


class Member(Protocol):
    """One run of a study.

    Attributes:
        run: the run.
        record: where its record is published.
    """

    run: Run
    record: Path

    def publish(self) -> bool:
        """Publish the run's record; whether there is one."""


class Watch(threading.Thread):
    """Publishes records as runs finish, and shows one line for the study.

    On a terminal the line is redrawn; elsewhere it is printed when a run has started or ended, and
    once a minute.

    Args:
        label: what to call the study.
        total: runs of the study, with those that have a record already.
        missing: the runs to watch.
    """

    INTERVAL = 1.0
    LINE_INTERVAL = 60.0
    WARM_UP = 15.0  # seconds before a pace means anything

    def __init__(self, label: str, total: int, missing: Sequence[Member]) -> None:
        super().__init__(daemon=True)
        self.label = label
        self.total = total
        self.missing = missing
        self.unpublished = list(missing)
        self.finished = threading.Event()
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            disable=not sys.stdout.isatty(),
        )
        self.task = self.progress.add_task(label, total=len(missing))

    def run(self) -> None:
        """Look at the runs' folders once a second until the watch is left."""
        shown, next_line = "", 0.0
        with self.progress:
            while True:
                last = self.finished.wait(self.INTERVAL)
                try:
                    line, completed, total = self.look()
                    self.progress.update(self.task, completed=completed, total=total)
                except OSError as error:  # the disk is full, say: try again
                    line = f"{self.label}: {error}"
                self.progress.update(self.task, description=line)
                now = time.monotonic()
                if self.progress.disable and (line != shown or now >= next_line):
                    shown, next_line = line, now + self.LINE_INTERVAL
                    print(f"{line}{self.time_left()}", flush=True)
                if last:
                    return

    def look(self) -> tuple[str, float, float]:
        """Publish what is new.

        Returns:
            The study's line; of its work, in runs, what is done and what there is in all, neither
            with what runs had done before they were resumed.
        """
        self.unpublished = [member for member in self.unpublished if not member.publish()]
        unpublished = {member.record for member in self.unpublished}
        # A status from before this study began is that of an interrupted run.
        found = [(member.record, member.run.status) for member in self.missing]
        found = [pair for pair in found if pair[1].get("updated", "") >= self.began]
        earlier = sum(status["first_step"] / status["total_steps"] for _, status in found)
        statuses = [status for record, status in found if record in unpublished]
        count = Counter(status["status"] for status in statuses)
        steps = sum(status["step"] / status["total_steps"] for status in statuses)
        ended = len(self.missing) - len(self.unpublished)
        done = self.total - len(self.unpublished)
        pending = f", {count['pending']} pending" if count["pending"] else ""
        line = (
            f"{self.label}: {done} of {self.total} runs done, {count['running']} running{pending}, "
            f"{count['failed']} failed"
        )
        return line, ended + steps - earlier, len(self.missing) - earlier

    def time_left(self) -> str:
        """The time left at the pace so far, for a plain line."""
        task = self.progress.tasks[self.task]
        elapsed = task.elapsed or 0.0
        if elapsed < self.WARM_UP or task.completed <= 0 or not task.remaining:
            return ""
        left = timedelta(seconds=round(elapsed * task.remaining / task.completed))
        return f", about {left} left"

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.finished.set()
        self.join()
