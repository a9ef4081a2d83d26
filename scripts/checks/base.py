"""What all rules have in common."""

from abc import abstractmethod

from pydantic import Field

from scripts.evidence import Evidence, Group, Parameters
from scripts.verdicts import Check

NO_RUNS = "there is none of both in study {}"


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
        task: The task's name; by default all main tasks of the study.
        subject: The optimizer; by default the study's subject at its choice.
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
