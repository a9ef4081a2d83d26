"""Rules for the size of an optimizer's state."""

import math
from collections import Counter
from typing import Literal

from pydantic import Field

from scripts.checks.base import Opponents, Rule, Subject
from scripts.evidence import Evidence, runs_of
from scripts.studies import ArmRecords
from scripts.verdicts import Check, Number, decide


class LessMemory(Rule):
    """Whether one optimizer keeps less state than another.

    Attributes:
        over: Where they are compared.
    """

    rule: Literal["less_memory"]
    over: list[Opponents] = Field(min_length=1)

    def checks(self, evidence: Evidence) -> list[Check]:
        """Compare the state of both for each element."""
        numbers: list[Number] = []
        runs: dict[str, int] = {}
        for each in self.over:
            for task in evidence.tasks(each.study, each.task):
                family = task.family("against", each.against)
                x = task.records_of(task.family("subject", each.subject))
                y = task.records_of(family)
                if x and y:
                    ours, theirs = _state(x), _state(y)
                    runs = dict(Counter(runs) + Counter(runs_of([*x, *y], each.study)))
                    name = (
                        f"{task.title}: bytes of state, as share of {family.title}'s {theirs:g} "
                        "for each element"
                    )
                    numbers.append(Number(name, ours / theirs if theirs else math.inf))
        less = [number.value < 1 for number in numbers]
        return [
            Check(
                self.statement,
                "Reproduced if so in every study that has runs of both. Sizes do not depend on "
                "chance: one run will do.",
                decide(bool(less) and all(less), not all(less)),
                tuple(numbers),
                runs,
                "A record with another size." if less else "A run of each.",
            )
        ]


class Stateless(Rule):
    """Whether an optimizer keeps no state.

    Attributes:
        over: Where it is looked at.
    """

    rule: Literal["stateless"]
    over: list[Subject] = Field(min_length=1)

    def checks(self, evidence: Evidence) -> list[Check]:
        """Look at the state of all runs."""
        numbers: list[Number] = []
        runs: dict[str, int] = {}
        for each in self.over:
            for task in evidence.tasks(each.study, each.task):
                arms = task.records_of(task.family("subject", each.subject))
                if arms:
                    runs = dict(Counter(runs) + Counter(runs_of(arms, each.study)))
                    name = f"{task.title}: bytes of state for each element"
                    numbers.append(Number(name, _state(arms)))
        sizes = [number.value for number in numbers]
        return [
            Check(
                self.statement,
                "Reproduced if the state of every run has 0 bytes. One run will do.",
                decide(bool(sizes) and not any(sizes), any(sizes)),
                tuple(numbers),
                runs,
                "A record with another size." if sizes else "A run of such an optimizer.",
            )
        ]


def _state(arms: list[ArmRecords]) -> float:
    """Return bytes of state for each element: the largest, since a run that diverged has none."""
    records = [record for arm in arms for record in arm.records]
    return max(record.optimizer.state_bytes / record.optimizer.parameters for record in records)
