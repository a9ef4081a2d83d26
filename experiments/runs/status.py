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
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from experiments.runs.run import read_json

STALLED_SECONDS = 120.0
"""A running run that has not reported for this long; an evaluation takes less."""
STATES = ("completed", "running", "pending", "stalled", "diverged", "failed")


@dataclass(frozen=True)
class RunStatus:
    """One run's state.

    Attributes:
        run: the name of its folder.
        state: one of `STATES`.
        step: environment steps done.
        total_steps: environment steps in all.
        steps_per_second: since the run was started or resumed; null if it has only begun.
        seconds_left: at that pace; null if not known or not running.
        reason: of a failure or a divergence.
    """

    run: str
    state: str
    step: int
    total_steps: int
    steps_per_second: float | None
    seconds_left: float | None
    reason: str | None

    @property
    def study(self) -> str:
        """Algorithm and environment, by which runs are grouped."""
        return self.run.rsplit("-seed", 1)[0].rsplit("-", 1)[0]


def run_status(folder: Path, now: datetime) -> RunStatus | None:
    """The state of the run in a folder; None if it was never started."""
    status: dict[str, Any] | None = read_json(folder / "status.json")
    if status is None:
        return None
    state, step, total = status["status"], status["step"], status["total_steps"]
    started, updated = (datetime.fromisoformat(status[name]) for name in ("started", "updated"))
    seconds = (updated - started).total_seconds()
    rate = (step - status["first_step"]) / seconds if seconds > 0 else None
    if state == "running" and now - updated > timedelta(seconds=STALLED_SECONDS):
        state = "stalled"
    remaining = max(total - step, 0)  # PPO goes on to the end of a rollout
    left = remaining / rate if state == "running" and rate else None
    return RunStatus(folder.name, state, step, total, rate, left, status["reason"])


def collect(runs: Path) -> list[RunStatus]:
    """The states of all runs in a folder, by name."""
    now = datetime.now(UTC)
    found = [run_status(path.parent, now) for path in sorted(runs.glob("*/status.json"))]
    return [status for status in found if status is not None]


def counts(statuses: Iterable[RunStatus]) -> dict[str, Counter[str]]:
    """How many runs of each study are in each state."""
    table: dict[str, Counter[str]] = {}
    for status in statuses:
        table.setdefault(status.study, Counter())[status.state] += 1
    return table


def unfinished_line(status: RunStatus) -> str:
    """One line on a run that is not at its end, or came to a bad one."""
    line = f"{status.run}: {status.state} at {status.step:,} of {status.total_steps:,} steps"
    if status.seconds_left is not None:
        left = timedelta(seconds=round(status.seconds_left))
        line += f", {status.steps_per_second:,.0f} steps/s, {left} left"
    return line + (f": {status.reason}" if status.reason else "")


def plain(statuses: list[RunStatus]) -> str:
    """All of it as lines."""
    lines = [
        f"{study}: " + ", ".join(f"{count[state]} {state}" for state in STATES if count[state])
        for study, count in counts(statuses).items()
    ]
    lines += [unfinished_line(status) for status in statuses if status.state != "completed"]
    return "\n".join(lines)


def rich_view(statuses: list[RunStatus]) -> Group:
    """All of it as a table, and below it a line for each run that is not completed."""
    table = Table("study", *STATES)
    for study, count in counts(statuses).items():
        table.add_row(study, *(str(count[state] or "") for state in STATES))
    return Group(
        table, *(unfinished_line(status) for status in statuses if status.state != "completed")
    )


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
        print(json.dumps([asdict(status) for status in statuses], indent=1))
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
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
