"""Gradient norms below their bounds, and where a step must shrink."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from scripts.convergence import Convergence, Series
from scripts.figures.plot import GREY, INK, OTHERS, Plot, Size, four_across, panels

MEASURED, BOUND = OTHERS[1], OTHERS[0]


def convergence_table(record: Convergence) -> pd.DataFrame:
    """Return a row for each function: cases, the largest share of a bound, the slopes' range."""
    rows = []
    for function, series in _by_function(record).items():
        shares = [norm / bound for row in series for norm, bound in row.cases]
        slopes = [row.slope for row in series if row.slope is not None]
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
    functions = _by_function(record)
    data = pd.DataFrame(
        {
            "function": row.function,
            "sizes": "x".join(map(str, row.sizes)),
            "alpha": row.alpha,
            "eps": row.eps,
            "steps": steps,
            "measured": measured,
            "bound": bound,
            # Relative to the bound at the first T, all bounds fall along one line.
            "measured_relative": measured / row.bound[0],
            "bound_relative": bound / row.bound[0],
        }
        for row in record.series
        if row.step == "1/sqrt(T)"
        for steps, (measured, bound) in zip(row.steps, row.cases, strict=True)
    )

    def draw(size: Size) -> Figure:
        figure, grid, lowest = panels(
            four_across(size), len(functions), 1.7, sharex=True, sharey=True
        )
        for axes, (function, own) in zip(grid, data.groupby("function", sort=False), strict=True):
            for column, color, label in (
                ("measured_relative", MEASURED, "measured"),
                ("bound_relative", BOUND, "bound"),
            ):
                for index, (_, line) in enumerate(own.groupby(["sizes", "alpha", "eps"])):
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
            axes.set_title(str(function))
            _horizon_axes(axes, horizons)
            axes.tick_params(labelbottom=axes in lowest)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        figure.supxlabel("Steps T, each of size c / √T")
        figure.supylabel("Smallest gradient norm,\nshare of the bound at the first T")
        return figure

    summary = record.summary
    caption = (
        f"Each line is one function, its tensors' sizes, α and ε; both axes are logarithmic and "
        f"values are drawn from 1e-4 up. Over constant steps too, {summary.below_bound:,} of "
        f"{summary.cases:,} cases lie below the bound, at most at "
        f"{summary.largest_share:.0%} of it. The runs are deterministic: no seeds, no "
        f"intervals. Made by `{record.provenance.command}`."
    )
    return Plot("Measured gradient norms and their bounds", caption, data, draw)


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
    axes.tick_params(labelleft=cell.is_first_col(), colors=GREY)
