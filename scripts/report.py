"""Write all that is made from the records, and the report that shows it.

    python -m scripts.report [results=<folder>] [claims=<folder>] [words=<file>]
    python -m scripts.report study=<study> [results=<folder>]

The tables and figures of every study come first, of both scales, and the verdicts. Then
``report.html``, one page that needs no network, and ``README.md``, the same for the repository's
page, show those of paper scale. What a page says beside its numbers, its words, stands in YAML:
``configs/report.yaml``.

A study with confirm runs that no claim is about gets a verdict for each pair of its families
(`scripts.pairs`). With ``study`` this is done for one study alone, with a page in its own folder.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from pydantic import BaseModel, ConfigDict

from experiments.endings import one_line_endings
from experiments.runs.writing import write_bytes
from scripts.claims import (
    SOURCES,
    Claim,
    ClaimsSettings,
    load_statements,
    number_text,
    studies_of,
    write_claims,
)
from scripts.convergence import load_convergence
from scripts.evidence import Evidence
from scripts.explorer import Explorer, explorer
from scripts.figures import APART, LEARNING_CURVES, OVERVIEW
from scripts.figures.__main__ import CONVERGENCE, FigureSettings, NotDrawn, draw_all
from scripts.figures.convergence import convergence_table
from scripts.figures.plot import ENDINGS, Drawn
from scripts.pages import render
from scripts.pairs import PAGE, Pair, judge_pairs, write_pairs
from scripts.records import Record, RecordError
from scripts.settings import (
    SettingsError,
    StudySettings,
    load_studies,
    load_yaml,
    parse,
    study_name,
)
from scripts.studies import ArmRecords, Study, Task
from scripts.svg import inline_svg, share_styles
from scripts.tables import StudyTable, notes, summarize, write_table

USAGE = (
    "python -m scripts.report [study=<name>|all] [results=<folder>] [claims=<folder>] "
    "[words=<file>]"
)
WORDS = Path(__file__).parents[1] / "configs" / "report.yaml"


@dataclass
class ReportSettings(ClaimsSettings):
    """What the command line may set.

    Attributes:
        words: The file of `Words`.
        study: As in `StudySettings`.
    """

    words: str = str(WORDS)
    study: str = "all"

    def __post_init__(self) -> None:
        self.study = study_name(self.study)


class Words(BaseModel):
    """What the pages say beside their numbers.

    Attributes:
        title: Of the page.
        lead: What was put to the test.
        differences: What differs from the paper, a sentence or two each.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    title: str
    lead: str
    differences: list[str]


@dataclass(frozen=True)
class TaskSection:
    """One task in the report.

    Attributes:
        task: The task.
        explorer: Its learning curves, which the page draws itself.
        figures: All that are drawn.
    """

    task: Task
    explorer: Explorer
    figures: list[Drawn]


@dataclass(frozen=True)
class Section:
    """One study in the report.

    Attributes:
        study: The study.
        table: Its table.
        notes: What stands below the table.
        tasks: What each task shows, in their order.
        pairs: The verdict for each pair of families; none if claims are about the study.
    """

    study: Study
    table: StudyTable
    notes: list[str]
    tasks: list[TaskSection]
    pairs: list[Pair]


def sections(
    tables: list[StudyTable], drawn: list[Drawn | NotDrawn], pairs: dict[str, list[Pair]]
) -> list[Section]:
    """Return the studies in the report's order: those of the overview first, then by name."""
    found = []
    for table in sorted(tables, key=_order):
        study, lacking, tasks = table.study, [], []
        for task in study.tasks:
            folder = study.folder / "figures" / task.name
            own = [figure for figure in drawn if figure.folder == folder]
            shown = [figure for figure in own if isinstance(figure, Drawn)]
            tasks.append(TaskSection(task, explorer(study, task), shown))
            lacking += [
                f"Not drawn: `{figure.name}`, which needs {figure.needs}."
                for figure in own
                if isinstance(figure, NotDrawn)
            ]
        every = notes(study) + list(dict.fromkeys(lacking))
        found.append(Section(study, table, every, tasks, pairs.get(study.name, [])))
    return found


def _order(table: StudyTable) -> tuple[bool, int, str]:
    place = table.study.manifest.overview
    return place is None, place or 0, table.study.name


def context(
    results: Path,
    tables: list[StudyTable],
    drawn: list[Drawn | NotDrawn],
    claims: list[Claim],
    pairs: dict[str, list[Pair]],
) -> dict[str, Any]:
    """Return what the templates show."""
    runs = unique_runs([table.study for table in tables])
    records = [record for _, record in runs]
    provenance = [record.provenance for record in records]
    convergence = load_convergence(results)
    folder = results / CONVERGENCE / "figures"
    shown = [figure for figure in drawn if isinstance(figure, Drawn)]
    return {
        "claims": [
            (heading, [c for c in claims if c.source == source])
            for source, (heading, _) in SOURCES.items()
            if any(claim.source == source for claim in claims)
        ],
        "overview": next((figure for figure in shown if figure.name == OVERVIEW), None),
        "sections": sections(tables, drawn, pairs),
        "explored": LEARNING_CURVES,
        "apart": APART,
        "convergence": convergence_table(convergence[-1]) if convergence else None,
        "convergence_summary": convergence[-1].summary if convergence else None,
        "convergence_figures": [figure for figure in shown if figure.folder == folder],
        "runs": runs,
        "steps": sum(record.steps for record in records),
        "findings": (results / "FINDINGS.md").exists(),
        "hours": sum(record.timing.wall_seconds for record in records) / 3600,
        "versions": {
            name: count(origin.versions.get(name) for origin in provenance)
            for name in dict.fromkeys(name for origin in provenance for name in origin.versions)
        },
        "processors": count(origin.cpu.model for origin in provenance),
        "commits": count(
            origin.git.commit
            and origin.git.commit[:7] + " with uncommitted changes" * bool(origin.git.dirty)
            for origin in provenance
        ),
        "diverged": [(arm, record) for arm, record in runs if record.diverged],
        "silent": [record for record in records if record.final_score is None],
    }


