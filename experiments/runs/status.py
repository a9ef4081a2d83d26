"""How far all runs are, from their folders alone: also those of other machines on a shared disk.

python -m experiments.runs.status [--runs runs] [--json] [--once]
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.runs.run import read_status

STALLED_SECONDS = 120.0
"""A running run that has not reported for this long; an evaluation takes less."""
WARM_UP = 15.0
"""Seconds before a run's pace means anything."""
STATES = (
    *("completed", "running", "pending", "interrupted", "stalled", "diverged", "failed"),
    "damaged",
)


@dataclass(frozen=True)
class RunStatus:
    """One run's state.

    Attributes:
        run: the name of its folder.
        state: one of `STATES`.
        step: environment steps done.
        first_step: of them, those done before the run was resumed.
        total_steps: environment steps in all.
        updated: when the run reported this.
        steps_per_second: since the run was started or resumed; null if it has only begun.
        seconds_left: at that pace; null if not known or not running.
        reason: of a failure or a divergence, or why it is pending.
        group: the study, task and stage that it was started for, by which runs are counted; null is
            a run of no study.
    """

    run: str
    state: str
    step: int
    first_step: int
    total_steps: int
    updated: datetime
    steps_per_second: float | None
    seconds_left: float | None
    reason: str | None
    group: str | None

    @property
    def task(self) -> str:
        """The group, or algorithm and environment."""
        return self.group or self.run.rsplit("-seed", 1)[0].rsplit("-", 1)[0]


def run_status(folder: Path, now: datetime) -> RunStatus | None:
    """Return the state of the run in a folder; None if it was never started.

    Raises:
        ConfigurationError: if its status is damaged.
    """
    status = read_status(folder)
    if status is None:
        return None
    state, step, total = status["status"], status["step"], status["total_steps"]
    started, updated = (datetime.fromisoformat(status[name]) for name in ("started", "updated"))
    seconds = (updated - started).total_seconds()
    rate = (step - status["first_step"]) / seconds if seconds >= WARM_UP else None
    if state == "running" and now - updated > timedelta(seconds=STALLED_SECONDS):
        state = "stalled"
    remaining = max(total - step, 0)  # PPO goes on to the end of a rollout
    left = remaining / rate if state == "running" and rate else None
    return RunStatus(
        *(folder.name, state, step, status["first_step"], total, updated),
        *(rate, left, status["reason"], status.get("group")),
    )


def collect(runs: Path) -> list[RunStatus]:
    """Return the states of all runs in a folder, by name."""
    now = datetime.now(UTC)
    found = []
    for path in sorted(runs.glob("*/status.json")):
        try:
            status = run_status(path.parent, now)
        except ConfigurationError as error:
            name = path.parent.name
            status = RunStatus(name, "damaged", 0, 0, 0, now, None, None, str(error), None)
        found += [status] if status is not None else []
    return found


def counts(statuses: Iterable[RunStatus]) -> dict[str, Counter[str]]:
    """Count for each task the runs in each state."""
    table: dict[str, Counter[str]] = {}
    for status in statuses:
        table.setdefault(status.task, Counter())[status.state] += 1
    return table


def unfinished_line(status: RunStatus) -> str:
    """Return one line on a run that is not at its end, or came to a bad one."""
    line = f"{status.run}: {status.state} at {status.step:,} of {status.total_steps:,} steps"
    if status.seconds_left is not None:
        left = timedelta(seconds=round(status.seconds_left))
        line += f", {status.steps_per_second:,.0f} steps/s, {left} left"
    return line + (f": {status.reason}" if status.reason else "")


def plain(statuses: list[RunStatus]) -> str:
    """Return all of it as lines."""
    lines = [
        f"{task}: " + ", ".join(f"{count[state]} {state}" for state in STATES if count[state])
        for task, count in counts(statuses).items()
    ]
    lines += [unfinished_line(status) for status in statuses if status.state != "completed"]
    return "\n".join(lines)


def rich_view(statuses: list[RunStatus]) -> Group:
    """Return all of it as a table, and below it a line for each run that is not completed."""
    states = [state for state in STATES if any(status.state == state for status in statuses)]
    table = Table(Column("task", no_wrap=True), *states)
    for task, count in counts(statuses).items():
        table.add_row(task, *(str(count[state] or "") for state in states))
    lines = [unfinished_line(status) for status in statuses if status.state != "completed"]
    return Group(table, *(Text(line) for line in lines))


def main(arguments: list[str]) -> None:
    """Print or draw the state of all runs."""
    parser = argparse.ArgumentParser(prog="python -m experiments.runs.status", description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the runs' folder")
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("--once", action="store_true", help="do not redraw on a terminal")
    options = parser.parse_args(arguments)
    statuses = collect(options.runs)
    console = Console(highlight=False)
    if options.json:
        print(json.dumps([asdict(status) for status in statuses], indent=1, default=str))
    elif not statuses:
        print(f"no runs in {options.runs}")
    elif options.once or not console.is_terminal:
        print(plain(statuses))
    else:
        with Live(rich_view(statuses), console=console) as live:
            while True:
                time.sleep(2)
                live.update(rich_view(collect(options.runs)))


if __name__ == "__main__":
    with exit_on_mistake():
        main(sys.argv[1:])
