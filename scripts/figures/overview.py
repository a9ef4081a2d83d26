"""All tasks of the studies that head the report: each family at its value, by both measures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.figures.colors import INK, family_colors, tuned_baseline_color
from scripts.figures.panels import shown_stage
from scripts.figures.plot import COLUMN, GREY, Plot, Size, columns, plain
from scripts.scores import MEASURES, TRAINING, Arm, Measure, arms_of, scale_of
from scripts.statistics import MINIMUM_SEEDS, FloatArray, aggregate_iqm, interval_estimates
from scripts.studies import Family, Stage, Study, Task

ALL = "All tasks"
SHOWN = (-1.0, 2.0)
"""Normalised scores that the axis shows at most; an arrow stands for what lies beyond."""
MARKERS = "oDsv^<>pP"


@dataclass(frozen=True)
class Method:
    """What is compared: a family at the value that was chosen, or the baseline as it is.

    Attributes:
        label: Its name.
        color: Its colour.
        marker: Its marker.
    """

    label: str
    color: str
    marker: str


@dataclass(frozen=True)
class Row:
    """The normalised scores of a task's methods in one stage, by one measure.

    Attributes:
        task: The task's title.
        stage: The stage.
        measure: The measure.
        arms: The arm of each method that has runs, by the method's label.
        scores: Its normalised scores, shape (seeds,).
    """

    task: str
    stage: Stage
    measure: Measure
    arms: dict[str, Arm]
    scores: dict[str, FloatArray]


def overview(studies: list[Study]) -> Plot:
    """Return the normalised scores of all main tasks, and over all of them.

    Args:
        studies: At least one, in their order.
    """
    methods = _methods(studies)
    tasks = [(study, task) for study in studies for task in study.tasks if task.role == "main"]
    rows = [
        row
        for study, task in tasks
        for measure in MEASURES
        if (row := _row(study, task, measure, methods)) is not None
    ]
    data = pd.DataFrame([*_aggregates(rows, methods), *_points(rows)])
    stages = data.groupby("task", sort=False)["stage"].first()
    titles = list(stages.index)
    labels = [
        plain(str(title).replace(", ", "\n", 1)) + "\n(tuning runs)" * (stage == Stage.tune)
        for title, stage in stages.items()
    ]

    def draw(size: Size) -> Figure:
        stacked = size is COLUMN
        tall = 0.35 + (0.11 * len(methods) + 0.16) * len(titles)
        shape = (len(MEASURES), 1) if stacked else (1, len(MEASURES))
        height = tall * shape[0] + 0.2 * -(-len(methods) // (1 if stacked else 3)) + 0.3
        figure = Figure(figsize=(size.width, height))
        grid = figure.subplots(*shape, squeeze=False, sharey=True, sharex=True).flat
        for axes, measure in zip(grid, MEASURES, strict=True):
            _draw(axes, data[data["measure"] == measure.name], titles, methods)
            axes.set_yticks(range(len(titles)), labels)
            axes.set_title(plain(measure.title.capitalize()))
        figure.supxlabel(plain(f"Normalised score: 0 untrained, 1 {next(iter(methods))}"))
        handles = [
            axes.plot(
                [], [], linestyle="none", marker=m.marker, color=m.color, label=plain(m.label)
            )[0]
            for m in methods.values()
        ]
        columns = 1 if stacked else 3
        figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.2)
        return figure

    return Plot("All tasks in one picture", _caption(rows, methods, len(tasks)), data, draw)


def _methods(studies: Iterable[Study]) -> dict[str, Method]:
    """Return what is compared by its label, the baseline at its default first."""
    families = {
        family.name: family
        for study in studies
        for family in study.manifest.families
        if any(arm.family == family and arm.task.role == "main" for arm in study.arms)
    }
    baselines = {study.manifest.baseline for study in studies}
    colors = family_colors(families.values())
    found: list[tuple[str, str]] = []
    for name, family in families.items():
        if name in baselines:
            found.append((_label(family, tuned=False), INK))
        color = tuned_baseline_color(family) if name in baselines else colors[name]
        found.append((_label(family, tuned=True), color))
    return {
        label: Method(label, color, marker)
        for (label, color), marker in zip(found, MARKERS * len(found), strict=False)
    }


def _label(family: Family, *, tuned: bool) -> str:
    return f"{family.title}, {'tuned' if tuned else 'protocol'}"


def _row(study: Study, task: Task, measure: Measure, methods: dict[str, Method]) -> Row | None:
    """Return a task's row, or nothing where there is no baseline to normalise by."""
    stage = shown_stage(study, task)
    arms = arms_of(study, task, measure, stage)
    scale = scale_of(arms)
    if scale is None or np.isnan(scale(np.zeros(1))).any():
        return None
    values = {
        name: study.manifest.choice(task, family) if stage is Stage.confirm else best
        for name, (family, best) in _best(arms_of(study, task, TRAINING, stage)).items()
    }
    found = {}
    for arm in arms:
        if arm.is_baseline:
            found[_label(arm.family, tuned=False)] = arm
        alone = stage is Stage.tune and sum(a.family == arm.family for a in arms) == 1
        if arm.value == values[arm.family.name] and not (arm.is_baseline and alone):
            found[_label(arm.family, tuned=True)] = arm
    shown = {label: found[label] for label in methods if label in found}
    scores = {label: scale(arm.scores) for label, arm in shown.items()}
    return Row(task.title, stage, measure, shown, scores)


