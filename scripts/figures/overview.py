"""The studies that head the report: how each arm learns, and what its setting does."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scripts.figures.curves import curve_data, draw_curve, step_axis
from scripts.figures.plot import COLUMN, GREY, Look, Plot, Size, looks, plain, setting_name
from scripts.figures.setting import SCORE, band, draw_seeds, seed_data
from scripts.scores import Arm, arms_of
from scripts.statistics import MINIMUM_SEEDS
from scripts.studies import Study, Task

ACROSS = 4
"""Tasks side by side on a page."""


@dataclass(frozen=True)
class Part:
    """A task of the overview: its baseline and the study's subject.

    Attributes:
        study: The study's name.
        task: The task.
        arms: Those that are shown.
        curves: As from `curve_data`.
        scores: As from `seed_data`.
    """

    study: str
    task: Task
    arms: list[Arm]
    curves: pd.DataFrame
    scores: pd.DataFrame


def overview(studies: list[Study]) -> Plot:
    """Return the tasks of the studies side by side.

    Args:
        studies: At least one, in their order.
    """
    parts = [_part(study, task) for study in studies for task in study.tasks]
    by_name = {arm.name: arm for part in parts for arm in part.arms}
    styles = looks(sorted(by_name.values(), key=lambda arm: (arm.is_subject, arm.value)))
    data = pd.concat(
        [
            pd.concat([part.curves.assign(quantity="curve"), part.scores]).assign(
                study=part.study, task=part.task.name
            )
            for part in parts
        ],
        ignore_index=True,
    )

    def draw(size: Size) -> Figure:
        across = size is not COLUMN
        width = min(len(parts), ACROSS) if across else 1
        rows = -(-len(parts) // width)
        height = 0.35 + 3.35 * rows if across else 0.8 + 1.6 * rows
        figure = Figure(figsize=(size.width, height))
        shape = (2 * rows, width) if across else (rows, 2)
        grid = figure.subplots(*shape, squeeze=False)
        uppers, lowers = (grid[::2], grid[1::2]) if across else (grid[:, 0], grid[:, 1])
        pairs = list(zip(uppers.flat, lowers.flat, strict=True))
        for upper, lower in pairs[len(parts) :]:
            upper.remove()
            lower.remove()
        for (upper, lower), part in zip(pairs, parts, strict=False):
            upper.set_title(plain(part.task.title), fontweight="bold")
            if not across or upper in grid[:, 0]:
                upper.set_ylabel("Return in training")
                lower.set_ylabel(SCORE)
            if not across:
                upper.tick_params(axis="x", labelsize=5.5)
                lower.tick_params(axis="x", labelsize=5.5, rotation=45)
            _draw(upper, lower, part, styles)
        lines = {
            label: line
            for upper, _ in pairs[: len(parts)]
            for line, label in zip(*upper.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles=[lines[style.label] for style in styles.values()],
            loc="outside upper center",
            ncols=len(styles) if across else 4,
            handlelength=1.2,
            columnspacing=1.2,
        )
        return figure

    counts = "; ".join(
        f"{part.task.title}: {sum(len(arm.records) for arm in part.arms)} runs, "
        + " or ".join(str(n) for n in sorted({len(arm.records) for arm in part.arms}))
        + " seeds an arm"
        for part in parts
    )
    subject, symbol, baseline = (
        " or ".join(dict.fromkeys(names))
        for names in (
            [arm.family.title for arm in by_name.values() if arm.is_subject],
            [arm.family.symbol for arm in by_name.values() if arm.is_subject],
            [arm.family.title for arm in by_name.values() if arm.is_baseline],
        )
    )
    caption = (
        f"{subject}, from dark to light by {symbol}, against {baseline}, in black. Above: "
        "interquartile mean over seeds of the return during training. Below: final score, the mean "
        f"return of the last 100 training episodes, against {symbol}; dots: seeds; large markers: "
        f"interquartile mean; bars, and {baseline}'s grey band: 95% stratified bootstrap "
        f"intervals, none with fewer than {MINIMUM_SEEDS} seeds. {counts}."
    )
    return Plot("The studies in one picture", caption, data, draw)


def _part(study: Study, task: Task) -> Part:
    arms = [arm for arm in arms_of(study, task) if arm.is_baseline or arm.is_subject]
    return Part(study.name, task, arms, curve_data(arms), seed_data(arms, lambda arm: arm.scores))


def _draw(upper: Axes, lower: Axes, part: Part, styles: dict[str, Look]) -> None:
    for arm in part.arms:
        look, black = styles[arm.name], arm.is_baseline
        draw_curve(
            upper, part.curves, arm, look, band=0.12 if black else 0, width=1.3 if black else 1
        )
    step_axis(upper, part.task)
    upper.set_xlabel("Environment steps")
    upper.yaxis.set_major_formatter("{x:,g}")
    subject = [arm for arm in part.arms if arm.is_subject]
    if not subject:
        _say(lower, "no runs yet")
        return
    draw_seeds(lower, subject, [float(i) for i in range(len(subject))], part.scores, styles)
    lower.set_xticks(range(len(subject)), [f"{arm.value:g}" for arm in subject])
    band(lower, part.arms, part.scores)
    lower.xaxis.set_minor_locator(NullLocator())
    lower.grid(visible=False, axis="x")
    lower.set_xlabel(setting_name(subject[0]))
    lower.yaxis.set_major_formatter("{x:,g}")


def _say(axes: Axes, text: str) -> None:
    axes.set_ylabel("")
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
