"""Draw figures from the records under ``results``.

    python -m scripts.figures
    python -m scripts.figures study=<study> scale=quick
    python -m scripts.figures study=<study> name=learning_curves

Without arguments these are the figures of every study of both scales, of the convergence
(``study=convergence``) and the overview (``name=overview``). Each figure is written to
``<results>/<study>/figures/<task>``, those of the convergence and the overview to ``figures`` in
``<results>/convergence`` and in ``<results>``: PNG and PDF of a page's width, SVG and PDF of a
column's, CSV of what is drawn, and caption.
"""

import gc
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from experiments.endings import one_line_endings
from scripts.convergence import load_convergence
from scripts.figures import CONVERGENCE_FIGURES, FIGURES, OVERVIEW, TASK_FIGURES
from scripts.figures.overview import overview
from scripts.figures.plot import ENDINGS, Drawn, NothingToDrawError, save
from scripts.records import RecordError
from scripts.settings import SettingsError, StudySettings, load_studies, parse
from scripts.studies import Study, Task

CONVERGENCE = "convergence"
USAGE = (
    "python -m scripts.figures [study=<name>|convergence|all] [name=<figure>|all] "
    "[scale=paper|quick] [results=<folder>]"
)


@dataclass
class FigureSettings(StudySettings):
    """What the command line may set.

    Attributes:
        name: A figure's name, or ``all``.
    """

    name: str = "all"


@dataclass(frozen=True)
class NotDrawn:
    """A figure for which the records do not have what it needs.

    Attributes:
        folder: Where it would be.
        name: The figure's.
        needs: What it needs.
    """

    folder: Path
    name: str
    needs: str


def draw_task(
    study: Study, task: Task, name: str, endings: Iterable[str]
) -> list[Drawn | NotDrawn]:
    """Write the figures of a study's task that have the name, or all.

    Files of a figure for which there is nothing to draw (any more) are removed.
    """
    folder = study.folder / "figures" / task.name
    arguments = f"study={study.name}{' scale=quick' * study.quick}"
    found: list[Drawn | NotDrawn] = []
    for key, draw in TASK_FIGURES.items():
        if name not in ("all", key):
            continue
        try:
            plot = draw(study, task)
        except NothingToDrawError as error:
            found.append(NotDrawn(folder, key, str(error)))
            for ending in ENDINGS:
                (folder / f"{key}{ending}").unlink(missing_ok=True)
        else:
            found.append(save(plot, folder, key, arguments, endings))
    return found


def draw_convergence(results: Path, name: str, endings: Iterable[str]) -> list[Drawn | NotDrawn]:
    """Write the figures of the convergence's newest record that have the name, or all."""
    folder = results / CONVERGENCE / "figures"
    return [
        save(draw(record), folder, key, f"study={CONVERGENCE}", endings)
        for record in load_convergence(results)[-1:]
        for key, draw in CONVERGENCE_FIGURES.items()
        if name in ("all", key)
    ]


def draw_overview(
    studies: list[Study], results: Path, endings: Iterable[str]
) -> list[Drawn | NotDrawn]:
    """Write the overview of the studies."""
    return [save(overview(studies), results / "figures", OVERVIEW, "study=all", endings)]


def draw_all(
    settings: FigureSettings, studies: list[Study], endings: Iterable[str] = ENDINGS
) -> list[Drawn | NotDrawn]:
    """Write figures, several tasks at a time.

    Args:
        settings: Which name, and where the results are.
        studies: Those whose tasks are drawn; of these, the overview has the ones that head the
            report.
        endings: Of the files of each figure.

    Raises:
        RecordError: If the records of the convergence cannot be used.
        SettingsError: If there is nothing to draw the figure from.
    """
    results, name = Path(settings.results), settings.name
    jobs = [
        partial(draw_task, study, task, name, endings)
        for study in studies
        for task in study.tasks
        if name in ("all", *TASK_FIGURES)
    ]
    if settings.study in ("all", CONVERGENCE) and name in ("all", *CONVERGENCE_FIGURES):
        jobs.append(partial(draw_convergence, results, name, endings))
    heads = [study for study in studies if study.manifest.overview is not None and not study.quick]
    if settings.study == "all" and name in ("all", OVERVIEW) and heads:
        heads.sort(key=lambda study: study.manifest.overview or 0)
        jobs.append(partial(draw_overview, heads, results, endings))
    # The garbage collector need not look through all that was imported, again and again.
    with ProcessPoolExecutor(initializer=gc.freeze) as pool:
        found = [figure for figures in pool.map(_call, jobs) for figure in figures]
    if not any(isinstance(figure, Drawn) for figure in found):
        needs = " or ".join({figure.needs for figure in found if isinstance(figure, NotDrawn)})
        raise SettingsError(
            f"study={settings.study} name={name}: nothing to draw it from"
            + f"; needs {needs}" * bool(needs)
        )
    return found


def _call(job: partial[list[Drawn | NotDrawn]]) -> list[Drawn | NotDrawn]:
    return job()


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(FigureSettings, arguments, USAGE)
        if settings.name not in ("all", *FIGURES):
            known = ", ".join(FIGURES)
            raise SettingsError(f"name={settings.name}: should be all or one of {known}")
        convergence = settings.study == CONVERGENCE or settings.name in CONVERGENCE_FIGURES
        found = draw_all(settings, [] if convergence else load_studies(settings))
    except (RecordError, SettingsError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for figure in found:
        if isinstance(figure, Drawn):
            for ending in ENDINGS:
                print(figure.path(ending))
    return 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