def unique_runs(studies: list[Study]) -> list[tuple[ArmRecords, Record]]:
    """Return each run once, with its arm in the first study that has it."""
    found: dict[str, tuple[ArmRecords, Record]] = {}
    for study in studies:
        for arm in study.arms:
            for record in arm.records:
                found.setdefault(record.identity, (arm, record))
    return list(found.values())


def count(values: Any) -> str:
    """Return distinct values and how many runs have each, the most frequent first."""
    counts = Counter(value or "unknown" for value in values)
    if len(counts) == 1:
        return str(*counts)
    return ", ".join(f"{value} ({number:,} runs)" for value, number in counts.most_common())


def deciding(claim: Claim) -> list[str]:
    """Return what decides a claim, by all measures: numbers, and how sure the decision is.

    Without any number it is what the checks lack.
    """
    numbers: dict[tuple[str, bool], dict[str, None]] = {}
    for check in claim.checks:
        if check.numbers:
            first, by = check.numbers[0], f" by {check.measure}" * bool(check.measure)
            values = numbers.setdefault((first.name, check.exploratory), {})
            values[number_text(first) + by] = None
    lines = [
        f"{name}: {', '.join(values)}" + " (tuning runs, exploratory)" * exploratory
        for (name, exploratory), values in numbers.items()
    ]
    for measure, verdict in claim.verdicts.items():
        chance = claim.corrected.get(measure, claim.p_values[measure])
        if verdict.decided and chance is not None:
            corrected = ", corrected for the number of claims" * (measure in claim.corrected)
            lines.append(f"p = {chance:.2g} by {measure}{corrected}")
    return lines or list(dict.fromkeys(check.change for check in claim.checks))


def code(text: str) -> Markup:
    """Return a text, escaped; what stands between backticks becomes code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def write_report(
    results: Path, claims: Path, words: Path, endings: Iterable[str] = ENDINGS
) -> list[Path]:
    """Write tables, figures, verdicts and the report; return the paths of the latter.

    Args:
        results: The folder of the results.
        claims: The folder of the claims' files.
        words: The file of `Words`.
        endings: Of the files of each figure; those of `scripts.figures.plot.PAGES` must be there.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there are none, or another file has a mistake.
    """
    said = load_yaml(words, Words)
    studies = load_studies(StudySettings(results=str(results)))
    found = write_claims(results, claims)
    drawn = draw_all(FigureSettings(results=str(results)), studies, endings)
    claimed = studies_of(statement for _, statement in load_statements(claims).values())
    own = [
        study
        for study in studies
        if not study.quick and study.name not in claimed
        if any(task.role == "main" and task.seeds.confirm for task in study.manifest.tasks)
    ]
    pairs = write_verdicts(results, own)
    tables = write_tables(studies)
    values = context(results, tables, drawn, found, pairs) | {"words": said, "alone": False}
    page = partial(fill, results, values)
    pages = {"report.html": share_styles(page("report.html.j2")), "README.md": page("report.md.j2")}
    for name, content in pages.items():
        write_bytes(results / name, content.encode())
    return [results / name for name in pages]


def write_study_report(results: Path, name: str, endings: Iterable[str] = ENDINGS) -> list[Path]:
    """Write the table, figures and verdicts of a study, and its page; return the last two's paths.

    Args:
        results: The folder of the results.
        name: The study's.
        endings: As for `write_report`.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there is nothing to draw.
    """
    settings = FigureSettings(study=name, results=str(results))
    [study] = load_studies(settings)
    drawn = draw_all(settings, [study], endings)
    pairs = write_verdicts(results, [study])
    values = context(study.folder, write_tables([study]), drawn, [], pairs)
    values |= {"words": Words(title=study.title, lead="", differences=[]), "alone": True}
    path = study.folder / "report.html"
    content = share_styles(fill(study.folder, values, "report.html.j2"))
    write_bytes(path, content.encode())
    return [study.folder / PAGE, path]


def write_tables(studies: list[Study]) -> list[StudyTable]:
    """Write the studies' tables; return those of paper scale."""
    tables = [summarize(study) for study in studies]
    for table in tables:
        write_table(table)
    return [table for table in tables if not table.study.quick]


def write_verdicts(results: Path, studies: list[Study]) -> dict[str, list[Pair]]:
    """Write the pairs of studies at paper scale; return them by the study's name."""
    evidence = Evidence(results)
    pairs = {study.name: judge_pairs(evidence, study.name) for study in studies}
    for study in studies:
        write_pairs(study, pairs[study.name], number_text)
    return pairs


def fill(folder: Path, values: dict[str, Any], template: str) -> str:
    """Return a page that is to lie in a folder."""

    def place(figure: Drawn) -> str:
        return figure.path("").relative_to(folder).as_posix()

    return render(
        template,
        values,
        code=code,
        place=place,
        svg=lambda figure: inline_svg(figure, place(figure)),
        number=number_text,
        deciding=deciding,
    )


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(ReportSettings, arguments, USAGE)
        results = Path(settings.results)
        if settings.study == "all":
            paths = write_report(results, Path(settings.claims), Path(settings.words))
        else:
            paths = write_study_report(results, settings.study)
    except (RecordError, SettingsError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
