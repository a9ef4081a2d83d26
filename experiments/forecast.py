"""What a study has, and what is left of it: ``python -m experiments.study study=ppo plan=true``."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from experiments.plan import Plan
from experiments.runs.reading import read_json
from experiments.runs.records import find_records
from experiments.study_config import CONFIRM, STAGES, TUNE


@dataclass(frozen=True)
class Part:
    """A family on a task.

    Attributes:
        task: the task's name.
        family: the family's name.
        planned: how many runs, by stage; of *confirm*, those of an open choice as well.
        recorded: of them, those that have a record.
        hours: what the others will take one after the other; None if nothing like them has run.
        measured_on: the task whose records say so.
    """

    task: str
    family: str
    planned: dict[str, int]
    recorded: dict[str, int]
    hours: float | None
    measured_on: str | None


def forecast(plan: Plan) -> list[Part]:
    """Return the parts of a plan, by task and family.

    A run's time is that of a run of its task, by the median speed of the task's records, or else of
    the study's other tasks of the same protocol.

    Raises:
        ConfigurationError: if a record is damaged.
    """
    published = find_records(plan.results)
    runs = {
        (task, family): {
            stage: [
                arm.run(stage, seed).identity
                for arm in plan.arms
                if (arm.task, arm.family) == (task, family)
                for seed in plan.seeds(arm, stage)
            ]
            for stage in STAGES
        }
        for task, each in plan.tasks.items()
        for family in each.families
    }
    speeds: dict[str, float] = {}
    for task in plan.tasks:
        identities = [
            i for (t, _), s in runs.items() if t == task for each in s.values() for i in each
        ]
        found = list(_speeds(published[i] for i in identities if i in published))
        speeds |= {task: median(found)} if found else {}
    configs = {arm.task: arm.config for arm in plan.arms}
    parts = []
    for (task, family), stages in runs.items():
        protocol = configs[task].algorithm["_target_"]
        like = [task, *(t for t in plan.tasks if configs[t].algorithm["_target_"] == protocol)]
        measured_on = next((name for name in like if name in speeds), None)
        planned = {TUNE: len(stages[TUNE]), CONFIRM: plan.confirm_runs(task, family)}
        recorded = {stage: sum(i in published for i in ids) for stage, ids in stages.items()}
        missing = sum(planned.values()) - sum(recorded.values())
        hours = None
        if measured_on is not None:
            hours = missing * configs[task].total_steps / speeds[measured_on] / 3600
        parts.append(Part(task, family, planned, recorded, hours, measured_on))
    return parts


def as_table(parts: list[Part]) -> Table:
    """Return the parts as a table, with the sum of what is known of their hours."""
    known = sum(part.hours for part in parts if part.hours is not None)
    unknown = any(part.hours is None for part in parts)
    table = Table(show_footer=True)
    table.add_column("task", "all", overflow="fold")
    table.add_column("family", overflow="fold")
    for stage in STAGES:
        recorded = sum(part.recorded[stage] for part in parts)
        planned = sum(part.planned[stage] for part in parts)
        table.add_column(stage, f"{recorded} of {planned}", justify="right")
    table.add_column("hours left", f"{known:.1f}{' + unknown' * unknown}", justify="right")
    table.add_column("by the speed on", overflow="fold")
    for part in parts:
        counts = [f"{part.recorded[stage]} of {part.planned[stage]}" for stage in STAGES]
        hours = "unknown" if part.hours is None else f"{part.hours:.1f}"
        table.add_row(part.task, part.family, *counts, hours, part.measured_on or "")
    return table


def _speeds(paths: Iterator[Path]) -> Iterator[float]:
    """Yield the steps per second of records that say them."""
    for path in paths:
        timing = (read_json(path) or {}).get("timing") or {}
        speed = timing.get("steps_per_second")
        if speed:
            yield float(speed)
