"""Gradient norms below their bounds, and where a step must shrink."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from scripts.convergence import Convergence, Series
from scripts.figures.colors import INK
from scripts.figures.plot import (
    COLUMN,
    GREY,
    NothingToDrawError,
    Plot,
    Size,
    four_across,
    panels,
)

MEASURED, BOUND = "#0072B2", "#D55E00"


def convergence_table(record: Convergence) -> pd.DataFrame:
    """Return a row for each function: cases, the largest share of a bound, the slopes' range.

    Slopes are those of exact gradients without momentum.
    """
    rows = []
    for function, series in _by_function(record).items():
        shares = [norm / bound for row in series for norm, bound in row.cases]
        slopes = [row.slope for row in series if row.slope is not None and not row.practice]
        rows.append(
            {
                "function": function,
                "cases": len(shares),
                "below_bound": sum(share <= 1 for share in shares),
                "largest_share": max(shares),
                "slope_low": min(slopes, default=float("nan")),
                "slope_median": float(np.median(slopes)) if slopes else float("nan"),
                "slope_high": max(slopes, default=float("nan")),
            }
        )
    return pd.DataFrame(rows)


def gradient_norm_bound(record: Convergence) -> Plot:
    """Return the smallest gradient norm over T steps of size 1/sqrt(T), measured and bounded."""
    panel_rows = [
        (row.function, row) for row in record.series if row.step != "constant" and not row.practice
    ]
    summary = record.summary
    caption = (
        f"Each line is one function, its tensors' sizes, α and ε; both axes are logarithmic and "
        f"values are drawn from 1e-4 up. Over constant steps and with momentum and noise too, "
        f"{summary.below_bound:,} of {summary.cases:,} cases lie below the bound, at most at "
        f"{summary.largest_share:.0%} of it. The runs are deterministic: no seeds, no "
        f"intervals. Made by `{record.provenance.command}`."
    )
    return _bounds("Measured gradient norms and their bounds", caption, panel_rows)


def momentum_and_noise(record: Convergence) -> Plot:
    """Return the same with momentum and noise: the bound falls to a floor that the noise sets."""
    panel_rows = [
        (f"μ = {row.momentum:g}, {'noise' if row.noise else 'exact'}", row)
        for row in record.series
        if row.practice
    ]
    cases = [case for _, row in panel_rows for case in row.cases]
    share = max((norm / bound for norm, bound in cases), default=float("nan"))
    caption = (
        f"As the figure before, by momentum μ; each line is one function, its tensors' sizes and "
        f"α. With noise each is the mean of a few runs, and the bound does not fall below a floor. "
        f"{sum(norm <= bound for norm, bound in cases):,} of {len(cases):,} "
        f"cases lie below the bound, at most at {share:.0%} of it. Deterministic: no intervals. "
        f"Made by `{record.provenance.command}`."
    )
    return _bounds("The same with momentum and noisy gradients", caption, panel_rows)


def _bounds(title: str, caption: str, panel_rows: list[tuple[str, Series]]) -> Plot:
    """Return measured norms and bounds against T, a line for each row in the panel it names."""
    if not panel_rows:
        raise NothingToDrawError("it needs a series with steps of 1/sqrt(T)")
    data = pd.DataFrame(
        {
            "panel": panel,
            "function": row.function,
            "sizes": "x".join(map(str, row.sizes)),
            "alpha": row.alpha,
            "eps": row.eps,
            "momentum": row.momentum,
            "noise": row.noise,
            "steps": steps,
            "measured": measured,
            "bound": bound,
            # Relative to the bound at the first T, all bounds without noise fall along one line.
            "measured_relative": measured / row.bound[0],
            "bound_relative": bound / row.bound[0],
        }
        for panel, row in panel_rows
        for steps, (measured, bound) in zip(row.steps, row.cases, strict=True)
    )

    def draw(size: Size) -> Figure:
        count = data["panel"].nunique()
        across = size if size is COLUMN else replace(size, columns=count)
        figure, grid, lowest = panels(across, count, 1.7, sharex=True, sharey=True)
        for axes, (panel, own) in zip(grid, data.groupby("panel", sort=False), strict=True):
            for column, color, label in (
                ("measured_relative", MEASURED, "measured"),
                ("bound_relative", BOUND, "bound"),
            ):
                lines = own.groupby(["function", "sizes", "alpha", "eps"])
                for index, (_, line) in enumerate(lines):
                    axes.plot(
                        line["steps"],
                        line[column].clip(lower=1e-4),
                        color=color,
                        linewidth=0.7,
                        alpha=0.6,
                        label=None if index else label,
                    )
            horizons = np.array(sorted(own["steps"].unique()))
            axes.plot(
                horizons,
                2 * (horizons / horizons[0]) ** -0.5,
                color=INK,
                linestyle="--",
                linewidth=1,
                label="slope −1/2",
            )
            axes.set_title(str(panel))
            _horizon_axes(axes, horizons)
            axes.tick_params(labelbottom=axes in lowest)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        figure.supxlabel("Steps T, each of size c / √T")
        figure.supylabel("Smallest gradient norm,\nshare of the bound at the first T")
        return figure

    return Plot(title, caption, data, draw)


def counterexample(record: Convergence) -> Plot:
    """Return how a constant step circles the minimum of x^2 / 2, and a shrinking one does not."""
    examples = record.counterexamples
    data = pd.DataFrame(
        {
            "alpha": example.alpha,
            "steps": steps,
            "constant": constant,
            "shrinking": shrinking,
        }
        for example in examples
        for steps, constant, shrinking in zip(
            example.steps, example.constant, example.shrinking, strict=True
        )
    )

    def draw(size: Size) -> Figure:
        figure, grid, _ = panels(four_across(size), len(examples), 1.4, sharex=True, sharey=True)
        for axes, (alpha, own) in zip(grid, data.groupby("alpha", sort=False), strict=True):
            axes.plot(own["steps"], own["constant"], color=BOUND, marker=".", label="constant")
            axes.plot(own["steps"], own["shrinking"], color=MEASURED, marker=".", label="c / √T")
            axes.set_title(f"α = {alpha:g}")
            _horizon_axes(axes, own["steps"].to_numpy())
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
        figure.supxlabel("Steps T")
        figure.supylabel("Gradient norm at the end")
        return figure

    caption = (
        "f(x) = x² / 2 from x = lr tanh(α) / 2: a constant step jumps from one side of the minimum "
        "to the other for ever, and a step of lr / √T does not. Deterministic: no seeds, no "
        f"intervals. Made by `{record.provenance.command}`."
    )
    return Plot("Why the step must shrink", caption, data, draw)


def _by_function(record: Convergence) -> dict[str, list[Series]]:
    functions: dict[str, list[Series]] = {}
    for row in record.series:
        functions.setdefault(row.function, []).append(row)
    return functions


def _horizon_axes(axes: Axes, horizons: np.ndarray[Any, Any]) -> None:
    cell = axes.get_subplotspec()
    assert cell is not None
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([float(horizon) for horizon in horizons[::2]]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelleft=cell.is_first_col(), colors=GREY)
