"""Arms compared with the baseline: by all of their scores, and run against run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scripts import statistics
from scripts.figures.colors import INK
from scripts.figures.curves import baseline_name
from scripts.figures.panels import (
    family_panels,
    label_measures,
    measured_arms,
    panel_groups,
    shown_stage,
)
from scripts.figures.plot import (
    COLUMN,
    NothingToDrawError,
    Plot,
    Size,
    caption,
    columns,
    looks,
    plain,
    setting_text,
    title,
)
from scripts.scores import Arm
from scripts.studies import Study, Task


def performance_profile(study: Study, task: Task) -> Plot:
    """Return the share of an arm's runs that score more than a return, against that return.

    Raises:
        NothingToDrawError: If no run has a score.
    """
    stage = shown_stage(study, task)
    by_measure = measured_arms(study, task, stage)
    measures = list(by_measure)
    arms = by_measure[measures[0]]
    data = pd.concat(
        [_profiles(own).assign(measure=measure) for measure, own in by_measure.items()],
        ignore_index=True,
    )
    styles = looks(arms)
    baseline = [arm for arm in arms if arm.is_baseline]
    groups = panel_groups(arms)

    def draw(size: Size) -> Figure:
        figure, panels = family_panels(size, groups, measures, 1.0, listed=True)
        for group, row in zip(groups, panels, strict=True):
            for axes, measure in zip(row, measures, strict=True):
                for arm in [*baseline, *(arm for arm in group if not arm.is_baseline)]:
                    rows = data[(data["measure"] == measure) & (data["arm"] == arm.name)]
                    own, look = steps_of(rows), styles[arm.name]
                    axes.step(
                        own["score"],
                        own["share"],
                        where="post",
                        color=look.color,
                        linestyle=look.linestyle,
                        linewidth=1.1,
                    )
                    if arm.is_baseline and own["low"].notna().all():
                        ends = own["score"], own["low"], own["high"]
                        axes.fill_between(*ends, step="post", color=INK, alpha=0.09, linewidth=0)
                axes.margins(x=0)
                axes.xaxis.set_major_formatter("{x:,g}")
                axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        label_measures(figure, panels, measures, size, "Share of runs")
        figure.supxlabel(f"Score τ{plain(baseline_name(baseline))}")
        title(figure, study, task)
        return figure

    marks = "Lines: share of an arm's runs with a score above τ"
    marks += f"; grey band: {baseline[0].family.title}'s interval." if baseline else "."
    return Plot("Performance profile", caption(study, task, marks, stage=stage), data, draw)


def _profiles(arms: list[Arm]) -> pd.DataFrame:
    scores = np.concatenate([arm.scores for arm in arms])
    margin = 0.03 * (np.ptp(scores) or 1.0)
    taus = np.unique([scores.min() - margin, *scores, scores.max() + margin])
    return pd.concat(
        [
            pd.DataFrame(
                {"arm": arm.name, "score": taus}
                | columns(statistics.performance_profile(arm.scores, taus=taus), "share")
            )
            for arm in arms
        ],
        ignore_index=True,
    )


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
    stage = shown_stage(study, task)
    by_measure = measured_arms(study, task, stage)
    measures = list(by_measure)
    arms = by_measure[measures[0]]
    baseline = next((arm for arm in arms if arm.is_baseline), None)
    groups = [] if baseline is None else panel_groups(arms)
    if baseline is None or groups == [arms]:
        raise NothingToDrawError("the baseline at its default, and another arm")
    name = baseline.family.title
    data = pd.concat(
        [_chances(own).assign(measure=measure) for measure, own in by_measure.items()],
        ignore_index=True,
    )
    styles = looks(arms)

    def draw(size: Size) -> Figure:
        stacked = size is COLUMN
        shape = (len(measures), 1) if stacked else (1, len(measures))
        lines = sum(len(group) + 1 for group in groups)
        figure = Figure(figsize=(size.width, (0.17 * lines + 0.4) * shape[0] + 0.6))
        grid = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True).flat
        for axes, measure in zip(grid, measures, strict=True):
            found = data[data["measure"] == measure].set_index("arm")
            line, ticks = 0, {}
            for group in groups:
                family = plain(group[0].family.title)
                axes.text(0.02, line, family, va="center", transform=axes.get_yaxis_transform())
                for arm in group:
                    line += 1
                    ticks[line] = plain(setting_text(arm))
                    row, color = found.loc[arm.name], styles[arm.name].color
                    if pd.notna(row["low"]):
                        ends = [row["low"], row["high"]]
                        axes.plot(ends, [line, line], color=color, linewidth=1.6)
                    axes.plot(row["value"], line, color=color, marker="o")
                line += 1
            axes.axvline(0.5, color=INK, linewidth=0.8, zorder=1.5)
            axes.set_title(f"By {measure}")
            axes.set_yticks(list(ticks), list(ticks.values()))
            axes.set_ylim(line - 0.3, -0.8)
            axes.set_xlim(-0.02, 1.02)
            axes.grid(visible=False, axis="y")
            axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        figure.supxlabel(plain(f"Probability that a run scores more than one of {name}"))
        title(figure, study, task)
        return figure

    marks = (
        f"Dots: share of all pairs of an arm's and {name}'s runs in which the arm's score is "
        "higher, a tie counting half; bars: its 95% interval by Brunner and Munzel."
    )
    heading = f"Probability of improvement over {name}"
    text = caption(study, task, marks, stage=stage, intervals=False)
    return Plot(heading, text, data, draw)


def _chances(arms: list[Arm]) -> pd.DataFrame:
    baseline = next(arm for arm in arms if arm.is_baseline)
    return pd.DataFrame(
        {"arm": arm.name, "seeds": len(arm.records), "baseline_seeds": len(baseline.records)}
        | columns(statistics.improvement((arm.measured, baseline.measured)))
        for arm in arms
        if not arm.is_baseline
    )
