"""One line for many runs while they go on, and their records published as they finish."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from rich.live import Live
from rich.text import Text

from experiments.endings import one_line
from experiments.mistakes import ConfigurationError
from experiments.runs.run import Run
from experiments.runs.status import RunStatus, run_status


class Member(Protocol):
    """One run of a study or of a sweep.

    Attributes:
        run: the run.
    """

    run: Run

    def publish(self) -> bool:
        """Publish the run's record; return whether there is one."""


class Pace:
    """Estimates the time left from the work done so far.

    The clock starts when work is first seen to be done, since processes start slowly.
    """

    WARM_UP = 15.0
    """Seconds before a pace means anything."""
    LEAST = 1e-4
    """Share of all work before a pace means anything."""

    def __init__(self) -> None:
        self.start: tuple[float, float] | None = None

    def left(self, done: float, total: float, now: float) -> float | None:
        """Return the seconds left, if it can be said.

        Args:
            done: work done so far, in any unit.
            total: work in all.
            now: the time in seconds.
        """
        if self.start is None:
            self.start = (now, done) if done > 0 else None
            return None
        seconds, work = now - self.start[0], done - self.start[1]
        if seconds < self.WARM_UP or work <= self.LEAST * total or done >= total:
            return None
        return seconds * (total - done) / work


class Watch(threading.Thread):
    """Publishes records as runs finish, and shows one line for all; a context manager.

    On a terminal the line is redrawn; elsewhere it is printed when a run has started or ended, and
    once a minute.

    Args:
        label: what to call the study.
        total: runs of the study, with those that have a record already.
        members: the runs to watch.
    """

    INTERVAL = 1.0
    LINE_INTERVAL = 60.0

    def __init__(self, label: str, total: int, members: Sequence[Member]) -> None:
        super().__init__(daemon=True)
        self.label = label
        self.total = total
        self.members = members
        self.unpublished = list(members)
        self.finished = threading.Event()
        self.began = datetime.now(UTC).replace(microsecond=0)
        self.pace = Pace()
        self.earlier: dict[int, float] = {}  # what runs had done before, by their place

    def run(self) -> None:
        """Look at the runs' folders once a second until the watch is left."""
        shown, next_line = "", 0.0
        with Live(auto_refresh=False) as live:
            while True:
                last = self.finished.wait(self.INTERVAL)
                now = time.monotonic()
                try:
                    line, done, total = self.look()
                    seconds = self.pace.left(done, total, now)
                except (OSError, ConfigurationError) as error:  # the disk is full, say: try again
                    line, seconds = one_line(f"{self.label}: {error}"), None
                ending = time_left(seconds)
                if sys.stdout.isatty():
                    live.update(Text(line + ending), refresh=True)
                elif line != shown or now >= next_line:
                    shown, next_line = line, now + self.LINE_INTERVAL
                    print(line + ending, flush=True)
                if last:
                    return

    def look(self) -> tuple[str, float, float]:
        """Publish what is new.

        Returns:
            The study's line; of its work, in runs, what is done and what there is in all, neither
            with what runs had done before they were resumed, nor with what failed runs left undone.
        """
        self.unpublished = [member for member in self.unpublished if not member.publish()]
        unpublished = {id(member) for member in self.unpublished}
        counts: Counter[str] = Counter()
        reasons = set()
        done = total = 0.0
        for place, member in enumerate(self.members):
            status = self._status(member.run)
            fraction = 0.0
            if status is not None:
                fraction = status.step / status.total_steps
                self.earlier.setdefault(place, status.first_step / status.total_steps)
            earlier = self.earlier.get(place, 0.0)
            if id(member) not in unpublished:
                done, total = done + 1 - earlier, total + 1 - earlier
                continue
            done += max(fraction - earlier, 0.0)
            failed = status is not None and status.state == "failed"
            total += max((fraction if failed else 1.0) - earlier, 0.0)
            if status is not None:
                counts[status.state] += 1
                if status.state == "pending" and status.reason:
                    reasons.add(status.reason)
        parts = [
            f"{self.total - len(self.unpublished)} of {self.total} runs done",
            f"{counts['running']} running",
            *(f"{counts[state]} {state}" for state in ("stalled", "pending") if counts[state]),
            f"{counts['failed']} failed",
        ]
        told = f" ({'; '.join(sorted(reasons))})" if reasons else ""
        return f"{self.label}: {', '.join(parts)}{told}", done, total

    def _status(self, run: Run) -> RunStatus | None:
        """Return a run's status, but for one from before this study: that of an interrupted run."""
        status = run_status(run.folder, datetime.now(UTC))
        return status if status is not None and status.updated >= self.began else None

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.finished.set()
        self.join()


def time_left(seconds: float | None) -> str:
    """Return the end of a line, in words; empty if the time left is not known."""
    return "" if seconds is None else f", about {timedelta(seconds=round(seconds))} left"
