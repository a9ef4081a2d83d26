"""What all rules have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from scripts.evidence import Evidence, Group, Parameters, TaskEvidence
from scripts.statistics import Runs, aggregate_iqm, interval_estimates
from scripts.verdicts import Check, Number, lacking, number

NO_RUNS = "there are none of study {}"


class Rule(Parameters):
    """What every check says.

    Attributes:
        statement: What is tested.
    """

    statement: str = Field(min_length=1)

    @abstractmethod
    def checks(self, evidence: Evidence) -> list[Check]:
        """Put the statement to the test.

        Raises:
            ClaimError: If it names what a study does not plan.
            RecordError: If records cannot be used.
        """


class Subject(Parameters):
    """The optimizer that a check is about.

    Attributes:
        study: The study's name.
        task: The task's name; by default all of the study's.
        subject: The optimizer; by default the study's subject at all values.
    """

    study: str
    task: str | None = None
    subject: Group | None = None


class Opponents(Subject):
    """The optimizer that a check is about, and what it is compared with.

    Attributes:
        against: By default the study's baseline at its default.
    """

    against: Group | None = None


class OnEachTask(Rule, Subject):
    """A rule that is put to each task by itself."""

    RULE: ClassVar[str]

    def checks(self, evidence: Evidence) -> list[Check]:
        """Put the statement to the test on each task."""
        tasks = evidence.tasks(self.study, self.task)
        if not tasks:
            return [lacking(self.statement, self.RULE, {}, NO_RUNS.format(self.study))]
        several = len(tasks) > 1
        return [
            self.check(task, f"{task.title}: {self.statement}" if several else self.statement)
            for task in tasks
        ]

    @abstractmethod
    def check(self, task: TaskEvidence, statement: str) -> Check:
        """Put the statement to the test on one task."""


def scores(sides: Sequence[Runs]) -> list[Number]:
    """Return the interquartile mean of the final scores of each."""
    return [
        number(f"final score, IQM, {runs.name}", interval_estimates(aggregate_iqm, runs.scores))
        for runs in sides
    ]
