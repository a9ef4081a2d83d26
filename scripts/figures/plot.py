"""What all figures share: sizes, the look of an arm, captions, and how a figure becomes files.

Adam is black, its other learning rates greys, alpha a ramp from dark to light, and every other
family tints of its colour, so that the order of the arms survives colour blindness and a
black-and-white printer.
"""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scripts.files import write
from scripts.records import Study
from scripts.statistics import (
    CONFIDENCE_LEVEL,
    MINIMUM_SEEDS,
    RESAMPLES,
    Arm,
    Estimate,
    lowest_return,
)

STYLE = Path(__file__).with_name("alphagrad.mplstyle")
# DejaVu Sans with the characters of these figures only: the whole font takes most of a PDF's time.
for _font in sorted(Path(__file__).with_name("fonts").glob("*.ttf")):
    font_manager.fontManager.addfont(_font)
INK, GREY, ALERT = "#000000", "#555555", "#B34700"
OTHERS = ("#D55E00", "#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, a family each for arms that are neither Adam nor of the alpha sweep."""

SHORTEST = 2.4
"""Height of a figure, in inches, below which what stands beside its axes has no room."""

Color = str | tuple[float, ...]


@dataclass(frozen=True)
class Size:
    """A width in a paper, in inches, and how many panels fit into it side by side."""

    width: float
    columns: int


PAGE = Size(6.75, 3)
COLUMN = Size(3.25, 2)


def four_across(size: Size) -> Size:
    """Four panels side by side on a page, two in a column."""
    return replace(size, columns=2 if size is COLUMN else 4)


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn at any size.

    Attributes:
        name: Of its files, and of the figure on the command line.
        title: What it shows, in a few words.
        caption: What is needed to read it and to make it again.
        data: The numbers that are drawn.
        draw: Draws it at a size.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[[Size], Figure]

    def figure(self, size: Size) -> Figure:
        """The figure at a size, in the style of all figures and laid out once for all files."""
        with matplotlib.style.context(STYLE):
            figure = self.draw(size)
            # A figure that knows its layout would be laid out and drawn once more for each file.
            ConstrainedLayoutEngine().execute(figure)
        return figure


def render(figure: Figure, kind: Literal["png", "pdf", "svg"]) -> bytes:
    """The figure as a file's bytes, which depend on nothing but it and the library versions."""
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    with matplotlib.style.context(STYLE):
        figure.savefig(buffer, format=kind, metadata=metadata[kind])
    return buffer.getvalue()


@dataclass(frozen=True)
class Drawn:
    """A figure as files: what `save` has written.

    Attributes:
        folder: Where they are.
        name: How their names begin.
        title: What the figure shows, in a few words.
        caption: What is needed to read it and to make it again.
    """

    folder: Path
    name: str
    title: str
    caption: str

    ENDINGS = (".png", ".svg", ".pdf", "-column.pdf", ".csv", ".txt")

    def path(self, ending: str) -> Path:
        """The file that ends so, one of `ENDINGS`."""
        return self.folder / f"{self.name}{ending}"


def save(plot: Plot, folder: Path) -> Drawn:
    """Writes the figure with its data and caption.

    The files are the PNG, the SVG and the PDF of a page's width, the PDF of a column's, the CSV of
    what is drawn, and the caption.
    """
    drawn = Drawn(folder, plot.name, plot.title, plot.caption)
    page = plot.figure(PAGE)
    csv = plot.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    files = (
        render(page, "png"),
        render(page, "svg"),
        render(page, "pdf"),
        render(plot.figure(COLUMN), "pdf"),
        csv.encode(),
        f"{plot.title}. {plot.caption}\n".encode(),
    )
    for ending, content in zip(Drawn.ENDINGS, files, strict=True):
        write(drawn.path(ending), content)
    return drawn


@dataclass(frozen=True)
class Look:
    """How an arm is drawn in every figure of its study.

    Attributes:
        label: The arm's name.
        setting: The same, where the family is named already.
        color: Of all that is drawn.
        linestyle: Of its curves.
    """

    label: str
    setting: str
    color: Color
    linestyle: str = "-"


def looks(arms: Iterable[Arm]) -> dict[str, Look]:
    """A look for each arm, by its name: Adam's, one of the ramp's, or a tint of its family's."""
    arms = list(arms)
    sweep = sum(arm.alpha is not None for arm in arms)
    tuned = sum(arm.family == "adam" for arm in arms if arm.name != "adam")
    ramp = iter(mpl.colormaps["plasma"](np.linspace(0.08, 0.86, sweep)))
    greys = iter(mpl.colormaps["Greys"](np.linspace(0.85, 0.5, tuned)))
    others = by_family(arm for arm in arms if arm.family != "adam" and arm.alpha is None)
    tints: dict[str, Color] = {}
    for color, family in zip(itertools.cycle(OTHERS), others.values(), strict=False):
        for arm, white in zip(family, np.linspace(0, 0.55, len(family)), strict=True):
            tints[arm.name] = tuple((1 - white) * np.array(to_rgb(color)) + white)
    found = {}
    for arm in arms:
        rate = f"lr {arm.learning_rate:g}"
        if arm.name == "adam":
            look = Look("Adam", rate, INK)
        elif arm.alpha is not None:
            look = Look(f"α = {arm.alpha:g}", f"α = {arm.alpha:g}", tuple(next(ramp)))
        elif arm.family == "adam":
            look = Look(f"Adam, {rate}", rate, tuple(next(greys)), "--")
        else:
            setting = arm.name.removeprefix(f"{arm.family}-")
            setting = setting.replace("alpha", "α = ").replace("lr", "lr ")
            look = Look(arm.name, setting, tints[arm.name], "--")
        found[arm.name] = look
    return found


def by_family(arms: Iterable[Arm]) -> dict[str, list[Arm]]:
    """The arms of each family, in their order."""
    families: dict[str, list[Arm]] = {}
    for arm in arms:
        families.setdefault(arm.family, []).append(arm)
    return families


def groups(arms: list[Arm]) -> list[list[Arm]]:
    """Which arms share a panel: those of a family, unless there is but one family."""
    families = list(by_family(arms).values())
    return families if len(families) > 1 else [[arm] for arm in arms]


def panel_title(axes: Axes, arms: list[Arm], styles: dict[str, Look], size: Size) -> None:
    """Names the arms of a panel, whose curves are drawn, above it."""
    if len(arms) == 1:
        look = styles[arms[0].name]
        axes.set_title(look.label, color=look.color)
        return
    family = {"adam": "Adam", "alphagrad": "AlphaGrad"}.get(arms[0].family, arms[0].family)
    handles, labels = axes.get_legend_handles_labels()
    lines = dict(zip(labels, handles, strict=True))
    axes.legend(
        [lines[styles[arm.name].label] for arm in arms],
        [styles[arm.name].setting for arm in arms],
        title=family,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2 if size is COLUMN else 3,
        alignment="left",
        borderaxespad=0.2,
        borderpad=0,
        columnspacing=0.8,
        fontsize=6,
        handlelength=1.4,
        labelspacing=0.2,
        title_fontsize=8,
    )


def heading(study: Study) -> str:
    """The study's name over a figure; at quick scale also that it is no evidence."""
    name = f"{study.name}: {study.configuration.environment.id}"
    if study.quick:
        name += f", quick scale: {study.configuration.total_steps:,} steps, not evidence"
    return name


def title(figure: Figure, study: Study) -> None:
    """Sets the heading over a figure, in a colour that warns if it is no evidence."""
    figure.suptitle(heading(study), x=0.01, ha="left", color=ALERT if study.quick else INK)


def caption(
    study: Study, name: str, marks: str, diverged: str = "", *, intervals: bool = True
) -> str:
    """What stands below a figure: marks, protocol, runs, seeds, interval and command.

    Args:
        study: The study.
        name: The figure's.
        marks: What lines, dots, bars and bands are.
        diverged: How diverged runs are marked, told only if there are any.
        intervals: Whether the figure has any.
    """
    configuration = study.configuration
    seeds = Counter(len(records) for records in study.arms.values())
    counts = " or ".join(map(str, sorted(seeds)))
    text = [marks]
    if diverged and any(record.diverged for record in study.records):
        text.append(diverged)
    text.append(
        f"{study.name} at {study.scale} scale ({configuration.environment.id}, "
        f"{configuration.total_steps:,} steps): {len(study.records)} runs, {len(study.arms)} arms, "
        f"{counts} {'seed' if counts == '1' else 'seeds'} each."
    )
    if np.isnan(lowest_return(study)):
        text.append("No episode ended in any run.")
    if intervals:
        interval = (
            f"Intervals: {CONFIDENCE_LEVEL:.0%} stratified bootstrap, {RESAMPLES:,} resamples of "
            "the seeds"
        )
        if min(seeds) < MINIMUM_SEEDS:
            interval += f"; none with fewer than {MINIMUM_SEEDS} seeds"
        text.append(interval + ".")
    scale = " scale=quick" * study.quick
    text.append(command(f"study={study.name}{scale} name={name}"))
    return " ".join(text)


def command(arguments: str) -> str:
    """The sentence that says how to draw a figure again."""
    return f"Drawn by `python -m scripts.figures {arguments}`."


def columns(estimate: Estimate, value: str = "value") -> dict[str, Any]:
    """An estimate as the columns ``value``, ``low`` and ``high`` of data; NaN where there is none.

    Args:
        estimate: Of one number, or of a column of them.
        value: Another name for the first column.
    """
    return {
        value: estimate.value[()],
        "low": np.nan if estimate.low is None else estimate.low[()],
        "high": np.nan if estimate.high is None else estimate.high[()],
    }


def panels(
    size: Size, count: int, height: float, **settings: Any
) -> tuple[Figure, list[Axes], list[Axes]]:
    """A grid of panels, as wide as the size allows.

    Args:
        size: Width of the figure.
        count: How many panels.
        height: Of one row, in inches; of a single row it may be more.
        **settings: For ``Figure.subplots``.

    Returns:
        The figure, its panels, and those of them that no other one lies below.
    """
    columns = min(size.columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size.width, max(rows * height + 0.6, SHORTEST)))
    grid = list(figure.subplots(rows, columns, squeeze=False, **settings).flat)
    for axes in grid[count:]:
        axes.remove()
    grid = grid[:count]
    return figure, grid, grid[-columns:]
