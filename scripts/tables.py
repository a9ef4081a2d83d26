"""Writes the table of a study from its records, and prints it.

    python -m scripts.tables
    python -m scripts.tables study=ppo
    python -m scripts.tables study=ppo scale=quick

Without arguments these are the tables of every study of both scales. Each study's folder gets
``table.csv`` and ``table.md``.
"""

import re
import sys
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from scripts.files import write
from scripts.records import Git, RecordError, Study, load_study
from scripts.settings import SettingsError, StudySettings, parse, study_folders
from scripts.statistics import (
    MINIMUM_SEEDS,
    RESAMPLES,
    Estimate,
    aggregate_iqm,
    aggregate_mean,
    area_under_curve,
    arms_of,
    interval_estimates,
    lowest_return,
)

USAGE = "python -m scripts.tables [study=<name>|all] [scale=paper|quick] [results=<folder>]"

HEADINGS = {
    "arm": "Arm",
    "seeds": "Seeds",
    "final_score_mean": "Final score, mean",
    "final_score_iqm": "Final score, IQM",
    "area_under_curve_iqm": "Area under curve, IQM",
    "state_bytes": "State bytes",
    "diverged": "Diverged",
    "steps_per_second": "Steps/s, median",
}
ESTIMATES = ("final_score_mean", "final_score_iqm", "area_under_curve_iqm")


def summarize(study: Study) -> pd.DataFrame:
    """The table of a study: a row for each arm.

    Columns are ``scale`` and those of `HEADINGS`; each of `ESTIMATES` has its interval in
    ``<name>_low`` and ``<name>_high``. A number that does not exist is NaN. ``state_bytes`` is the
    largest of an arm's runs, since a run that diverged at once has no state yet.
    """
    rows = []
    for arm in arms_of(study):
        samples = {
            "final_score_mean": (aggregate_mean, arm.scores),
            "final_score_iqm": (aggregate_iqm, arm.scores),
            "area_under_curve_iqm": (aggregate_iqm, area_under_curve(arm.curves)),
        }
        row: dict[str, object] = {"scale": study.scale, "arm": arm.name, "seeds": len(arm.records)}
        for name, (statistic, sample) in samples.items():
            row |= _columns(name, interval_estimates(statistic, sample))
        row["state_bytes"] = max(record.optimizer.state_bytes for record in arm.records)
        row["diverged"] = sum(record.diverged for record in arm.records)
        speeds = [record.timing.steps_per_second for record in arm.records]
        row["steps_per_second"] = np.median(np.array(speeds, dtype=np.float64))
        rows.append(row)
    return pd.DataFrame(rows)


def _columns(name: str, estimate: Estimate) -> dict[str, object]:
    numbers = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
    return {
        name + end: float("nan") if number is None else float(number)
        for end, number in numbers.items()
    }


def format_rows(summary: pd.DataFrame) -> list[list[str]]:
    """The summary's rows as text, a cell for each of `HEADINGS`."""
    return [[_cell(row, name) for name in HEADINGS] for row in summary.to_dict("records")]


def _cell(row: dict[Hashable, Any], name: str) -> str:
    value = row[name]
    if name == "arm":
        return str(value)
    if np.isnan(value):
        return "-"
    if name not in ESTIMATES:
        return f"{value:,.0f}"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "-" if np.isnan(low) else f"{_score(low)}, {_score(high)}"
    return f"{_score(value)} [{interval}]"


def _score(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def cell(text: object) -> str:
    """A text that cannot leave its cell of a Markdown table, nor become HTML."""
    return re.sub(r"\s+", " ", str(text)).replace("|", r"\|").replace("<", "&lt;")


def to_markdown(study: Study, summary: pd.DataFrame) -> str:
    """The table with all that is needed to judge it and to make it again."""
    lines = [f"# {study.name}", ""]
    if study.quick:
        lines += [f"**{quick_warning(study)}**", ""]
    lines += [
        f"| {' | '.join(HEADINGS.values())} |",
        f"| --- |{' ---: |' * (len(HEADINGS) - 1)}",
        *(f"| {' | '.join(map(cell, cells))} |" for cells in format_rows(summary)),
        "",
        *(f"- {note}" for note in notes(study)),
    ]
    return "\n".join(lines) + "\n"


def quick_warning(study: Study) -> str:
    """What must stand beside every number of a study at quick scale."""
    steps = study.configuration.total_steps
    return f"Quick scale: {steps:,} steps, {len(study.records)} runs. This is not evidence."


def notes(study: Study) -> list[str]:
    """How the table's numbers were made, and from which runs."""
    records, configuration = study.records, study.configuration
    seeds = sorted({record.seed for record in records})
    notes = [
        f"Made by `python -m scripts.tables study={study.name}{' scale=quick' * study.quick}` from "
        f"{len(records)} runs, seeds {', '.join(map(str, seeds))}.",
        f"Protocol {configuration.protocol}: {configuration.environment.id}, "
        f"{configuration.total_steps:,} steps, {study.scale} scale.",
        "Final score: mean return of a run's last 100 training episodes. IQM: interquartile mean "
        "over seeds. Area under curve: mean of the training return over all steps. Steps/s: as "
        "the machine was, busy or not; no comparison of optimizers.",
        f"In brackets: 95% stratified bootstrap percentile intervals, {RESAMPLES:,} resamples of "
        "the seeds.",
    ]
    if min(map(len, study.arms.values())) < MINIMUM_SEEDS:
        notes.append(f"[-]: fewer than {MINIMUM_SEEDS} seeds, too few for an interval.")
    if diverged := sum(record.diverged for record in records):
        notes.append(
            f"Diverged runs: {diverged}. They count with the score that they had when they "
            "stopped, and their curves keep the last value to the end."
        )
    if silent := sum(record.final_score is None for record in records):
        floor = lowest_return(study)
        counted = "not known" if np.isnan(floor) else _score(floor)
        notes.append(
            f"Runs in which no episode ended: {silent}. They count with the lowest value that any "
            f"curve of the study has: {counted}."
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


def write_table(study: Study) -> list[Path]:
    """Writes the study's table; returns the files' paths."""
    summary = summarize(study)
    files = {
        study.folder / "table.csv": summary.to_csv(index=False, lineterminator="\n"),
        study.folder / "table.md": to_markdown(study, summary),
    }
    for path, content in files.items():
        write(path, content.encode())
    return list(files)


def terminal_table(study: Study) -> Table:
    """The study's table for a terminal."""
    warning = quick_warning(study) if study.quick else None
    table = Table(title=study.name, caption=warning, box=box.SIMPLE, padding=(0, 1, 0, 0))
    for name, heading in HEADINGS.items():
        justify: Literal["left", "right"] = "left" if name == "arm" else "right"
        table.add_column(heading, justify=justify, overflow="fold")
    for cells in format_rows(summarize(study)):
        table.add_row(*cells)
    return table


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(StudySettings, arguments, USAGE)
        studies = [load_study(folder) for folder in study_folders(settings)]
    except (RecordError, SettingsError) as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = 140  # a pipe has no edge: keep each row on one line
    for study in studies:
        paths = write_table(study)
        console.print(terminal_table(study))
        for path in paths:
            console.print(path, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
