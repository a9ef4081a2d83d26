"""What depends on alpha: scores, areas under the curve and falls, with Adam as a band.

The arms that are not of the alpha sweep stand beside it: Adam at one or several learning rates, and
any others by name. A heat map shows AlphaGrad by learning rate and alpha, where both vary.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scripts.figures.curves import CROSS
from scripts.figures.plot import (
    COLUMN,
    GREY,
    INK,
    Look,
    Plot,
    Size,
    caption,
    columns,
    looks,
    title,
)
from scripts.studies import Study
from scripts.stability import instability, return_range
from scripts.statistics import (
    Arm,
    FloatArray,
    aggregate_iqm,
    area_under_curve,
    arms_of,
    interval_estimates,
)

SCORE = "Final score"
MARKS = (
    "Dots: seeds; large markers: their interquartile mean; bars: its interval; black line and "
    "grey band: Adam's."
)


def score_against_alpha(study: Study) -> Plot | None:
    """Final score against alpha; ``None`` if the study has no arm of the alpha sweep."""
    return _against_alpha(
        study,
        "score_against_alpha",
        "Final score, the mean return of the last 100 training episodes",
        SCORE,
        lambda arm: arm.scores,
    )


def area_against_alpha(study: Study) -> Plot | None:
    """Area under the curve against alpha; ``None`` if the study has no arm of the alpha sweep."""
    return _against_alpha(
        study,
        "area_against_alpha",
        "Area under the learning curve, the mean return over all steps",
        "Area under curve",
        lambda arm: area_under_curve(arm.curves),
    )


def fall_against_alpha(study: Study) -> Plot | None:
    """Drawdown against alpha; ``None`` if the study has no arm of the alpha sweep."""
    extent = return_range(arms_of(study))
    return _against_alpha(
        study,
        "fall_against_alpha",
        "Stability: the largest fall of a smoothed curve from its running maximum, 1 of a run that "
        "diverged or learned nothing",
        "Largest fall, share of range",
        lambda arm: instability(arm, extent),
    )


def _against_alpha(
    study: Study,
    name: str,
    heading: str,
    label: str,
    values: Callable[[Arm], FloatArray],
) -> Plot | None:
    arms = arms_of(study)
    if not any(arm.alpha is not None for arm in arms):
        return None
    data = seed_data(arms, values)

    others = any(arm.alpha is None and arm.family != "adam" for arm in arms)
    room = 0.9 if others else 0.0  # for their names, which stand upright

    def draw(size: Size) -> Figure:
        stacked = others and size is COLUMN
        height = 5.0 if stacked else 2.5 if size is COLUMN else 2.9
        figure = Figure(figsize=(size.width, height + room))
        draw_against_alpha(figure, arms, data, label, stacked=stacked)
        title(figure, study)
        return figure

    text = caption(study, name, MARKS, "Crosses: diverged runs.")
    return Plot(name, heading, text, data, draw)


def seed_data(arms: list[Arm], values: Callable[[Arm], FloatArray]) -> pd.DataFrame:
    """A row for each seed, and one without a seed for each arm's interquartile mean.

    Args:
        arms: The arms.
        values: A number for each seed of an arm.
    """
    rows: list[dict[str, object]] = []
    for arm in arms:
        sample = values(arm)
        common: dict[str, object] = {
            "arm": arm.name,
            "alpha": arm.alpha,
            "learning_rate": arm.learning_rate,
        }
        rows.append(
            common
            | {"quantity": "interquartile mean"}
            | columns(interval_estimates(aggregate_iqm, sample))
        )
        rows += [
            common
            | {
                "quantity": "seed",
                "seed": record.seed,
                "value": float(value),
                "diverged": record.diverged,
            }
            for record, value in zip(arm.records, sample, strict=True)
        ]
    return pd.DataFrame(rows).astype({"seed": "Int64", "diverged": "boolean"})


def draw_against_alpha(
    figure: Figure, arms: list[Arm], data: pd.DataFrame, label: str, *, stacked: bool
) -> None:
    """Fills a figure: the alpha sweep, then Adam by learning rate, then the others by name.

    Args:
        figure: Empty.
        arms: The arms.
        data: As from `seed_data`.
        label: Of the values.
        stacked: Whether these three stand below each other, not side by side.
    """
    styles = looks(arms)
    sweep = [arm for arm in arms if arm.alpha is not None]
    adam = sorted(
        (arm for arm in arms if arm.family == "adam"),
        key=lambda arm: arm.learning_rate,
    )
    others = [arm for arm in arms if arm not in sweep and arm not in adam]
    groups = [group for group in (sweep, adam, others) if group]
    if stacked:
        grid = figure.subplots(len(groups), 1, sharey=True, squeeze=False)[:, 0]
    else:
        widths = [len(group) + 0.6 for group in groups]
        grid = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, group in zip(grid, groups, strict=True):
        if group is sweep:
            positions = [float(np.log10(arm.alpha or 1.0)) for arm in group]
            ticks, xlabel = [f"{arm.alpha:g}" for arm in group], "AlphaGrad's α (logarithmic)"
        elif group is adam and len(group) > 1:
            positions = [float(np.log10(arm.learning_rate)) for arm in group]
            ticks = [f"{arm.learning_rate:.2g}" for arm in group]
            xlabel = "Adam's learning rate"
        else:
            positions = [float(index) for index in range(len(group))]
            ticks, xlabel = [styles[arm.name].label for arm in group], ""
        draw_seeds(axes, group, positions, data, styles)
        axes.set_xticks(positions, ticks)
        if xlabel == "Adam's learning rate" or group is others:
            axes.tick_params(axis="x", labelrotation=90)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(xlabel)
        axes.grid(visible=False, axis="x")
        band(axes, data)
    grid[0].yaxis.set_major_formatter("{x:,g}")
    if stacked:
        figure.supylabel(label)
        return
    grid[0].set_ylabel(label)
    for axes in grid[1:]:
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)


def draw_seeds(
    axes: Axes, arms: list[Arm], positions: list[float], data: pd.DataFrame, styles: dict[str, Look]
) -> None:
    """Draws arms at positions: their seeds, interquartile means and intervals."""
    gap = min(np.diff(positions), default=1.0)
    centres = data[data["quantity"] != "seed"].set_index("arm")
    if len(arms) > 1 and arms[0].alpha is not None:
        axes.plot(
            positions,
            centres.loc[[arm.name for arm in arms], "value"],
            color=GREY,
            linewidth=0.8,
            zorder=2,
        )
    for arm, position in zip(arms, positions, strict=True):
        color = styles[arm.name].color
        seeds = data[(data["arm"] == arm.name) & (data["quantity"] == "seed")]
        offsets = np.linspace(0.12, 0.34, len(seeds) + 2)[1:-1] * gap
        stopped = seeds["diverged"].to_numpy(dtype=bool)
        values = seeds["value"].to_numpy()
        axes.plot(
            position + offsets[~stopped],
            values[~stopped],
            color=color,
            alpha=0.55,
            linestyle="none",
            marker="o",
            markersize=2.8,
            markeredgewidth=0,
            zorder=2.5,
        )
        if stopped.any():
            axes.plot(position + offsets[stopped], values[stopped], color=color, **CROSS)
        centre = centres.loc[arm.name]
        if pd.notna(centre["low"]):
            axes.vlines(
                position, centre["low"], centre["high"], color=color, linewidth=1.6, zorder=3
            )
        axes.plot(
            position,
            centre["value"],
            color=color,
            marker="o",
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=4,
        )
    axes.set_xlim(positions[0] - 0.5 * gap, positions[-1] + 0.6 * gap)


def band(axes: Axes, data: pd.DataFrame) -> None:
    """Draws Adam's interquartile mean and interval across the panel, if there is an Adam."""
    centre = data[(data["arm"] == "adam") & (data["quantity"] != "seed")]
    for _, row in centre.iterrows():
        axes.axhline(row["value"], color=INK, linewidth=0.8, zorder=1.5)
        if pd.notna(row["low"]):
            axes.axhspan(row["low"], row["high"], color=INK, alpha=0.09, linewidth=0)


