"""Draws a study's figures from its records.

Adam is black and alpha a ramp from dark to light, so that the order of the arms survives colour
blindness and a black-and-white printer; markers tell apart what the ramp leaves close.
"""

import io
import itertools
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator

from scripts.records import Study
from scripts.statistics import (
    MINIMUM_SEEDS,
    Arm,
    Estimate,
    FloatArray,
    aggregate_iqm,
    arms_of,
    interval_estimates,
    lowest_return,
)

Color = str | tuple[float, float, float, float]

STYLE = Path(__file__).with_name("alphagrad.mplstyle")
SIZE = (7.0, 3.9)
"""Inches: the width of a page's text."""
ALPHA = r"$\alpha$"
INK, GREY, ALERT = "#000000", "#555555", "#B34700"

OTHERS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, for arms that are neither Adam nor of the alpha sweep."""
MARKERS = "osD^vph<>d"
DIVERGED: dict[str, Any] = {
    "linestyle": "none",
    "marker": "X",
    "markersize": 6,
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
    "zorder": 5,
}


@dataclass(frozen=True)
class _Look:
    label: str
    color: Color
    marker: str
    linestyle: str


def learning_curves(study: Study) -> Figure:
    """Training return against environment steps: a line for each arm.

    Lines are interquartile means over seeds, bands their pointwise 95% intervals; a cross on a
    line stands where one of its runs diverged.
    """
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=SIZE)
        axes = figure.add_subplot()
        arms = arms_of(study)
        steps = np.array(study.records[0].curve.step)
        spacing = max(len(steps) // 8, 1)
        for index, (arm, look) in enumerate(zip(arms, _looks(arms), strict=True)):
            estimate = interval_estimates(aggregate_iqm, arm.curves)
            stops = [record.steps for record in arm.records if record.diverged]
            front = 3 if arm.name == "adam" else 2
            if estimate.low is not None and estimate.high is not None:
                axes.fill_between(
                    steps, estimate.low, estimate.high, color=look.color, alpha=0.14, linewidth=0
                )
            axes.plot(
                steps,
                estimate.value,
                color=look.color,
                linestyle=look.linestyle,
                marker=look.marker,
                markevery=(index * spacing // len(arms), spacing),
                markeredgecolor="white",
                markeredgewidth=0.6,
                label=look.label,
                zorder=front,
            )
            axes.plot(
                stops,
                np.interp(stops, steps, estimate.value),
                color=look.color,
                **DIVERGED,
            )
        axes.set_xlim(0, study.configuration.total_steps)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("Environment steps")
        axes.set_ylabel("Return of training episodes")
        marks = "Lines: interquartile mean over seeds; bands: pointwise"
        _finish(figure, axes, study, "learning curves", marks)
    return figure


def score_against_alpha(study: Study) -> Figure | None:
    """Final score against alpha on a logarithmic axis, with Adam as a band beside it.

    Dots are seeds, crosses seeds that diverged; lines are interquartile means over seeds, bars
    and the band their 95% intervals.

    Returns:
        The figure; ``None`` if the study has no arm of the alpha sweep.
    """
    arms = arms_of(study)
    looks = _looks(arms)
    sweep = [(arm, look) for arm, look in zip(arms, looks, strict=True) if arm.alpha is not None]
    adam = [(arm, look) for arm, look in zip(arms, looks, strict=True) if arm.name == "adam"]
    if not sweep:
        return None
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=SIZE)
        widths = [9, 1] if adam else [1]
        columns = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[
            0
        ]
        axes = columns[0]

        alphas = np.array([arm.alpha for arm, _ in sweep], dtype=np.float64)
        estimates = [interval_estimates(aggregate_iqm, arm.scores) for arm, _ in sweep]
        axes.plot(alphas, [e.value for e in estimates], color=GREY, linewidth=0.9, zorder=2)
        for alpha, estimate, (arm, look) in zip(alphas, estimates, sweep, strict=True):
            _scores(axes, arm, look, estimate, alpha * 10 ** _spread(arm, 0.09), alpha)
        axes.set_xscale("log")
        axes.set_xlim(alphas.min() / 1.7, alphas.max() * 1.7)
        axes.xaxis.set_major_locator(FixedLocator(list(alphas)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel(f"AlphaGrad's {ALPHA} (logarithmic)")
        axes.set_ylabel("Return of the last 100 training episodes")

        for arm, look in adam:
            estimate = interval_estimates(aggregate_iqm, arm.scores)
            _scores(columns[1], arm, look, estimate, _spread(arm, 0.7), 0.0)
            columns[1].set_xlim(-1, 1)
            columns[1].set_xticks([0.0], ["Adam"])
            columns[1].grid(visible=False, axis="x")
            columns[1].tick_params(left=False)
            columns[1].spines["left"].set_visible(False)
            for column in columns:
                column.axhline(float(estimate.value), color=look.color, linewidth=1, zorder=1.5)
                if estimate.low is not None and estimate.high is not None:
                    column.axhspan(
                        float(estimate.low), float(estimate.high), color=INK, alpha=0.1, linewidth=0
                    )
        marks = "Dots: seeds; large markers: their interquartile mean; bars and band:"
        _finish(figure, axes, study, "final score against alpha", marks)
    return figure


def render(figure: Figure, kind: Literal["png", "pdf"]) -> bytes:
    """The figure as a file's bytes, which depend on nothing but it and the library versions."""
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}[kind]
    buffer = io.BytesIO()
    with matplotlib.style.context(STYLE):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _looks(arms: list[Arm]) -> list[_Look]:
    """A look for each arm: Adam's, one of the ramp's, or one of the others'."""
    sweep = sum(arm.alpha is not None for arm in arms)
    ramp = iter(mpl.colormaps["plasma"](np.linspace(0.08, 0.86, sweep)))
    others = itertools.cycle(OTHERS)
    looks = []
    for arm, marker in zip(arms, itertools.cycle(MARKERS)):
        if arm.name == "adam":
            looks.append(_Look("Adam", INK, marker, "-"))
        elif arm.alpha is not None:
            looks.append(
                _Look(f"AlphaGrad, {ALPHA} = {arm.alpha:g}", tuple(next(ramp)), marker, "-")
            )
        else:
            looks.append(_Look(arm.name, next(others), marker, "--"))
    return looks


