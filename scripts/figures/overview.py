"""One panel over the paper's studies: how each arm learns, and how alpha decides the score."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from scripts.figures.alpha import SCORE, band, draw_seeds, seed_data
from scripts.figures.curves import curve_data, draw_curve, step_axis
from scripts.figures.plot import COLUMN, GREY, Look, Plot, Size, command, looks
from scripts.studies import Study
from scripts.statistics import MINIMUM_SEEDS, Arm, arms_of

PAPER_STUDIES = {
    "dqn": "DQN, CartPole-v1",
    "td3": "TD3, Hopper-v4",
    "ppo": "PPO, HalfCheetah-v4",
}


def overview(studies: Mapping[str, Study]) -> Plot | None:
    """The paper's studies side by side.

    Args:
        studies: Studies at paper scale, by name.

    Returns:
        The figure; ``None`` if none of the paper's studies is among them.
    """
    found = {
        name: [arm for arm in arms_of(studies[name]) if arm.name == "adam" or arm.alpha is not None]
        for name in PAPER_STUDIES
        if name in studies
    }
    if not found:
        return None
    by_name = {arm.name: arm for arms in found.values() for arm in arms}
    styles = looks(sorted(by_name.values(), key=lambda arm: arm.alpha or 0))  # Adam has none
    curves = {name: curve_data(arms) for name, arms in found.items()}
    scores = {name: seed_data(arms, lambda arm: arm.scores) for name, arms in found.items()}
    data = pd.concat(
        [
            pd.concat(
                [curves[name].assign(quantity="curve"), scores[name].drop(columns="learning_rate")]
            ).assign(study=name)
            for name in found
        ],
        ignore_index=True,
    )

    def draw(size: Size) -> Figure:
        across = size is not COLUMN
        figure = Figure(figsize=(size.width, 3.7 if across else 5.6))
        shape = (2, 3) if across else (3, 2)
        grid = figure.subplots(*shape, squeeze=False)
        pairs = grid.T if across else grid
        for (upper, lower), (name, label) in zip(pairs, PAPER_STUDIES.items(), strict=True):
            upper.set_title(label, fontweight="bold")
            if not across or upper in grid[:, 0]:
                upper.set_ylabel("Return in training")
                lower.set_ylabel(SCORE)
            if not across:
                upper.tick_params(axis="x", labelsize=5.5)
                lower.tick_params(axis="x", labelsize=5.5, rotation=45)
            if name in found:
                step_axis(upper, studies[name])
                _panels(upper, lower, found[name], styles, curves[name], scores[name])
            else:
                for axes in (upper, lower):
                    _say(axes, "no runs yet")
        lines = {
            label: line
            for axes in pairs[:, 0]
            for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
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
        f"{name}: {sum(len(arm.records) for arm in arms)} runs, "
        + " or ".join(str(n) for n in sorted({len(arm.records) for arm in arms}))
        + " seeds an arm"
        for name, arms in found.items()
    )
    caption = (
        "AlphaGrad, from dark to light by α, against Adam, in black. Above: interquartile mean "
        "over seeds of the return during training. Below: final score, the mean return of the "
        "last 100 training episodes, against α; dots: seeds; large markers: interquartile mean; "
        "bars, and Adam's grey band: 95% stratified bootstrap intervals, none with fewer than "
        f"{MINIMUM_SEEDS} seeds. {counts}. " + command("study=all name=overview")
    )
    return Plot("overview", "The paper's three studies", caption, data, draw)


def _say(axes: Axes, text: str) -> None:
    axes.set_ylabel("")
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _panels(
    upper: Axes,
    lower: Axes,
    arms: list[Arm],
    styles: dict[str, Look],
    curves: pd.DataFrame,
    scores: pd.DataFrame,
) -> None:
    for arm in arms:
        adam = arm.name == "adam"
        draw_curve(
            upper, curves, arm, styles[arm.name], band=0.12 if adam else 0, width=1.3 if adam else 1
        )
    upper.set_xlabel("Environment steps")
    upper.yaxis.set_major_formatter("{x:,g}")
    sweep = [arm for arm in arms if arm.alpha is not None]
    if not sweep:
        _say(lower, "no runs of\nAlphaGrad yet")
        return
    draw_seeds(lower, sweep, [float(i) for i in range(len(sweep))], scores, styles)
    lower.set_xticks(range(len(sweep)), [f"{arm.alpha:g}" for arm in sweep])
    band(lower, scores)
    lower.xaxis.set_minor_locator(NullLocator())
    lower.grid(visible=False, axis="x")
    lower.set_xlabel("AlphaGrad's α")
    lower.yaxis.set_major_formatter("{x:,g}")