def score_by_learning_rate_and_alpha(study: Study) -> Plot | None:
    """A heat map of AlphaGrad's final scores.

    Returns:
        The figure; ``None`` unless AlphaGrad ran with several alphas and several learning rates and
        all else as in the alpha sweep.
    """
    arms = arms_of(study)
    first = next((arm for arm in arms if arm.alpha is not None), None)
    if first is None:
        return None
    rows = [
        {
            "alpha": float(arm.records[0].configuration.optimizer["alpha"]),
            "learning_rate": arm.learning_rate,
            "seeds": len(arm.records),
        }
        | columns(interval_estimates(aggregate_iqm, arm.scores))
        for arm in arms
        if _all_else(arm) == _all_else(first)
    ]
    data = pd.DataFrame(rows).sort_values(["learning_rate", "alpha"], ignore_index=True)
    cells = data.pivot_table("value", index="learning_rate", columns="alpha", dropna=False)
    if min(cells.shape) < 2:
        return None

    def draw(size: Size) -> Figure:
        figure = Figure(figsize=(size.width, 0.36 * len(cells) + 1.1))
        axes = figure.add_subplot()
        image = axes.imshow(cells, cmap="cividis", aspect="auto", origin="lower")
        scores = cells.to_numpy(dtype=np.float64)
        middle = (np.nanmin(scores) + np.nanmax(scores)) / 2
        for (row, column), value in np.ndenumerate(scores):
            if np.isfinite(value):
                axes.text(
                    column,
                    row,
                    f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=6,
                    color="white" if value < middle else "black",
                )
        axes.set_xticks(range(len(cells.columns)), [f"{alpha:g}" for alpha in cells.columns])
        axes.set_yticks(range(len(cells)), [f"{rate:.2g}" for rate in cells.index])
        axes.set_xlabel("AlphaGrad's α")
        axes.set_ylabel("Learning rate")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        # Constrained layout makes room for a colour bar only if it is no part of the grid.
        bar = figure.colorbar(image, label=SCORE, format="{x:,g}", use_gridspec=False)
        bar.outline.set_visible(False)
        title(figure, study)
        return figure

    name = "score_by_learning_rate_and_alpha"
    marks = "Cells: AlphaGrad's interquartile mean over seeds; empty: not run."
    text = caption(study, name, marks, intervals=False)
    return Plot(name, "Final score by learning rate and alpha", text, data, draw)


def _all_else(arm: Arm) -> dict[str, Any]:
    """An arm's settings without learning rate and alpha."""
    setting = arm.records[0].configuration.setting()
    return setting | {
        "algorithm": setting["algorithm"] | {"learning_rate": None},
        "optimizer": setting["optimizer"] | {"alpha": None},
    }
