"""Write the table of a study from its records, and print it.

    python -m scripts.tables
    python -m scripts.tables study=<study>
    python -m scripts.tables study=<study> scale=quick

Without arguments these are the tables of every study of both scales. Each study's folder gets
``table.csv`` and ``table.md``.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.endings import one_line_endings
from experiments.runs.writing import write_bytes
from scripts.aggregates import aggregates
from scripts.pages import cell
from scripts.records import Git, RecordError
from scripts.scores import (
    MEASURES,
    TRAINING,
    Arm,
    Measure,
    area_under_curve,
    arms_of,
    lowest_return,
)
from scripts.settings import SettingsError, StudySettings, load_studies, parse
from scripts.stability import ReturnRange, instability, return_range
from scripts.statistics import (
    MINIMUM_SEEDS,
    RESAMPLES,
    Estimate,
    FloatArray,
    aggregate_iqm,
    interval_estimates,
)
from scripts.studies import Stage, Study, Task

USAGE = "python -m scripts.tables [study=<name>|all] [scale=paper|quick] [results=<folder>]"
Value = str | int | float | Estimate


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
        name: In ``table.csv``, where an estimate has two more, ``<name>_low`` and ``<name>_high``.
        heading: Where people read it.
        value: Of an arm.
    """

    name: str
    heading: str
    value: Callable[["Row"], Value]


@dataclass(frozen=True)
class Row:
    """An arm by both measures.

    Attributes:
        arms: The same runs by each measure, by its name.
        extents: What the returns of the task's runs of this stage range over, likewise.
    """

    arms: dict[str, Arm]
    extents: dict[str, ReturnRange]

    @property
    def arm(self) -> Arm:
        """The arm, where the measure does not matter."""
        return self.arms[TRAINING.name]


def _state_bytes(row: Row) -> int:
    # The largest: a run that diverged at once has no state yet.
    return max(record.optimizer.state_bytes for record in row.arm.records)


def _steps_per_second(row: Row) -> float:
    speeds = [record.timing.steps_per_second for record in row.arm.records]
    return float(np.median(np.array(speeds, dtype=np.float64)))


def _last_episodes(row: Row) -> float:
    scores = [record.final_score for record in row.arm.records if record.final_score is not None]
    return float(np.mean(scores)) if scores else float("nan")


def _drawdown(measure: Measure) -> Callable[[Row], Estimate]:
    def value(row: Row) -> Estimate:
        falls = instability(row.arms[measure.name], row.extents[measure.name])
        known = not np.isnan(row.arms[measure.name].scores).any()
        return interval_estimates(aggregate_iqm, falls if known else np.full_like(falls, np.nan))

    return value


def _iqm(measure: Measure) -> Callable[[Row], Estimate]:
    return lambda row: interval_estimates(aggregate_iqm, row.arms[measure.name].scores)


def _mean(measure: Measure) -> Callable[[Row], float]:
    return lambda row: float(row.arms[measure.name].scores.mean())


def _area(measure: Measure) -> Callable[[Row], Estimate]:
    return lambda row: interval_estimates(
        aggregate_iqm, area_under_curve(row.arms[measure.name].curves)
    )


TASK = Column("task", "Task", lambda row: row.arm.task.name)
"""Only of a study that has several."""
ARM = Column("arm", "Arm", lambda row: row.arm.name)
COLUMNS = (
    ARM,
    Column("stage", "Stage", lambda row: str(row.arm.stage)),
    Column("seeds", "Seeds", lambda row: len(row.arm.records)),
    *(
        Column(f"{measure.name}_{name}", f"{measure.name.capitalize()}, {heading}", value(measure))
        for name, heading, value in (
            ("iqm", "IQM", _iqm),
            ("mean", "mean", _mean),
            ("area_iqm", "area, IQM", _area),
            ("drawdown_iqm", "drawdown, IQM", _drawdown),
        )
        for measure in MEASURES
    ),
    Column("last_episodes_mean", "Last 100 episodes, mean", _last_episodes),
    Column("state_bytes", "State bytes", _state_bytes),
    Column("diverged", "Diverged", lambda row: int(row.arm.diverged.sum())),
    Column("steps_per_second", "Steps/s, median", _steps_per_second),
)


