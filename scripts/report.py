"""Writes all that is made from the records, and the report that shows it.

    python -m scripts.report [results=<folder>]

The tables and figures of every study come first, of both scales. Then ``report.html``, one page
that needs no network, and ``README.md``, the same for the repository's page, show those of paper
scale.
"""

import re
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from scripts.claims import Claim, number_text, write_claims
from scripts.figures import NEEDS, PAPER_STUDIES
from scripts.figures.__main__ import FigureSettings, draw_all
from scripts.figures.plot import Drawn
from scripts.figures.theory import theory_table
from scripts.files import write
from scripts.records import Record, RecordError, Study, load_study
from scripts.settings import (
    ResultsSettings,
    SettingsError,
    StudySettings,
    parse,
    study_folders,
)
from scripts.tables import HEADINGS, cell, format_rows, notes, summarize, write_table
from scripts.theory import load_theory

USAGE = "python -m scripts.report [results=<folder>]"


@dataclass(frozen=True)
class Section:
    """One study in the report."""

    study: Study
    rows: list[list[str]]
    notes: list[str]
    figures: list[Drawn]


def sections(studies: list[Study], drawn: list[Drawn]) -> list[Section]:
    """The studies in the report's order: the paper's, then ours by name."""
    order = [*PAPER_STUDIES]
    found = []
    for study in sorted(
        studies,
        key=lambda study: (
            order.index(study.name) if study.name in order else len(order),
            study.name,
        ),
    ):
        figures = [figure for figure in drawn if figure.folder.parent == study.folder]
        names = [figure.name for figure in figures]
        lacking = [
            f"Not drawn: `{name}`, which needs {needs}."
            for name, needs in NEEDS.items()
            if name not in names
        ]
        found.append(Section(study, format_rows(summarize(study)), notes(study) + lacking, figures))
    return found


def context(
    results: Path, studies: list[Study], drawn: list[Drawn], claims: list[Claim]
) -> dict[str, Any]:
    """What the templates show."""
    records = unique([record for study in studies for record in study.records])
    provenance = [record.provenance for record in records]
    theory = load_theory(results)
    return {
        "claims": claims,
        "headings": list(HEADINGS.values()),
        "overview": next((figure for figure in drawn if figure.name == "overview"), None),
        "sections": sections(studies, drawn),
        "theory": theory_table(theory[-1]) if theory else None,
        "theory_summary": theory[-1].summary if theory else None,
        "theory_figures": [f for f in drawn if f.folder.parent == results / "theory"],
        "runs": records,
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
        "diverged": [record for record in records if record.diverged],
        "silent": [record for record in records if record.final_score is None],
    }


def unique(records: list[Record]) -> list[Record]:
    """The runs without those that another study shares, by study, arm and seed."""
    return list({record.identity: record for record in records}.values())


def count(values: Any) -> str:
    """Distinct values and how many runs have each, the most frequent first."""
    counts = Counter(value or "unknown" for value in values)
    if len(counts) == 1:
        return str(*counts)
    return ", ".join(f"{value} ({number:,} runs)" for value, number in counts.most_common())


def code(text: str) -> Markup:
    """Escapes a text; what stands between backticks becomes code."""
    parts = str(text).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def inline_svg(figure: Drawn) -> Markup:
    """The figure's SVG as an element of an HTML page.

    Coordinates are rounded to a tenth of a point, and lines made relative. Identifiers are made
    unique to the figure, and those that nothing refers to are dropped.
    """
    svg = figure.path(".svg").read_text()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' (?:d|x|y)="[^"]*"',
        lambda attribute: re.sub(r"\d+\.\d{2,}", lambda n: f"{float(n[0]):.1f}", attribute[0]),
        svg,
    )
    svg = re.sub(r' d="([^"]*)"', lambda path: f' d="{short_path(path[1])}"', svg)
    key = f"{zlib.crc32(f'{figure.folder.parent.name}/{figure.name}'.encode()):08x}"
    used = dict.fromkeys(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    names = {name: f"f{key}-{number}" for number, name in enumerate(used)}
    svg = re.sub(
        r' id="([^"]*)"', lambda name: f' id="{names[name[1]]}"' if name[1] in names else "", svg
    )
    svg = re.sub(r'(href="|url\()#([^")]+)', lambda link: f"{link[1]}#{names[link[2]]}", svg)
    svg = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    label = escape(figure.title)
    # matplotlib has escaped all text in its SVG
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))


def short_path(path: str) -> str:
    """An SVG path, its numbers of one decimal, with each line relative to the point before."""
    path = re.sub(r"\s*([MLQCz])\s*", r"\1", path.strip())
    here = (0, 0)

    def short(lines: re.Match[str]) -> str:
        nonlocal here
        if start := lines[0].startswith("M"):
            here = (0, 0)  # as written, not relative
        numbers = (round(10 * float(number)) for number in re.findall(r"[-\d.]+", lines[0]))
        points = [here, *zip(numbers, numbers, strict=True)]
        here = points[-1]
        steps = [f"{(x - x0) / 10:g} {(y - y0) / 10:g}" for (x0, y0), (x, y) in pairwise(points)]
        return ("M" if start else "l") + " ".join(steps).replace(" -", "-")

    curved = "Q" in path or "C" in path
    return path if curved else re.sub(r"M[-\d. ]+|(?:L[-\d. ]+)+", short, path)


def share_styles(page: str) -> str:
    """A page whose elements name a class each for their style, which makes it half as long."""
    styles = dict.fromkeys(re.findall(r' style="([^"]*)"', page))
    names = {style: f"s{number}" for number, style in enumerate(styles)}
    page = re.sub(r' style="([^"]*)"', lambda style: f' class="{names[style[1]]}"', page)
    rules = "\n".join(f".{name} {{ {style} }}" for style, name in names.items())
    return page.replace("</style>", f"{rules}\n</style>", 1)


def render_report(name: str, values: dict[str, Any]) -> str:
    """A template of ``scripts/templates`` with the values, everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": code, "cell": cell, "svg": inline_svg, "number": number_text}
    return environment.get_template(name).render(values)


def write_report(results: Path) -> list[Path]:
    """Writes tables, figures and the report; returns the paths of the latter.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there are none.
    """
    folders = study_folders(StudySettings(results=str(results)))
    studies = [load_study(folder) for folder in folders]
    for study in studies:
        write_table(study)
    drawn = draw_all(FigureSettings(results=str(results)))
    paper_scale = [study for study in studies if not study.quick]
    values = context(results, paper_scale, drawn, write_claims(results))
    pages = {
        results / "report.html": share_styles(render_report("report.html.j2", values)),
        results / "README.md": render_report("report.md.j2", values),
    }
    for path, page in pages.items():
        write(path, page.encode())
    return list(pages)


def main(arguments: list[str]) -> int:
    """Runs the command; returns its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(ResultsSettings, arguments, USAGE)
        paths = write_report(Path(settings.results))
    except (RecordError, SettingsError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
