"""What all figures share: sizes, the look of an arm, captions, and how a figure becomes files."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from experiments.runs.writing import write_bytes
from scripts.figures.colors import INK, arm_colors
from scripts.scores import Arm, lowest_return
from scripts.statistics import CONFIDENCE_LEVEL, MINIMUM_SEEDS, RESAMPLES, Estimate
from scripts.studies import Stage, Study, Task

STYLE = Path(__file__).with_name("figures.mplstyle")
# DejaVu Sans with the characters of these figures only: the whole font takes most of a PDF's time.
for _font in sorted(Path(__file__).with_name("fonts").glob("*.ttf")):
    font_manager.fontManager.addfont(_font)
GREY, ALERT = "#555555", "#B34700"
SHORTEST = 2.4
"""Height of a figure, in inches, below which what stands beside its axes has no room."""


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


class NothingToDrawError(Exception):
    """There is no such figure of these records; the message is what it needs."""


@dataclass(frozen=True)
class Plot:
    """A figure that can be drawn at any size.

    Attributes:
        title: What it shows, in a few words.
        caption: What is needed to read it.
        data: The numbers that are drawn.
        draw: Draws it at a size.
    """

    title: str
    caption: str
    data: pd.DataFrame
    draw: Callable[[Size], Figure]

    def figure(self, size: Size) -> Figure:
        """Return the figure at a size, in the style of all and laid out once for all files."""
        with matplotlib.style.context(STYLE):
            figure = self.draw(size)
            # A figure that knows its layout would be laid out and drawn once more for each file.
            ConstrainedLayoutEngine().execute(figure)
        return figure


def render(figure: Figure, kind: Literal["png", "pdf", "svg"]) -> bytes:
    """Return a file's bytes, which depend on nothing but the figure and library versions."""
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

    def path(self, ending: str) -> Path:
        """Return the file that ends so, one of `ENDINGS`."""
        return self.folder / f"{self.name}{ending}"


ENDINGS = (".png", ".svg", ".pdf", "-column.pdf", ".csv", ".txt")
"""Of a figure's files: PNG and PDF of a page's width, SVG and PDF of a column's, the CSV of what is
drawn, and the caption."""
PAGES = (".png", ".svg")
"""Of those that the pages show."""


def save(
    plot: Plot, folder: Path, name: str, arguments: str, endings: Iterable[str] = ENDINGS
) -> Drawn:
    """Write the figure's files.

    Args:
        plot: The figure.
        folder: Where to.
        name: How the files' names begin.
        arguments: Of the command that draws the figure, without its name.
        endings: Of the files that are written, some of `ENDINGS`.
    """
    command = f"Drawn by `python -m scripts.figures {arguments} name={name}`."
    drawn = Drawn(folder, name, plot.title, f"{plot.caption} {command}")
    page, column = (cache(partial(plot.figure, size)) for size in (PAGE, COLUMN))
    makers: dict[str, Callable[[], bytes]] = {
        ".png": lambda: render(page(), "png"),
        ".svg": lambda: render(column(), "svg"),
        ".pdf": lambda: render(page(), "pdf"),
        "-column.pdf": lambda: render(column(), "pdf"),
        ".csv": lambda: plot.data.to_csv(
            index=False, lineterminator="\n", float_format="%.6g"
        ).encode(),
        ".txt": lambda: f"{drawn.title}. {drawn.caption}\n".encode(),
    }
    for ending in endings:
        write_bytes(drawn.path(ending), makers[ending]())
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
    color: str
    linestyle: str = "-"


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it stands: no formula, and not hidden."""
    return (" " * text.startswith("_") + text).replace("$", r"\$")


def setting_name(arm: Arm) -> str:
    """Return what the arm's family tunes, as a figure calls it."""
    return plain(f"{arm.family.title}'s {arm.family.symbol}")


def setting_text(arm: Arm) -> str:
    """Return the arm's value of the setting that its family tunes."""
    symbol = arm.family.symbol
    return f"{symbol}{' = ' if len(symbol) == 1 else ' '}{arm.value:g}"


def looks(arms: Iterable[Arm]) -> dict[str, Look]:
    """Return a look for each arm, by its name."""
    arms = list(arms)
    colors = arm_colors(arms)
    found = {}
    for arm in arms:
        title, text = arm.family.title, setting_text(arm)
        setting, label = plain(text), plain(f"{title}, {text}")
        if arm.is_baseline:
            look = Look(plain(title), setting, colors[arm.name])
        elif arm.is_subject:
            look = Look(setting, setting, colors[arm.name])
        else:
            look = Look(label, setting, colors[arm.name], "--")
        found[arm.name] = look
    return found


def title(figure: Figure, study: Study, task: Task) -> None:
    """Set the task's title over a figure; at quick scale, in a colour that warns, no evidence."""
    text = task.title
    if study.quick:
        text += f", quick scale: {task.total_steps:,} steps, not evidence"
    figure.suptitle(plain(text), x=0.01, ha="left", color=ALERT if study.quick else INK)


def caption(
    study: Study,
    task: Task,
    marks: str,
    diverged: str = "",
    *,
    stage: Stage = Stage.tune,
    intervals: bool = True,
) -> str:
    """Return what stands below a figure: marks, task, runs, seeds and interval.

    Args:
        study: The study.
        task: The task that is shown.
        marks: What lines, dots, bars and bands are.
        diverged: How diverged runs are marked, told only if there are any.
        stage: Whose runs are shown.
        intervals: Whether the figure has any.
    """
    arms = study.arms_of(task, stage)
    records = [record for arm in arms for record in arm.records]
    seeds = sorted({len(arm.records) for arm in arms})
    text = [marks]
    if diverged and any(record.diverged for record in records):
        text.append(diverged)
    text.append(
        f"{study.name} at {study.scale} scale ({task.environment}, {task.total_steps:,} steps): "
        f"{len(records)} runs of the stage {stage}, {len(arms)} arms, "
        f"{' or '.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'} each."
    )
    if np.isnan(lowest_return(study, task, stage=stage)):
        text.append("No episode ended in any run.")
    if intervals:
        interval = (
            f"Intervals: {CONFIDENCE_LEVEL:.0%} stratified bootstrap, {RESAMPLES:,} resamples of "
            "the seeds"
        )
        if min(seeds) < MINIMUM_SEEDS:
            interval += f"; none with fewer than {MINIMUM_SEEDS} seeds"
        text.append(interval + ".")
    return " ".join(text)


def columns(estimate: Estimate, value: str = "value") -> dict[str, Any]:
    """Return an estimate as columns ``value``, ``low`` and ``high``; NaN where there is none.

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
    """Return a grid of panels, as wide as the size allows.

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