@dataclass(frozen=True)
class StudyTable:
    """The table of a study: a row for each arm.

    Attributes:
        study: The study.
        columns: `COLUMNS`, after `TASK` if the study has several tasks.
        rows: A value for each column; a number that does not exist is NaN.
    """

    study: Study
    columns: tuple[Column, ...]
    rows: list[list[Value]]

    @property
    def headings(self) -> list[str]:
        """The columns' headings."""
        return [column.heading for column in self.columns]

    @property
    def justify(self) -> list[Literal["left", "right"]]:
        """To which side each column is justified: names to the left, numbers to the right."""
        return ["left" if column in (TASK, *COLUMNS[:2]) else "right" for column in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[_text(value) for value in row] for row in self.rows]

    @property
    def data(self) -> pd.DataFrame:
        """The rows as numbers, after a column of the study's scale."""
        rows = []
        for values in self.rows:
            row: dict[str, object] = {"scale": str(self.study.scale)}
            for column, value in zip(self.columns, values, strict=True):
                if isinstance(value, Estimate):
                    for end, number in (
                        ("", value.value),
                        ("_low", value.low),
                        ("_high", value.high),
                    ):
                        row[column.name + end] = float("nan") if number is None else float(number)
                else:
                    row[column.name] = value
            rows.append(row)
        return pd.DataFrame(rows)


def summarize(study: Study) -> StudyTable:
    """Return the table of a study."""
    columns = (TASK, *COLUMNS) if len(study.tasks) > 1 else COLUMNS
    rows = [row for task in study.tasks for stage in Stage for row in rows_of(study, task, stage)]
    return StudyTable(study, columns, [[column.value(row) for column in columns] for row in rows])


def rows_of(study: Study, task: Task, stage: Stage) -> list[Row]:
    """Return a row for each arm of a task that has runs of a stage."""
    if not study.arms_of(task, stage):
        return []
    arms = {measure.name: arms_of(study, task, measure, stage) for measure in MEASURES}
    extents = {name: return_range(found) for name, found in arms.items()}
    return [
        Row(dict(zip(arms, same, strict=True)), extents)
        for same in zip(*arms.values(), strict=True)
    ]


def _text(value: Value) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Estimate):
        if np.isnan(value.value):
            return "-"
        low, high = value.low, value.high
        if low is None or high is None or low == high:  # all resamples agree: nothing is known
            return f"{_score(value.value)} [-]"
        return f"{_score(value.value)} [{_score(low)}, {_score(high)}]"
    if isinstance(value, float):
        return "-" if np.isnan(value) else _score(value)
    return f"{value:,}"


def _score(number: float | FloatArray) -> str:
    value = float(number)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def name_of(study: Study) -> str:
    """Return what names a study over its numbers; at quick scale, that they are no evidence."""
    return study.name + ", quick scale: not evidence" * study.quick


def to_markdown(table: StudyTable) -> str:
    """Return the table with all that is needed to judge it and to make it again."""
    study = table.study
    lines = [f"# {name_of(study)}", ""]
    if study.quick:
        lines += [f"**{quick_warning(study)}**", ""]
    lines += [
        f"| {' | '.join(table.headings)} |",
        "|" + "".join(" --- |" if side == "left" else " ---: |" for side in table.justify),
        *(f"| {' | '.join(map(cell, cells))} |" for cells in table.texts),
        "",
        *normalised(study),
        *(f"- {cell(note)}" for note in notes(study)),
    ]
    return "\n".join(lines) + "\n"


def normalised(study: Study) -> list[str]:
    """Return the lines of a table of all main tasks together, once runs are confirmed."""
    rows = [
        (each.name, measure.name, str(len(each.arms)), *map(_text, numbers))
        for measure in MEASURES
        for each in aggregates(study, measure)
        if (numbers := (each.iqm, each.optimality_gap, each.improvement))
    ]
    if not rows:
        return []
    return [
        "Normalised scores of the confirm runs over all main tasks: 0 untrained, 1 the baseline.",
        "",
        "| Optimizer | Measure | Tasks | IQM | Optimality gap | P(improvement) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(map(cell, row))} |" for row in rows),
        "",
    ]


def quick_warning(study: Study) -> str:
    """Return what must stand beside every number of a study at quick scale."""
    steps = " or ".join(dict.fromkeys(f"{task.total_steps:,}" for task in study.tasks))
    return f"Quick scale: {steps} steps, {len(study.records)} runs. This is not evidence."