def _best(arms: Sequence[Arm]) -> dict[str, tuple[Family, float]]:
    """Return each family with the value that has the highest training return, by its name."""
    best: dict[str, Arm] = {}
    for arm in arms:
        other = best.get(arm.family.name)
        if other is None or aggregate_iqm(arm.scores) > aggregate_iqm(other.scores):
            best[arm.family.name] = arm
    return {name: (arm.family, arm.value) for name, arm in best.items()}


def _points(rows: Iterable[Row]) -> list[dict[str, object]]:
    return [
        {
            "task": row.task,
            "stage": str(row.stage),
            "measure": row.measure.name,
            "method": label,
            "arm": row.arms[label].name,
            "tasks": 1,
            "seeds": len(scores),
        }
        | columns(interval_estimates(aggregate_iqm, scores))
        for row in rows
        for label, scores in row.scores.items()
    ]


def _aggregates(rows: list[Row], methods: dict[str, Method]) -> list[dict[str, object]]:
    """Return the interquartile means over the runs of all tasks that have every method."""
    found: list[dict[str, object]] = []
    for measure in MEASURES:
        whole = [r for r in rows if r.measure is measure and len(r.scores) == len(methods)]
        if len(whole) < 2:
            continue
        stage = Stage.confirm if all(r.stage is Stage.confirm for r in whole) else Stage.tune
        found += [
            {
                "task": ALL,
                "stage": str(stage),
                "measure": measure.name,
                "method": label,
                "tasks": len(whole),
                "seeds": sum(len(row.scores[label]) for row in whole),
            }
            | columns(interval_estimates(aggregate_iqm, *(row.scores[label] for row in whole)))
            for label in methods
        ]
    return found


def _draw(axes: Axes, data: pd.DataFrame, titles: list[str], methods: dict[str, Method]) -> None:
    order = {label: index for index, label in enumerate(methods)}
    height = 0.8 / len(methods)
    low, high = SHOWN
    for _, row in data.iterrows():
        method = methods[row["method"]]
        y = titles.index(row["task"]) - 0.4 + height * (order[method.label] + 0.5)
        ends = np.clip([row["low"], row["high"]], low, high)
        axes.plot(ends, [y, y], color=method.color, linewidth=1.3)
        beyond = row["value"] < low or row["value"] > high
        axes.plot(
            np.clip(row["value"], low, high),
            y,
            color=method.color,
            marker=("<" if row["value"] < low else ">") if beyond else method.marker,
            markersize=4.5,
            markerfacecolor=method.color if row["stage"] == Stage.confirm else "white",
        )
    for edge in range(1, len(titles)):
        axes.axhline(edge - 0.5, color="#CCCCCC", linewidth=0.5)
    for score, style in ((0, ":"), (1, "-")):
        axes.axvline(score, color=GREY, linewidth=0.8, linestyle=style, zorder=1.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(len(titles) - 0.5, -0.5)


def _caption(rows: list[Row], methods: dict[str, Method], tasks: int) -> str:
    whole = {row.task for row in rows if len(row.scores) == len(methods)}
    tuning = {row.task for row in rows if row.stage is Stage.tune}
    confirmed = {row.task for row in rows} - tuning
    records = {
        record.identity for row in rows for arm in row.arms.values() for record in arm.records
    }
    text = (
        f"Marks: interquartile mean over seeds of normalised scores, 0 for an untrained policy and "
        f"1 for the interquartile mean of {next(iter(methods))}; bars: 95% stratified bootstrap "
        f"intervals, none with fewer than {MINIMUM_SEEDS} seeds. {len(records)} runs on "
        f"{len(confirmed | tuning)} of {_tasks(tasks)}."
    )
    if confirmed:
        text += f" Filled: the runs that confirm, of {_tasks(len(confirmed))}."
    if tuning:
        text += (
            f" Hollow: tuning runs, of {_tasks(len(tuning))}, exploratory: each family at the "
            "value that is best on the seeds that are shown, which flatters those with many values."
        )
    if len(whole) > 1:
        text += f" {ALL}: the {len(whole)} that have every method."
    return text


def _tasks(count: int) -> str:
    return f"{count} task{'s' * (count != 1)}"
