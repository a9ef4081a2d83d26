"""A panel for each family and measure: what figures of a task's arms share."""

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.figures.colors import by_family
from scripts.figures.plot import COLUMN, SHORTEST, NothingToDrawError, Size, plain
from scripts.scores import MEASURES, Arm, arms_of
from scripts.studies import Stage, Study, Task


def measured_arms(study: Study, task: Task, stage: Stage) -> dict[str, list[Arm]]:
    """Return the arms of a stage by each measure's name, without measures that some runs lack.

    Raises:
        NothingToDrawError: If the stage has no runs, or they have no measure.
    """
    found = {
        measure.name: arms
        for measure in MEASURES
        if (arms := arms_of(study, task, measure, stage))
        and not any(np.isnan(arm.scores).any() for arm in arms)
    }
    if not found:
        raise NothingToDrawError(f"runs of the stage {stage} in which an episode ended")
    return found


def shown_stage(study: Study, task: Task) -> Stage:
    """Return the stage whose runs are compared: *confirm* once all of it that is planned is done.

    Of a task without tuning runs it is *confirm* from the first one on.
    """
    if not study.arms_of(task, Stage.tune):
        return Stage.confirm
    families = {family.name: family for family in study.manifest.families}
    known = {record.identity for arm in study.arms_of(task) for record in arm.records}
    planned = {
        run.identity
        for arm in study.manifest.arms
        if arm.task == task.name
        for run in arm.runs
        if run.stage is Stage.confirm
    }
    chosen = [study.manifest.choice(task, families[name]) for name in task.families]
    done = planned and planned <= known and None not in chosen
    return Stage.confirm if done else Stage.tune


def panel_groups(arms: list[Arm]) -> list[list[Arm]]:
    """Return the arms of each family, the subject's first, without the baseline.

    If there is nothing but the baseline, it is the only one.
    """
    others = [arm for arm in arms if not arm.is_baseline] or arms
    return sorted(by_family(others).values(), key=lambda group: not group[0].is_subject)


def family_panels(
    size: Size,
    groups: list[list[Arm]],
    measures: list[str],
    height: float,
    *,
    widths: list[float] | None = None,
    listed: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a panel for each family and measure, titled by the family.

    Across a page the families stand side by side, in a column below each other. Panels of a measure
    share their vertical axis.

    Args:
        size: Width of the figure.
        groups: The arms of each family.
        measures: Their names.
        height: Of a panel, in inches.
        widths: Of the families' panels, relative to each other; by default all are equal.
        listed: Whether a title has the values that the family has, in the order of their shades.

    Returns:
        The figure, and the panels of each family, one for each measure.
    """
    across = size is not COLUMN
    widths = widths or [1.0] * len(groups)
    # Characters of a title's line.
    rooms = [max(int(82 * width / sum(widths)), 9) if across else 36 for width in widths]
    titles = [_title(group, room, listed=listed) for group, room in zip(groups, rooms, strict=True)]
    lines = [text.count("\n") + 1 for text in titles]
    if across:
        rows = len(measures) * height + 0.14 * max(lines) + 0.7
        figure = Figure(figsize=(size.width, max(rows, SHORTEST)))
        grid = figure.subplots(
            len(measures), len(groups), sharey="row", squeeze=False, width_ratios=widths
        ).T
    else:
        rows = len(groups) * (height + 0.15) + 0.14 * sum(lines) + 0.7
        figure = Figure(figsize=(size.width, max(rows, SHORTEST)))
        grid = figure.subplots(len(groups), len(measures), sharey="col", squeeze=False)
    for panels, text in zip(grid, titles, strict=True):
        panels[0].set_title(text)
    return figure, [list(panels) for panels in grid]


def _title(group: list[Arm], room: int, *, listed: bool) -> str:
    family = group[0].family
    text = fill(plain(family.title), room)
    if listed:
        values = ", ".join(f"{arm.value:g}" for arm in group)
        order = " (dark to light)" if len(group) > 1 else ""
        text += "\n" + fill(plain(f"{family.symbol} {values}{order}"), room)
    return text


def label_measures(
    figure: Figure, panels: list[list[Axes]], measures: list[str], size: Size, label: str
) -> None:
    """Name what the panels show on their vertical axes, where it is needed.

    Args:
        figure: The figure.
        panels: As from `family_panels`.
        measures: Their names.
        size: Width of the figure.
        label: What is shown by each measure.
    """
    if size is COLUMN:
        figure.supylabel(label)
    for row in panels:
        for axes, measure in zip(row, measures, strict=True):
            if row is panels[0] or size is COLUMN:
                axes.set_ylabel(measure if size is COLUMN else f"{label},\n{measure}")
            else:
                axes.tick_params(labelleft=False)
