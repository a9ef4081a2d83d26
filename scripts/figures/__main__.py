"""Draws figures from the records under ``results``.

    python -m scripts.figures
    python -m scripts.figures study=ppo scale=quick
    python -m scripts.figures study=dqn name=learning_curves

Without arguments these are the figures of every study of both scales, of the theory
(``study=theory``) and the overview (``name=overview``). Each figure is written to ``figures/`` in
its study's folder, the overview to ``results/figures/``: PNG, SVG and PDF of a page's width, PDF of
a column's, CSV of what is drawn, and caption.
"""

import gc
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.figures import FIGURES, NEEDS, STUDY_FIGURES, THEORY_FIGURES
from scripts.figures.overview import PAPER_STUDIES, overview
from scripts.figures.plot import Drawn, save
from scripts.records import RecordError, load_study
from scripts.settings import SettingsError, StudySettings, parse, study_folders
from scripts.theory import load_theory

USAGE = (
    "python -m scripts.figures [study=<name>|theory|all] [name=<figure>|all] "
    "[scale=paper|quick] [results=<folder>]"
)


@dataclass
class FigureSettings(StudySettings):
    """What the command line may set.

    Attributes:
        name: A figure's name, or ``all``.
    """

    name: str = "all"


def draw_study(folder: Path, name: str) -> list[Drawn]:
    """Writes the figures of the study in the folder that have the name, or all.

    Files of a figure for which there is nothing to draw (any more) are removed.
    """
    study = load_study(folder)
    drawn = []
    for key, draw in STUDY_FIGURES.items():
        if name not in ("all", key):
            continue
        if plot := draw(study):
            drawn.append(save(plot, folder / "figures"))
        else:
            for ending in Drawn.ENDINGS:
                (folder / "figures" / f"{key}{ending}").unlink(missing_ok=True)
    return drawn


def draw_theory(results: Path, name: str) -> list[Drawn]:
    """Writes the figures of the theory's newest record that have the name, or all."""
    chosen = [draw for key, draw in THEORY_FIGURES.items() if name in ("all", key)]
    folder = results / "theory" / "figures"
    return [save(draw(record), folder) for record in load_theory(results)[-1:] for draw in chosen]


def draw_overview(results: Path) -> list[Drawn]:
    """Writes the overview of the paper's studies."""
    folders = [results / name for name in PAPER_STUDIES]
    studies = [load_study(folder) for folder in folders if any(folder.glob("records/*.json"))]
    plot = overview({study.name: study for study in studies})
    return [save(plot, results / "figures")] if plot else []


def draw_all(settings: FigureSettings) -> list[Drawn]:
    """Writes the figures that the settings name, several studies at a time.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there is no such figure, or nothing to draw it from.
    """
    if settings.name not in ("all", *FIGURES):
        raise SettingsError(f"name={settings.name}: should be all or one of {', '.join(FIGURES)}")
    results = Path(settings.results)
    tasks = []
    if settings.study != "theory" and settings.name not in ("overview", *THEORY_FIGURES):
        tasks += [partial(draw_study, path, settings.name) for path in study_folders(settings)]
    if settings.study in ("all", "theory"):
        tasks.append(partial(draw_theory, results, settings.name))
    if settings.study == "all" and settings.name in ("all", "overview"):
        tasks.append(partial(draw_overview, results))
    # The garbage collector need not look through all that was imported, again and again.
    with ProcessPoolExecutor(initializer=gc.freeze) as pool:
        drawn = [figure for found in pool.map(_call, tasks) for figure in found]
    if not drawn:
        needs = NEEDS.get(settings.name)
        raise SettingsError(
            f"study={settings.study} name={settings.name}: nothing to draw it from"
            + (f"; needs {needs}" if needs else "")
        )
    return drawn


def _call(task: partial[list[Drawn]]) -> list[Drawn]:
    return task()


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code, 2 for a mistake told in one line."""
    try:
        drawn = draw_all(parse(FigureSettings, arguments, USAGE))
    except (RecordError, SettingsError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for figure in drawn:
        for ending in Drawn.ENDINGS:
            print(figure.path(ending))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
