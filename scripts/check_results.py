"""Check that the committed tables, verdicts, pictures and pages are those of the committed records.

    python -m scripts.check_results [results=<folder>]

All of them are made again from the records, in a temporary folder, and compared: pictures byte by
byte, texts line by line. Of a number with many digits nine count, since processors differ in the
last ones. What differs is told, a text with the first line that does; the exit code is 1 then.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.endings import one_line_endings
from experiments.runs.records import FOLDER
from scripts.figures.__main__ import CONVERGENCE
from scripts.figures.plot import PAGES
from scripts.pairs import PAGE
from scripts.records import RecordError
from scripts.report import ReportSettings, write_report
from scripts.settings import SettingsError, parse
from scripts.studies import MANIFEST

USAGE = "python -m scripts.check_results [results=<folder>]"
SOURCES = (f"{FOLDER}/*.json", f"*/{MANIFEST}", f"{CONVERGENCE}/*.json", "FINDINGS.md")
"""What the rest is made from."""
MADE = (
    *("*.md", "*.html", "*.json"),
    *(f"*/{PAGE}", "*/table.*"),
    *("figures/*.png", "*/figures/**/*.png"),
)
"""What is made from them, and committed."""


def differences(results: Path) -> Iterator[str]:
    """Return what differs from what the records give, a line for each file.

    Raises:
        RecordError: If records cannot be used.
        SettingsError: If there are none.
    """
    settings = ReportSettings()
    with TemporaryDirectory() as temporary:
        again = Path(temporary) / "results"
        for path in _files(results, SOURCES):
            (again / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results / path, again / path)
        try:
            write_report(again, Path(settings.claims), Path(settings.words), PAGES)
        except (RecordError, SettingsError) as error:  # the copy's paths are nobody's business
            raise type(error)(str(error).replace(str(again), str(results))) from error
        for path in sorted({*_files(results, MADE), *_files(again, MADE)}):
            here, made = results / path, again / path
            if not made.exists():
                yield f"{here}: is not made from these records"
            elif not here.exists():
                yield f"{here}: is missing"
            elif difference := _difference(here.read_bytes(), made.read_bytes()):
                yield f"{here}: {difference}"


def _files(folder: Path, patterns: tuple[str, ...]) -> set[Path]:
    return {path.relative_to(folder) for pattern in patterns for path in folder.glob(pattern)}


def _difference(here: bytes, made: bytes) -> str:
    """Return where the content of two files differs first; nothing if it is the same."""
    if here == made:
        return ""
    try:
        texts = [_rounded(content.decode()).splitlines() for content in (here, made)]
    except UnicodeDecodeError:
        return "is another picture"
    for number, (old, new) in enumerate(zip_longest(*texts, fillvalue=""), start=1):
        if old != new:
            start = next(at for at, (a, b) in enumerate(zip_longest(old, new)) if a != b)
            cut = slice(max(start - 20, 0), start + 60)
            return f"line {number} has {old[cut]!r}, but the records give {new[cut]!r}"
    return ""


def _rounded(text: str) -> str:
    return re.sub(r"\d+\.\d{9,}(e-?\d+)?", lambda number: f"{float(number[0]):.9g}", text)


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        results = Path(parse(ReportSettings, arguments, USAGE).results)
        found = list(differences(results))
    except (RecordError, SettingsError) as error:
        print(f"check_results: {error}", file=sys.stderr)
        return 2
    for difference in found:
        print(difference, file=sys.stderr)
    if not found:
        print(f"{results}: as the records give it")
    return 1 if found else 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
