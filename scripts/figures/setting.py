"""What depends on the setting that a family tunes: scores, areas under curves, falls.

These are tuning runs, by both measures. The baseline is a band as well. A heat map shows the
subject by two settings where both vary.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scripts.figures.colors import INK, by_family
from scripts.figures.curves import CROSS
from scripts.figures.panels import family_panels, label_measures, measured_arms
from scripts.figures.plot import (
    COLUMN,
    GREY,
    Look,
    NothingToDrawError,
    Plot,
    Size,
    caption,
    columns,
    looks,
    plain,
    setting_name,
    title,
)
from scripts.scores import Arm, area_under_curve, arms_of
from scripts.stability import instability, return_range
from scripts.statistics import FloatArray, aggregate_iqm, interval_estimates
from scripts.studies import Stage, Study, Task

SCORE = "Score"


def score_against_setting(study: Study, task: Task) -> Plot:
    """Return scores against each family's setting.

    Raises:
        NothingToDrawError: Without tuning runs.
    """
    heading = "Scores, the mean returns over the last tenth of the steps"
    return _against_setting(study, task, heading, SCORE, lambda arms: [arm.scores for arm in arms])


def area_against_setting(study: Study, task: Task) -> Plot:
    """Return areas under the curve against each family's setting.

    Raises:
        NothingToDrawError: Without tuning runs.
    """
    heading = "Areas under the learning curves, the mean returns over all steps"
    return _against_setting(
        study,
        task,
        heading,
        "Area under curve",
        lambda arms: [area_under_curve(arm.curves) for arm in arms],
    )


def fall_against_setting(study: Study, task: Task) -> Plot:
    """Return drawdowns against each family's setting.

    Raises:
        NothingToDrawError: Without tuning runs.
    """

    def falls(arms: list[Arm]) -> list[FloatArray]:
        extent = return_range(arms)
        return [instability(arm, extent) for arm in arms]

    heading = (
        "Stability: the largest fall of a smoothed curve from its running maximum, 1 of a run that "
        "diverged or learned nothing"
    )
    return _against_setting(study, task, heading, "Largest fall", falls)


def _against_setting(
    study: Study,
    task: Task,
    heading: str,
    label: str,
    values: Callable[[list[Arm]], list[FloatArray]],
) -> Plot:
    """Return a panel for each family and measure: values against the setting."""
    by_measure = measured_arms(study, task, Stage.tune)
    measures = list(by_measure)
    arms = by_measure[measures[0]]
    data = pd.concat(
        [
            seed_data(own, values(own)).assign(measure=measure)
            for measure, own in by_measure.items()
        ],
        ignore_index=True,
    )
    groups = list(by_family(arms).values())
    groups.sort(key=lambda group: not group[0].is_subject)
    styles = looks(arms)

    def draw(size: Size) -> Figure:
        widths = [len(group) + 1.0 for group in groups]
        figure, panels = family_panels(size, groups, measures, 1.15, widths=widths)
        for group, row in zip(groups, panels, strict=True):
            positions, ticks = positions_of(group), [f"{arm.value:g}" for arm in group]
            upright = max(map(len, ticks)) > 3 or (size is COLUMN and len(ticks) > 4)
            for axes, measure in zip(row, measures, strict=True):
                own = data[data["measure"] == measure]
                draw_seeds(axes, group, positions, own, styles)
                band(axes, arms, own)
                axes.set_xticks(positions, ticks, rotation=90 * upright)
                axes.xaxis.set_minor_locator(NullLocator())
                axes.grid(visible=False, axis="x")
                axes.yaxis.set_major_formatter("{x:,g}")
                if axes is row[-1] or size is COLUMN:
                    axes.set_xlabel(plain(group[0].family.symbol))
        label_measures(figure, panels, measures, size, label)
        title(figure, study, task)
        return figure

    marks = "Dots: seeds; large markers: their interquartile mean; bars: its interval"
    if baseline := next((arm for arm in arms if arm.is_baseline), None):
        marks += f"; black line and grey band: {baseline.family.title}'s at its default"
    text = caption(study, task, f"{marks}.", "Crosses: diverged runs.")
    return Plot(heading, text, data, draw)


def seed_data(arms: list[Arm], values: list[FloatArray]) -> pd.DataFrame:
    """Return a row for each seed, and one without a seed for each arm's interquartile mean.

    Args:
        arms: The arms.
        values: A number for each seed of each arm.
    """
    rows: list[dict[str, object]] = []
    for arm, sample in zip(arms, values, strict=True):
        common: dict[str, object] = {
            "arm": arm.name,
            "family": arm.family.name,
            "setting": arm.value,
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


def positions_of(arms: list[Arm]) -> list[float]:
    """Return where the arms of a family stand on an axis of their setting.

    In decades, if all values are positive and do not crowd there, or else by their numbers.
    """
    values = [arm.value for arm in arms]
    if values[0] > 0:
        positions = [float(np.log10(value)) for value in values]
        gaps = np.diff(positions)
        if not len(gaps) or gaps.min() > gaps.max() / 10:
            return positions
    return [float(index) for index in range(len(arms))]


def draw_seeds(
    axes: Axes, arms: list[Arm], positions: list[float], data: pd.DataFrame, styles: dict[str, Look]
) -> None:
    """Draw arms at positions: their seeds, interquartile means and intervals."""
    gap = min(np.diff(positions), default=1.0)
    centres = data[data["quantity"] != "seed"].set_index("arm")
    if len(arms) > 1:
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


def band(axes: Axes, arms: list[Arm], data: pd.DataFrame) -> None:
    """Draw the baseline's interquartile mean and interval across the panel, if it is there."""
    names = [arm.name for arm in arms if arm.is_baseline]
    centre = data[data["arm"].isin(names) & (data["quantity"] != "seed")]
    for _, row in centre.iterrows():
        axes.axhline(row["value"], color=INK, linewidth=0.8, zorder=1.5)
        if pd.notna(row["low"]):
            axes.axhspan(row["low"], row["high"], color=INK, alpha=0.09, linewidth=0)