def _spread(arm: Arm, width: float) -> FloatArray:
    """Offsets that keep an arm's seeds from hiding each other, in the order of the seeds."""
    return np.linspace(-width, width, len(arm.records) + 2)[1:-1]


def _scores(
    axes: Axes, arm: Arm, look: _Look, estimate: Estimate, seeds: FloatArray, centre: float
) -> None:
    diverged = np.array([record.diverged for record in arm.records])
    axes.plot(
        seeds[~diverged],
        arm.scores[~diverged],
        color=look.color,
        alpha=0.5,
        linestyle="none",
        marker="o",
        markersize=4,
        markeredgewidth=0,
        zorder=2.5,
    )
    axes.plot(seeds[diverged], arm.scores[diverged], color=look.color, **DIVERGED)
    if estimate.low is not None and estimate.high is not None:
        axes.vlines(centre, estimate.low, estimate.high, color=look.color, linewidth=2, zorder=3)
    axes.plot(
        centre,
        estimate.value,
        color=look.color,
        marker=look.marker,
        markersize=7,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
    )


def _finish(figure: Figure, axes: Axes, study: Study, subject: str, marks: str) -> None:
    """Titles, the axis of returns, the legend beside the data and the caption below them."""
    axes.set_title(f"{study.name}: {subject}")
    if study.quick:
        axes.set_title(f"Quick scale: {_steps(study)}, not evidence", loc="right", color=ALERT)
    axes.yaxis.set_major_formatter("{x:,g}")
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles=handles, loc="outside right upper")
    figure.supxlabel(_caption(study, marks), x=0.01, ha="left", fontsize=7, color=GREY)


def _steps(study: Study) -> str:
    return f"{study.configuration.total_steps:,} steps"


def _caption(study: Study, marks: str) -> str:
    configuration = study.configuration
    seeds = sorted({len(records) for records in study.arms.values()})
    text = f"{marks} 95% stratified bootstrap intervals"
    if seeds[0] < MINIMUM_SEEDS:
        text += f" (none with fewer than {MINIMUM_SEEDS} seeds)"
    if any(record.diverged for record in study.records):
        text += "; crosses: diverged runs"
    if np.isnan(lowest_return(study)):
        text = "No episode ended in any run"
    return (
        f"Protocol {configuration.protocol}: {configuration.environment.id}, {_steps(study)}; "
        f"seeds per arm: {' or '.join(map(str, seeds))}.\n" + textwrap.fill(f"{text}.", 135)
    )
