"""How far a run is: its status file, and a progress bar or lines."""

import math
import time
from datetime import timedelta

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from stable_baselines3.common.callbacks import BaseCallback

from experiments.runs.run import Run


class Heartbeat(BaseCallback):
    """Report the step every few seconds, and shows it by a progress bar or a line a minute.

    Args:
        run: whose step it is.
        bar: whether to draw a bar, as on a terminal, instead of printing lines.
    """

    INTERVAL = 2.0
    LINE_INTERVAL = 60.0

    def __init__(self, run: Run, bar: bool) -> None:
        super().__init__()
        self.run = run
        self.next_report = 0.0
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f} steps/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not bar,
        )
        self.task = self.progress.add_task("training", total=run.config.total_steps, rate=0.0)

    def __enter__(self) -> "Heartbeat":
        self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.progress.stop()

    def _on_training_start(self) -> None:
        self.first_step = self.num_timesteps  # what was done before an interruption has no part
        self.progress.reset(self.task, completed=self.first_step)
        self.next_line = time.monotonic() + self.LINE_INTERVAL

    def _on_step(self) -> bool:
        now = time.monotonic()
        if now >= self.next_report:
            self.next_report = now + self.INTERVAL
            self.show()
            if self.progress.disable and now >= self.next_line:
                self.next_line = now + self.LINE_INTERVAL
                print(self.line(), flush=True)
        return True

    def _on_training_end(self) -> None:
        self.show()

    def rate(self) -> float:
        """Return the environment steps per second of this process, 0 if it has only begun."""
        elapsed = self.progress.tasks[self.task].elapsed or math.inf
        return (self.num_timesteps - self.first_step) / elapsed

    def line(self) -> str:
        """Return how far the run is, in one line."""
        total, rate = self.run.config.total_steps, self.rate()
        line = f"{self.run.folder.name}: {self.num_timesteps:,} of {total:,} steps"
        if rate == 0:
            return line
        remaining = max(total - self.num_timesteps, 0)  # PPO goes on to the end of a rollout
        return f"{line}, {rate:,.0f} steps/s, {timedelta(seconds=round(remaining / rate))} left"

    def show(self) -> None:
        """Report the step and redraw the bar."""
        self.run.report("running", self.num_timesteps)
        self.progress.update(self.task, completed=self.num_timesteps, rate=self.rate())
