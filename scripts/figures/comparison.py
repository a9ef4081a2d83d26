"""Arms compared with the baseline: by all of their scores, and run against run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scripts import statistics
from scripts.figures.colors import INK
from scripts.figures.curves import baseline_name
from scripts.figures.plot import (
    COLUMN,
    GREY,
    NothingToDrawError,
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
from scripts.scores import arms_of
from scripts.studies import Study, Task


def performance_profile(study: Study, task: Task) -> Plot:
    """Return the share of an arm's runs that score more than a return, against that return.

    Raises:
        NothingToDrawError: If no run has a score.
    """
    arms = arms_of(study, task)
    scores = np.concatenate([arm.scores for arm in arms])
    if np.isnan(scores).any():
        raise NothingToDrawError("a run in which an episode ended")
    margin = 0.03 * (np.ptp(scores) or 1.0)
    taus = np.unique([scores.min() - margin, *scores, scores.max() + margin])
    shares = {arm.name: statistics.performance_profile(arm.scores, taus=taus) for arm in arms}
    data = pd.concat(
        [
            pd.DataFrame({"arm": name, "score": taus} | columns(estimate, "share"))
            for name, estimate in shares.items()
        ],
        ignore_index=True,
    )
    styles = looks(arms)

    baseline = [arm for arm in arms if arm.is_baseline]
    shown = groups([arm for arm in arms if not arm.is_baseline] or baseline)
    if all(len(group) == 1 for group in shown):
        shown = [arms]

    def draw(size: Size) -> Figure:
        alone, column = len(shown) == 1, size is COLUMN
        legend = 0.05 * len(arms) if column else max(0.0, 0.16 * len(arms) - 2.8)
        height = 2.2 + legend if alone else 1.3
        figure, grid, lowest = panels(size, len(shown), height, sharex=True, sharey=True)
        for axes, group in zip(grid, shown, strict=True):
            for arm in [*baseline, *(arm for arm in group if not arm.is_baseline)]:
                own, look = steps_of(data[data["arm"] == arm.name]), styles[arm.name]
                axes.step(
                    own["score"],
                    own["share"],
                    where="post",
                    color=look.color,
                    linestyle=look.linestyle,
                    label=look.label,
                )
                if arm.is_baseline and own["low"].notna().all():
                    axes.fill_between(
                        own["score"],
                        own["low"],
                        own["high"],
                        step="post",
                        color=look.color,
                        alpha=0.09,
                        linewidth=0,
                    )
            axes.margins(x=0)
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
            axes.tick_params(labelbottom=axes in lowest)
            if not alone:
                panel_title(axes, group, styles, size)
        beside = "" if alone else baseline_name(baseline)
        figure.supxlabel(f"Final score τ{plain(beside)}")
        figure.supylabel("Runs that score more than τ")
        if alone and column:
            figure.legend(loc="outside lower left", ncols=3)
        elif alone:
            figure.legend(loc="outside right upper")
        title(figure, study, task)
        return figure

    marks = "Lines: share of an arm's runs with a final score above τ"
    marks += f"; grey band: {baseline[0].family.title}'s interval." if baseline else "."
    return Plot("Performance profile", caption(study, task, marks), data, draw)


def steps_of(profile: pd.DataFrame) -> pd.DataFrame:
    """Return a profile's rows where it changes, and its ends: all that is seen of it."""
    changes = profile[["share", "low", "high"]].diff().fillna(0).ne(0).any(axis=1)
    changes.iloc[[0, -1]] = True
    return profile[changes]


def probability_of_improvement(study: Study, task: Task) -> Plot:
    """Return the probability that a run of an arm scores more than one of the baseline.

    Raises:
        NothingToDrawError: Without the baseline, without another arm, or if a run has no score.
    """
    arms = arms_of(study, task)
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    shown = [arm for arm in arms if not arm.is_baseline]
    if baseline is None or not shown or any(np.isnan(arm.scores).any() for arm in arms):
        raise NothingToDrawError(
            "the baseline at its default, another arm and a run in which an episode ended"
        )
    name = baseline.family.title
    data = pd.DataFrame(
        {"arm": arm.name, "seeds": len(arm.records), "baseline_seeds": len(baseline.records)}
        | columns(statistics.improvement((arm.measured, baseline.measured)))
        for arm in shown
    )
    styles = looks(arms)

    def draw(size: Size) -> Figure:
        figure = Figure(figsize=(size.width, 0.2 * len(data) + 0.95))
        axes = figure.add_subplot()
        for position, (_, row) in enumerate(data.iterrows()):
            color = styles[row["arm"]].color
            if pd.notna(row["low"]):
                # Ends, so that an interval without width can be told from none.
                ends, both = [row["low"], row["high"]], [position, position]
                axes.plot(ends, both, color=color, linewidth=1.8, marker="|", markersize=9)
            axes.plot(
                row["value"],
                position,
                color=color,
                marker="o",
                markersize=5.5,
                markeredgecolor="white",
                markeredgewidth=0.7,
            )
        axes.axvline(0.5, color=INK, linewidth=0.8, zorder=1.5)
        above = axes.get_xaxis_transform()
        axes.text(0.48, 1.01, plain(f"{name} better"), ha="right", color=GREY, transform=above)
        axes.text(0.52, 1.01, plain(f"{name} worse"), color=GREY, transform=above)
        axes.set_yticks(range(len(data)), [styles[name].label for name in data["arm"]])
        axes.set_ylim(len(data) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        figure.supxlabel(plain(f"Probability that a run scores more than one of {name}"))
        title(figure, study, task)
        return figure

    marks = (
        f"Dots: share of all pairs of an arm's and {name}'s runs in which the arm's final score is "
        "higher, a tie counting half; bars: its interval."
    )
    heading = f"Probability of improvement over {name}"
    return Plot(heading, caption(study, task, marks), data, draw)
