"""A verdict for each of the paper's claims and for our own questions, from the records.

    python -m scripts.claims [results=results] [claims=configs/claims]

Writes ``CLAIMS.md`` and ``claims.json`` into the results' folder. The claims are read from the YAML
files of a folder, each of which has one or several by their id:

    which-is-better:
      source: ours  # or paper
      text: Is mine better than theirs?
      checks:
        - rule: better
          study: mine

A check names one of the rules of `scripts.checks`, whose classes say what else it takes.
"""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from experiments.endings import one_line_endings
from experiments.runs.writing import write_bytes
from scripts.checks import AnyRule
from scripts.checks.base import Subject
from scripts.evidence import ClaimError, Evidence, Parameters
from scripts.pages import render
from scripts.records import RecordError
from scripts.scores import MEASURES
from scripts.settings import ResultsSettings, SettingsError, parse, read_yaml
from scripts.statistics import RESAMPLES
from scripts.verdicts import (
    SIGNIFICANT,
    Check,
    Number,
    Progress,
    Verdict,
    combine,
    holm,
    joint_p_value,
    over_measures,
)

USAGE = "python -m scripts.claims [results=<folder>] [claims=<folder>]"
FOLDER = Path(__file__).parents[1] / "configs" / "claims"
SOURCES = {
    "paper": ("Claim of the paper", "Verdict"),
    "ours": ("Our question (exploratory: not corrected for their number)", "Answer"),
}
"""Headings of the tables of verdicts, in their order."""


@dataclass
class ClaimsSettings(ResultsSettings):
    """What the command line may set.

    Attributes:
        claims: The folder of the claims' files.
    """

    claims: str = str(FOLDER)


class Statement(Parameters):
    """A claim as its file has it.

    Attributes:
        source: ``paper`` for a claim of the paper, ``ours`` for a question of ours.
        text: What is claimed or asked.
        checks: What has to hold.
    """

    source: Literal["paper", "ours"]
    text: str = Field(min_length=1)
    checks: list[AnyRule] = Field(min_length=1)


Id = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]*$")]
STATEMENTS = TypeAdapter(dict[Id, Statement])


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, or a question of ours, with the checks that were made.

    Attributes:
        id: Short name.
        text: What is claimed or asked.
        source: ``paper`` or ``ours``.
        checks: What has to hold, by each measure.
        corrected: P-values of the decisions, by measure, corrected for the number of claims; those
            of questions of ours, which are exploratory, are not.
    """

    id: str
    text: str
    source: Literal["paper", "ours"]
    checks: tuple[Check, ...]
    corrected: dict[str, float] = field(default_factory=dict)

    @property
    def by_measure(self) -> dict[str, tuple[Check, ...]]:
        """The checks that count for each measure, by its title; those without one for all."""
        measures = dict.fromkeys(check.measure for check in self.checks if check.measure)
        return {
            measure: tuple(check for check in self.checks if check.measure in (None, measure))
            for measure in measures
        } or {"": self.checks}

    @property
    def p_values(self) -> dict[str, float | None]:
        """The p-value of what the checks come to, by measure; ``None`` without chance."""
        return {name: joint_p_value(checks) for name, checks in self.by_measure.items()}

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What the checks come to, by measure; undecided if the correction takes it back."""
        found = {}
        for name, checks in self.by_measure.items():
            verdict = combine([check.verdict for check in checks])
            corrected = self.corrected.get(name, self.p_values[name])
            weak = corrected is not None and corrected > SIGNIFICANT
            found[name] = Verdict.UNDECIDED if verdict.decided and weak else verdict
        return found

    @property
    def verdict(self) -> Verdict:
        """What the checks come to together."""
        return over_measures([*self.verdicts.values()])

    @property
    def progress(self) -> Progress:
        """The runs that were planned for all of its checks."""
        return reduce(Progress.__or__, (check.progress for check in self.checks))

    @property
    def answer(self) -> str:
        """The verdict in words: a question is answered by yes or no."""
        if self.verdict is Verdict.INCOMPLETE:
            return f"{self.verdict} ({self.progress.text})"
        if self.verdict is Verdict.DEPENDS:
            each = [f"{name}: {self._word(verdict)}" for name, verdict in self.verdicts.items()]
            return f"{self.verdict} ({', '.join(each)})"
        return self._word(self.verdict)

    def _word(self, verdict: Verdict) -> str:
        words = {Verdict.REPRODUCED: "yes", Verdict.NOT_REPRODUCED: "no"}
        return verdict if self.source == "paper" else words.get(verdict, verdict)


