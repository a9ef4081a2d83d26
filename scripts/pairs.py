"""A verdict for each pair of a study's families, by the rules of the claims.

Each family counts at the value that its tuning runs chose, on the confirm runs of all main tasks
that plan both, and by both measures. The decisions are corrected for the number of pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import combinations

from experiments.runs.writing import write_bytes
from scripts.checks.comparisons import Better, Competitive
from scripts.evidence import Evidence, Group
from scripts.pages import render
from scripts.scores import MEASURES
from scripts.studies import Study
from scripts.verdicts import (
    MEANINGFUL,
    NON_INFERIOR,
    SIGNIFICANT,
    Check,
    Number,
    Progress,
    Verdict,
    holm,
)

PAGE = "VERDICTS.md"


class Answer(StrEnum):
    """What the one family of a pair is beside the other."""

    BETTER = "better"
    WORSE = "worse"
    AS_GOOD = "as good within the margin"
    UNDECIDED = "undecided"
    DEPENDS = "depends on the measure"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Comparison:
    """A pair by one measure: three checks of the same runs, and the answer to which they come.

    Attributes:
        better: Whether X has higher returns than Y.
        worse: Whether Y has higher returns than X.
        competitive: Whether X is not inferior to Y.
        corrected: The p-value of the decision, corrected for the number of pairs.
    """

    better: Check
    worse: Check
    competitive: Check
    corrected: float = 1.0

    @property
    def decision(self) -> tuple[Answer, float]:
        """The answer before the correction, and its p-value."""
        better, worse, competitive = self.better, self.worse, self.competitive
        if better.verdict is Verdict.INCOMPLETE:
            return Answer.INCOMPLETE, 1.0
        if better.verdict is Verdict.REPRODUCED:
            return Answer.BETTER, better.p_value or 0.0
        if worse.verdict is Verdict.REPRODUCED:
            return Answer.WORSE, worse.p_value or 0.0
        both = (better.verdict, competitive.verdict)
        if both == (Verdict.NOT_REPRODUCED, Verdict.REPRODUCED):
            return Answer.AS_GOOD, max(better.p_value or 0.0, competitive.p_value or 0.0)
        return Answer.UNDECIDED, 1.0

    @property
    def answer(self) -> Answer:
        """The answer; undecided if the correction takes it back."""
        answer = self.decision[0]
        weak = answer is not Answer.INCOMPLETE and self.corrected > SIGNIFICANT
        return Answer.UNDECIDED if weak else answer

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The probability that X beats Y, and the scores of both."""
        return self.better.numbers

    @property
    def change(self) -> str:
        """What would change the answer."""
        checks = (self.better, self.competitive, self.worse)
        if self.answer is Answer.UNDECIDED and self.decision[0] is not Answer.UNDECIDED:
            return "More seeds: alone it would be decided, but not among so many pairs."
        undecided = (check for check in checks if check.verdict is Verdict.UNDECIDED)
        return next(undecided, self.better).change


@dataclass(frozen=True)
class Pair:
    """Two families of a study.

    Attributes:
        x: Title of the one that the answer is about.
        y: Title of the other.
        comparisons: By the measure's title.
    """

    x: str
    y: str
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        """The confirm runs that are planned for both."""
        return next(iter(self.comparisons.values())).better.progress

    @property
    def answer(self) -> Answer:
        """The answer: the same by both measures, or it depends."""
        answers = {comparison.answer for comparison in self.comparisons.values()}
        return answers.pop() if len(answers) == 1 else Answer.DEPENDS

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.answer is Answer.INCOMPLETE:
            text = self.progress.text if self.progress.planned else "no confirm runs are planned"
            return f"{self.answer} ({text})"
        if self.answer is Answer.DEPENDS:
            each = [f"{name}: {found.answer}" for name, found in self.comparisons.items()]
            return f"{self.answer} ({', '.join(each)})"
        return self.answer


def judge_pairs(evidence: Evidence, study: str) -> list[Pair]:
    """Compare each two families that a main task plans both.

    Raises:
        RecordError: If records cannot be used.
    """
    tasks = evidence.tasks(study, None)
    families = tasks[0].study.families if tasks else ()
    pairs = []
    for y, x in combinations(families, 2):
        if any({x.name, y.name} <= {*task.task.families} for task in tasks):
            ours, theirs = Group(family=x.name), Group(family=y.name)
            checks = zip(
                Better(rule="better", study=study, subject=ours, against=theirs).checks(evidence),
                Better(rule="better", study=study, subject=theirs, against=ours).checks(evidence),
                Competitive(rule="competitive", study=study, subject=ours, against=theirs).checks(
                    evidence
                ),
                strict=True,
            )
            comparisons = [Comparison(*three) for three in checks]
            titles = [measure.title for measure in MEASURES]
            pairs.append(Pair(x.title, y.title, dict(zip(titles, comparisons, strict=True))))
    return _correct(pairs)


def _correct(pairs: list[Pair]) -> list[Pair]:
    """Correct the decisions of each measure for the number of pairs, by Holm."""
    corrected = {
        measure.title: holm([pair.comparisons[measure.title].decision[1] for pair in pairs])
        for measure in MEASURES
    }
    return [
        replace(
            pair,
            comparisons={
                name: replace(comparison, corrected=corrected[name][index])
                for name, comparison in pair.comparisons.items()
            },
        )
        for index, pair in enumerate(pairs)
    ]


def write_pairs(study: Study, pairs: list[Pair], number: Callable[[Number], str]) -> None:
    """Write the page of a study's pairs into its folder.

    Args:
        study: The study.
        pairs: As `judge_pairs` returns them.
        number: Returns a number as text.
    """
    values = {
        "study": study,
        "pairs": pairs,
        "measures": [measure.title for measure in MEASURES],
        "meaningful": MEANINGFUL,
        "non_inferior": NON_INFERIOR,
    }
    text = render("pairs.md.j2", values, number=number)
    write_bytes(study.folder / PAGE, text.encode())