def score_by_two_settings(study: Study, task: Task) -> Plot:
    """Return a heat map of the subject's final scores by its setting and a second one.

    Raises:
        NothingToDrawError: Unless the study has arms that differ from the subject's in the setting
            that it tunes and in one other number only, with several values of both.
    """
    arms = arms_of(study, task)
    subject = next((arm for arm in arms if arm.is_subject), None)
    found = second_setting(subject, arms) if subject else None
    if subject is None or found is None:
        raise NothingToDrawError(
            "arms that differ from the study's subject in its tuned setting and one other number"
        )
    second, shown = found
    data = pd.DataFrame(
        {"setting": arm.value, "second": value, "seeds": len(arm.records)}
        | columns(interval_estimates(aggregate_iqm, arm.scores))
        for value, arm in shown
    ).sort_values(["second", "setting"], ignore_index=True)
    cells = data.pivot_table("value", index="second", columns="setting", dropna=False)
    first_name, second_name = setting_name(subject), second.rpartition(".")[2].replace("_", " ")

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
        axes.set_xticks(range(len(cells.columns)), [f"{value:g}" for value in cells.columns])
        axes.set_yticks(range(len(cells)), [f"{value:g}" for value in cells.index])
        axes.set_xlabel(first_name)
        axes.set_ylabel(plain(second_name.capitalize()))
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        # Constrained layout makes room for a colour bar only if it is no part of the grid.
        bar = figure.colorbar(image, label=SCORE, format="{x:,g}", use_gridspec=False)
        bar.outline.set_visible(False)
        title(figure, study, task)
        return figure

    name = subject.family.title
    marks = f"Cells: {name}'s interquartile mean over seeds; empty: not run."
    heading = f"Final score by {second_name} and {name}'s {subject.family.symbol}"
    return Plot(heading, caption(study, task, marks, intervals=False), data, draw)


def second_setting(subject: Arm, arms: list[Arm]) -> tuple[str, list[tuple[float, Arm]]] | None:
    """Return the number, beside the tuned setting, in which arms differ from the subject's.

    Returns:
        Its path in the configuration, and the arms that differ in nothing else, each with its
        value, the subject's included; ``None`` unless both settings have several values.
    """
    own = _other_settings(subject)
    found: dict[str, list[tuple[float, Arm]]] = {}
    for arm in arms:
        if arm.family.tuned != subject.family.tuned:
            continue
        theirs = _other_settings(arm)
        differing = [path for path in own | theirs if own.get(path) != theirs.get(path)]
        if len(differing) == 1 and all(
            isinstance(settings.get(differing[0]), int | float) for settings in (own, theirs)
        ):
            found.setdefault(differing[0], []).append((theirs[differing[0]], arm))
    for path, others in found.items():
        same = [(own[path], arm) for arm in arms if _other_settings(arm) == own]
        if len({arm.value for _, arm in [*same, *others]}) > 1:
            return path, [*same, *others]
    return None


def _other_settings(arm: Arm) -> dict[str, Any]:
    """Return an arm's settings by their paths, without the one that is tuned."""
    flat: dict[str, Any] = {}

    def flatten(settings: dict[str, Any], prefix: str) -> None:
        for name, value in settings.items():
            if isinstance(value, dict):
                flatten(value, f"{prefix}{name}.")
            else:
                flat[prefix + name] = value

    flatten(arm.records[0].configuration.setting(), "")
    flat.pop(arm.family.tuned, None)
    return flat
