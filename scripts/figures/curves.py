"""Learning curves: small panels of an arm or a family each, with the baseline in every one."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from scripts.figures.plot import (
    GREY,
    Look,
    Plot,
    Size,
    caption,
    columns,
    groups,
    looks,
    panel_title,
    panels,
    plain,
    title,
)
from scripts.scores import Arm, arms_of, lowest_return
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
        steps, curves = coarse(np.array(arm.records[0].curve.step), arm.curves)
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


def step_axis(axes: Axes, task: Task) -> None:
    """Let the axis be environment steps from 0 to the end, with few ticks."""
    axes.set_xlim(0, task.total_steps)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def baseline_name(arms: list[Arm]) -> str:
    """Return what names the baseline behind an axis's label; nothing if there is no baseline."""
    return f" (black: {arms[0].family.title})" if arms else ""


def learning_curves(study: Study, task: Task) -> Plot:
    """Return training return against environment steps, each arm beside the baseline."""
    arms = arms_of(study, task)
    data = curve_data(arms)
    styles = looks(arms)
    baseline = [arm for arm in arms if arm.is_baseline]
    shown = groups([arm for arm in arms if not arm.is_baseline] or baseline)
    beside = baseline_name(baseline) if [baseline] != shown else ""

    def draw(size: Size) -> Figure:
        figure, grid, lowest = panels(size, len(shown), 1.3, sharex=True, sharey=True)
        for axes, group in zip(grid, shown, strict=True):
            for other in baseline:
                if other not in group:
                    draw_curve(axes, data, other, styles[other.name], band=0.1, width=0.9)
            for arm in group:
                draw_curve(axes, data, arm, styles[arm.name], band=0.2 / len(group) ** 0.5)
            step_axis(axes, task)
            axes.yaxis.set_major_formatter("{x:,g}")
            panel_title(axes, group, styles, size)
            axes.tick_params(labelbottom=axes in lowest)
        figure.supxlabel(f"Environment steps{plain(beside)}")
        figure.supylabel("Return in training")
        title(figure, study, task)
        if np.isnan(lowest_return(study, task)):
            grid[0].text(0.5, 0.5, "no episode ended", transform=grid[0].transAxes, color=GREY)
        return figure

    cells = -(-len(arms[0].records[0].curve.step) // POINTS)
    marks = (
        "Lines: interquartile mean over seeds; bands: its pointwise interval; "
        + (f"black, in every panel: {baseline[0].family.title}; " if beside else "")
        + f"each point is the mean over {cells} cells of a record's curve."
    )
    text = caption(study, task, marks, "Crosses: where a run diverged.")
    return Plot("Return during training", text, data, draw)