def notes(study: Study) -> list[str]:
    """Return how the table's numbers were made, and from which runs."""
    records = study.records
    seeds = sorted({record.seed for record in records})
    notes = [
        f"Made by `python -m scripts.tables study={study.name}{' scale=quick' * study.quick}` from "
        f"{len(records)} runs, seeds {', '.join(map(str, seeds))}.",
        *(
            f"Protocol {task.protocol}: {task.environment}, {task.total_steps:,} steps, "
            f"{study.scale} scale."
            for task in study.tasks
        ),
        "Training: mean return of the episodes that ended in the last tenth of the planned steps. "
        "Evaluation: of the deterministic policy's evaluations in the same window. IQM: "
        "interquartile mean over seeds. Area: mean of the curve over all steps. Drawdown: the "
        "largest fall of a run's smoothed curve, as share of its range; 1 if it failed or learned "
        "nothing. Last 100 episodes: as CleanRL reports; another share of the run for each arm. "
        "Steps/s: as the machine was, busy or not; no comparison of optimizers.",
        "Stage: tune chooses the setting of each family, confirm judges it. What "
        "each number means: docs/statistics.md.",
        f"In brackets: 95% stratified bootstrap percentile intervals, {RESAMPLES:,} resamples of "
        "the seeds; with fewer than 10 seeds they are too narrow. A mean of so few runs has none "
        "that can be trusted.",
    ]
    if min(len(arm.records) for arm in study.arms) < MINIMUM_SEEDS:
        notes.append(
            f"[-]: fewer than {MINIMUM_SEEDS} seeds, too few for an interval, or all resamples "
            "agree."
        )
    failed = {
        (task.name, str(stage)): lowest_return(study, task, stage=stage)
        for task in study.tasks
        for stage in Stage
        for arm in arms_of(study, task, stage=stage)
        if arm.failed.any()
    }
    if failed:
        count = sum(record.diverged for record in records)
        counted = ", ".join(
            f"{'not known' if np.isnan(floor) else _score(floor)} ({task}, {stage})"
            for (task, stage), floor in failed.items()
        )
        notes.append(
            f"Diverged runs: {count}. They, and any in which no episode ended, count as the worst: "
            f"in means with the lowest training return of their task, {counted}."
        )
    provenance = [record.provenance for record in records]
    packages = dict.fromkeys(name for origin in provenance for name in origin.versions)
    notes += [
        "Code: " + _distinct(_commit(origin.git) for origin in provenance) + ".",
        "Ran with "
        + ", ".join(
            f"{name} {_distinct(origin.versions.get(name) for origin in provenance)}"
            for name in packages
        )
        + f"; on {_distinct(origin.cpu.model for origin in provenance)}.",
    ]
    return notes


def _commit(git: Git) -> str | None:
    return git.commit and git.commit[:7] + " with uncommitted changes" * bool(git.dirty)


def _distinct(values: Iterable[str | None]) -> str:
    return " or ".join(sorted({value or "unknown" for value in values}))


def write_table(table: StudyTable) -> list[Path]:
    """Write a study's table; return the files' paths."""
    folder = table.study.folder
    files = {
        folder / "table.csv": table.data.to_csv(index=False, lineterminator="\n"),
        folder / "table.md": to_markdown(table),
    }
    for path, content in files.items():
        write_bytes(path, content.encode())
    return list(files)


def terminal_table(table: StudyTable) -> Table:
    """Return a study's table for a terminal."""
    study = table.study
    warning = quick_warning(study) if study.quick else None
    found = Table(title=name_of(study), caption=warning, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for heading, side in zip(table.headings, table.justify, strict=True):
        found.add_column(heading, justify=side, overflow="fold", no_wrap=side == "left")
    for cells in table.texts:
        found.add_row(*cells)
    return found


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        studies = load_studies(parse(StudySettings, arguments, USAGE))
    except (RecordError, SettingsError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 400  # a pipe has no edge: keep each row on one line
    for study in studies:
        table = summarize(study)
        paths = write_table(table)
        console.print(terminal_table(table))
        for path in paths:
            console.print(path, soft_wrap=True)
    return 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
