"""Learning curves: small panels of an arm or a family each, with the baseline in every one."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from scripts.figures.panels import (
    family_panels,
    label_measures,
    measured_arms,
    panel_groups,
    shown_stage,
)
from scripts.figures.plot import COLUMN, Look, Plot, Size, caption, columns, looks, plain, title
from scripts.scores import Arm
from scripts.statistics import FloatArray, aggregate_iqm, interval_estimates
from scripts.studies import Study, Task

POINTS = 50
"""Points of a drawn curve; each is the mean of the record's cells that it covers."""
CROSS: dict[str, Any] = {
    "linestyle": "none",
    "marker": "X",
    "markersize": 6,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "zorder": 5,
}
"""A diverged run."""


def coarse(steps: FloatArray, curves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return curves of at most `POINTS` points: ends of blocks of cells, and their mean returns.

    Args:
        steps: Upper edges of the cells, shape (cells,).
        curves: Shape (seeds, cells).
    """
    starts = np.arange(0, len(steps), -(-len(steps) // POINTS))
    widths = np.diff([*starts, len(steps)])
    return steps[starts + widths - 1], np.add.reduceat(curves, starts, axis=1) / widths


def curve_data(arms: list[Arm]) -> pd.DataFrame:
    """Return each arm's curve: interquartile mean over seeds with its pointwise interval."""
    frames = []
    for arm in arms:
        steps, curves = coarse(arm.steps, arm.curves)
        estimate = interval_estimates(aggregate_iqm, curves)
        frames.append(
            pd.DataFrame(
                {"arm": arm.name, "seeds": len(arm.records), "step": steps} | columns(estimate)
            )
        )
    return pd.concat(frames, ignore_index=True)


def draw_curve(
    axes: Axes, data: pd.DataFrame, arm: Arm, look: Look, *, band: float = 0.2, width: float = 1.3
) -> None:
    """Draw one arm's curve from the data and its diverged runs; its interval as a band, if any."""
    own = data[data["arm"] == arm.name]
    if band and own["low"].notna().any():
        axes.fill_between(
            own["step"], own["low"], own["high"], color=look.color, alpha=band, linewidth=0
        )
    axes.plot(
        own["step"],
        own["value"],
        color=look.color,
        linestyle=look.linestyle,
        linewidth=width,
        label=look.label,
    )
    if stops := [record.steps for record in arm.records if record.diverged]:
        axes.plot(stops, np.interp(stops, own["step"], own["value"]), color=look.color, **CROSS)


def step_axis(axes: Axes, task: Task, ticks: int = 4) -> None:
    """Let the axis be environment steps from 0 to the end, with few ticks."""
    axes.set_xlim(0, task.total_steps)
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def baseline_name(arms: list[Arm]) -> str:
    """Return what names the baseline behind an axis's label; nothing if there is no baseline."""
    return f" (black: {arms[0].family.title})" if arms else ""


def learning_curves(study: Study, task: Task) -> Plot:
    """Return returns against environment steps, each family beside the baseline.

    Raises:
        NothingToDrawError: If no episode ended.
    """
    stage = shown_stage(study, task)
    by_measure = measured_arms(study, task, stage)
    measures = list(by_measure)
    arms = by_measure[measures[0]]
    data = pd.concat(
        [curve_data(own).assign(measure=measure) for measure, own in by_measure.items()],
        ignore_index=True,
    )
    styles = looks(arms)
    baseline = [arm for arm in arms if arm.is_baseline]
    groups = panel_groups(arms)

    def draw(size: Size) -> Figure:
        figure, panels = family_panels(size, groups, measures, 1.15, listed=True)
        for group, row in zip(groups, panels, strict=True):
            for axes, measure in zip(row, measures, strict=True):
                own = data[data["measure"] == measure]
                for arm in baseline:
                    draw_curve(axes, own, arm, styles[arm.name], band=0.1, width=0.9)
                for arm in group:
                    if not arm.is_baseline:
                        bands = 0.2 / len(group)
                        draw_curve(axes, own, arm, styles[arm.name], band=bands, width=1.1)
                step_axis(axes, task, 2)
                axes.yaxis.set_major_formatter("{x:,g}")
                lowest = row is panels[-1] if size is COLUMN else axes is row[-1]
                axes.tick_params(labelbottom=lowest)
        label_measures(figure, panels, measures, size, "Return")
        figure.supxlabel(f"Environment steps{plain(baseline_name(baseline))}")
        title(figure, study, task)
        return figure

    marks = "Lines: interquartile mean over seeds; bands: its pointwise interval"
    marks += f"; black, in every panel: {baseline[0].family.title}." if baseline else "."
    text = caption(study, task, marks, "Crosses: where a run diverged.", stage=stage)
    return Plot("Returns while training", text, data, draw)
