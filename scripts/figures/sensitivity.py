"""How far the subject's setting may be from its best, beside the baseline's.

Both settings stand on one axis, in decades around the value that is best, and scores as shares of
what is gained there. So a wide range of one means the same as a wide range of the other.
"""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scripts.figures.colors import INK, by_family, family_colors
from scripts.figures.panels import measured_arms
from scripts.figures.plot import (
    COLUMN,
    GREY,
    NothingToDrawError,
    Plot,
    Size,
    caption,
    columns,
    plain,
    setting_name,
    title,
)
from scripts.scores import Arm
from scripts.stability import NEAR_BEST, decades, return_range
from scripts.statistics import Estimate, aggregate_iqm, interval_estimates
from scripts.studies import Stage, Study, Task

LOWEST = -0.5
"""Shares below this are drawn here."""


def sensitivity(study: Study, task: Task) -> Plot:
    """Return shares of the best gain against the decades from the best value, by both measures.

    Raises:
        NothingToDrawError: Unless the baseline's family and the subject have tuning runs at several
            positive values, by which one learned something.
    """
    frames, widths = [], []
    names: dict[str, str] = {}
    for measure, arms in measured_arms(study, task, Stage.tune).items():
        untrained = return_range(arms).untrained
        baseline = study.manifest.baseline
        for name, own in by_family(arms).items():
            own = sorted((arm for arm in own if arm.value > 0), key=lambda arm: arm.value)
            if len(own) < 2 or not (name == baseline or own[0].is_subject):
                continue
            spread = interval_estimates(
                partial(decades, settings=[arm.value for arm in own], untrained=untrained),
                *(arm.scores for arm in own),
            )
            if np.isfinite(spread.value):
                names[name] = setting_name(own[0])
                widths.append(f"{names[name]} {_text(spread)} by {measure}")
                frames.append(_shares(own, untrained).assign(measure=measure))
    if len(names) < 2:
        raise NothingToDrawError(
            "the baseline's family and the study's subject at two values or more, tuned"
        )
    data = pd.concat(frames, ignore_index=True)
    families = [family for family in study.manifest.families if family.name in names]
    colors = {**family_colors(families), study.manifest.baseline: INK}
    measures = list(data["measure"].unique())

    def draw(size: Size) -> Figure:
        stacked = size is COLUMN
        shape = (len(measures), 1) if stacked else (1, len(measures))
        figure = Figure(figsize=(size.width, 1.9 * shape[0] + 0.8))
        grid = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False).flat
        for axes, measure in zip(grid, measures, strict=True):
            for name, label in names.items():
                own = data[(data["family"] == name) & (data["measure"] == measure)]
                shares = own[["value", "low", "high"]].clip(lower=LOWEST)
                axes.vlines(
                    own["decades"], shares["low"], shares["high"], color=colors[name], alpha=0.5
                )
                axes.plot(
                    own["decades"], shares["value"], color=colors[name], marker="o", label=label
                )
            axes.axhline(NEAR_BEST, color=GREY, linewidth=0.8, linestyle=":")
            axes.set_title(f"By {measure}")
            axes.set_xlabel("Decades from the value that is best")
            axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        figure.supylabel("Share of the best gain")
        title(figure, study, task)
        return figure

    marks = (
        "Marks: interquartile mean over seeds at one value, as share of the way from untrained to "
        f"the best one; bars: its interval; dotted: {NEAR_BEST:.0%}. Decades above it: "
        f"{'; '.join(plain(width) for width in widths)}."
    )
    if (data["value"] < LOWEST).any():
        marks += f" Less than {LOWEST:.0%} is drawn there."
    subject, control = (
        next(names[family.name] for family in families if (family.name == baseline) == is_control)
        for is_control in (False, True)
    )
    return Plot(f"{subject} against {control}", caption(study, task, marks), data, draw)


def _shares(arms: list[Arm], untrained: float) -> pd.DataFrame:
    estimates = [interval_estimates(aggregate_iqm, arm.scores) for arm in arms]
    values = [float(estimate.value) for estimate in estimates]
    best = int(np.argmax(values))
    gain = values[best] - untrained
    rows = [
        {
            "family": arm.family.name,
            "arm": arm.name,
            "setting": arm.value,
            "seeds": len(arm.records),
            "decades": np.log10(arm.value / arms[best].value),
        }
        | {name: (end - untrained) / gain for name, end in columns(estimate).items()}
        for arm, estimate in zip(arms, estimates, strict=True)
    ]
    return pd.DataFrame(rows)


def _text(spread: Estimate) -> str:
    if spread.low is None or spread.high is None:
        return f"{spread.value:.2f}"
    return f"{spread.value:.2f} [{spread.low:.2f}, {spread.high:.2f}]"