def load_statements(folder: Path) -> dict[str, tuple[Path, Statement]]:
    """Return the claims of all files in a folder by id, the paper's first, with their file.

    Raises:
        SettingsError: If there is no file, or one has a mistake.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise SettingsError(f"claims={folder}: no such folder, or no .yaml in it")
    found: dict[str, tuple[Path, Statement]] = {}
    for path in paths:
        for name, statement in _read(path).items():
            if name in found:
                raise SettingsError(f"{path}: {name}: is already in {found[name][0].name}")
            found[name] = path, statement
    order = [*SOURCES]
    return dict(sorted(found.items(), key=lambda item: order.index(item[1][1].source)))


def _read(path: Path) -> dict[str, Statement]:
    try:
        return STATEMENTS.validate_python(read_yaml(path))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_mistake(error)}") from error


def _mistake(error: ValidationError) -> str:
    """Return the first mistake: its field, the value if it is a plain one, what is allowed."""
    first = error.errors()[0]
    field = list(first["loc"])
    if len(field) > 3:  # after <claim>.checks.<number> comes the rule, as in no file
        del field[3]
    value = first["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float) else ""
    return f"{'.'.join(map(str, field))}{shown}: {first['msg']}"


def studies_of(statements: Iterable[Statement]) -> set[str]:
    """Return the names of the studies that claims are about."""
    rules = [rule for statement in statements for rule in statement.checks]
    parts = [part for rule in rules for part in getattr(rule, "over", [rule])]
    return {part.study for part in parts if isinstance(part, Subject)}


def judge(name: str, path: Path, statement: Statement, evidence: Evidence) -> Claim:
    """Make a claim's checks.

    Raises:
        SettingsError: If it names what a study does not plan.
        RecordError: If records cannot be used.
    """
    checks: list[Check] = []
    for index, rule in enumerate(statement.checks):
        try:
            checks += rule.checks(evidence)
        except ClaimError as error:
            raise SettingsError(f"{path}: {name}.checks.{index}.{error}") from error
    return Claim(name, statement.text, statement.source, tuple(checks))


def correct(found: list[Claim]) -> list[Claim]:
    """Correct the decisions on the paper's claims for their number, by Holm, for each measure."""
    corrected: dict[str, dict[str, float]] = {}
    for measure in MEASURES:
        values = {
            claim.id: value
            for claim in found
            if claim.source == "paper" and (value := claim.p_values.get(measure.title)) is not None
        }
        for name, value in zip(values, holm([*values.values()]), strict=True):
            corrected.setdefault(name, {})[measure.title] = value
    return [replace(claim, corrected=corrected.get(claim.id, {})) for claim in found]


def to_json(found: list[Claim]) -> str:
    """Return the claims as JSON, with verdicts in words and null for what is no finite number."""
    rows = [
        {
            "id": claim.id,
            "text": claim.text,
            "source": claim.source,
            "verdict": claim.answer,
            "verdicts": claim.verdicts,
            "corrected_p_values": claim.corrected,
            "runs": {"planned": len(claim.progress.planned), "done": len(claim.progress.done)},
            "checks": [asdict(check, dict_factory=_finite) for check in claim.checks],
        }
        for claim in found
    ]
    return json.dumps({"claims": rows}, indent=1, allow_nan=False) + "\n"


def _finite(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields
        if key not in ("progress", "planned", "done")
    }


def to_markdown(found: list[Claim]) -> str:
    """Return the claims as a page: a table of verdicts, then what each rests on."""
    values = {
        "claims": found,
        "sources": SOURCES,
        "resamples": RESAMPLES,
    }
    return render("claims.md.j2", values, number=number_text)


def number_text(number: Number) -> str:
    """Return a number's value, with its interval in brackets if it has one."""
    if number.low is None or number.high is None:
        return _digits(number.value)
    return f"{_digits(number.value)} [{_digits(number.low)}, {_digits(number.high)}]"


def _digits(value: float) -> str:
    if not math.isfinite(value):
        return "-"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_claims(results: Path, claims: Path = FOLDER) -> list[Claim]:
    """Judge the records below a folder, write ``CLAIMS.md`` and ``claims.json`` there.

    Args:
        results: The folder of the results.
        claims: The folder of the claims' files.

    Raises:
        SettingsError: If there is no such folder, or a claim has a mistake.
        RecordError: If records cannot be used.
    """
    if not results.is_dir():
        raise SettingsError(f"results={results}: no such folder")
    statements = load_statements(claims)
    evidence = Evidence(results)
    found = correct([judge(name, *statement, evidence) for name, statement in statements.items()])
    write_bytes(results / "CLAIMS.md", to_markdown(found).encode())
    write_bytes(results / "claims.json", to_json(found).encode())
    return found


def main(arguments: list[str]) -> int:
    """Run the command; return its exit code, 2 for a mistake told in one line."""
    try:
        settings = parse(ClaimsSettings, arguments, USAGE)
        results = Path(settings.results)
        found = write_claims(results, Path(settings.claims))
    except (RecordError, SettingsError) as error:
        print(f"claims: {error}", file=sys.stderr)
        return 2
    for claim in found:
        print(f"{claim.id:22} {claim.answer}")
    print(results / "CLAIMS.md")
    return 0


if __name__ == "__main__":
    with one_line_endings():
        sys.exit(main(sys.argv[1:]))
