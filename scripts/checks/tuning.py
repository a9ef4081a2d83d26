"""Rules for the setting that is tuned: how much its choice matters."""

from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import ClassVar, Literal

from pydantic import Field

from scripts.checks.base import NO_RUNS, OnEachTask, Rule, Subject, scores
from scripts.evidence import ClaimError, Evidence, Side, TaskEvidence, runs_of
from scripts.stability import NEAR_BEST, robustness
from scripts.statistics import aggregate_iqm, interval_estimates
from scripts.verdicts import (
    BETTER,
    Check,
    Number,
    Verdict,
    below,
    better,
    change,
    combine,
    decide,
    improvement,
    lacking,
    number,
)


class Critical(OnEachTask):
    """Whether less than half of a setting's range is nearly as good as the best."""

    rule: Literal["critical"]
    RULE = (
        "Share of the setting's range, from its lowest to its highest value on a logarithmic axis, "
        f"within {NEAR_BEST:.0%} of the best, which is looked for in every resample anew: "
        "reproduced if the interval lies below 0.5, not reproduced if above; else undecided."
    )

    def check(self, task: TaskEvidence, statement: str) -> Check:
        """Look at the setting's range."""
        side = task.subject(self.subject)
        if len(side.values) < 2 or min(side.values) <= 0:
            raise ClaimError("subject.values: should be two or more, all above 0, for this rule")
        if side.lacks:
            return lacking(statement, self.RULE, runs_of(side), side.lacks)
        name = (
            f"{task.title}: share of the range of {side.symbol}, {side.values[0]:g} to "
            f"{side.values[-1]:g}, that is nearly as good as the best"
        )
        untrained = task.extent.untrained
        if max(float(aggregate_iqm(arm.scores)) for arm in side.arms) > untrained:
            share = partial(robustness, settings=side.values, untrained=untrained)
            robust = number(name, interval_estimates(share, *(arm.scores for arm in side.arms)))
        else:  # nothing was learned, so there is no way from untrained to the best
            robust = Number(name, float("nan"))
        verdict = below(robust, 0.5)
        numbers = (robust, *scores(side.arms))
        return Check(statement, self.RULE, verdict, numbers, runs_of(side), change(verdict))


class Interaction(Rule):
    """Whether the value that is best on one task falls behind on another.

    Attributes:
        over: The tasks, of one study or several, with the same values of the subject on each.
    """

    rule: Literal["interaction"]
    over: list[Subject] = Field(min_length=1)
    RULE: ClassVar[str] = (
        "For each ordered pair of tasks, the optimizer tuned on the second against the same at the "
        "setting that has the best IQM on the first (other runs, so no bias). "
        f"{BETTER} It must come less than {NEAR_BEST:.0%} of the way from untrained to tuned as "
        "well. The check is reproduced if one pair is, not reproduced if all are not."
    )

    def checks(self, evidence: Evidence) -> list[Check]:
        """Look at all ordered pairs of tasks."""
        ready: list[tuple[TaskEvidence, Side]] = []
        lacks: list[str] = []
        for each in self.over:
            tasks = evidence.tasks(each.study, each.task)
            if not tasks:
                lacks.append(NO_RUNS.format(each.study))
            for task in tasks:
                side = task.subject(each.subject)
                if side.lacks:
                    lacks.append(side.lacks)
                else:
                    ready.append((task, side))
        if any(side.values != ready[0][1].values for _, side in ready):
            raise ClaimError("over: should have the same values of the subject everywhere")
        pairs = [self._pair(*pair) for pair in permutations(ready, 2)]
        pairs.sort(key=lambda pair: (pair[1] is Verdict.REPRODUCED, pair[0].value), reverse=True)
        verdicts = [verdict for _, verdict in pairs]
        verdict = decide(
            Verdict.REPRODUCED in verdicts,
            bool(verdicts)
            and not lacks
            and all(verdict is Verdict.NOT_REPRODUCED for verdict in verdicts),
        )
        numbers = tuple(chance for chance, _ in pairs)
        needed = f"More runs: {'; '.join(lacks)}." if lacks else change(verdict)
        runs = runs_of(*(side for _, side in ready))
        return [Check(self.statement, self.RULE, verdict, numbers, runs, needed)]

    def _pair(
        self, origin: tuple[TaskEvidence, Side], target: tuple[TaskEvidence, Side]
    ) -> tuple[Number, Verdict]:
        (first, theirs), (second, side) = origin, target
        best = max(theirs.arms, key=lambda arm: float(aggregate_iqm(arm.scores)))
        there = next(arm for arm in side.arms if arm.value == best.value)
        untrained = second.extent.untrained
        way, whole = (float(aggregate_iqm(a.scores)) - untrained for a in (there, side.tuned))
        share = way / whole if whole > 0 else 1.0  # where nothing was learned, nothing is lost
        name = (
            f"{second.title}: probability that tuned beats {first.title}'s best, {best.name}, "
            f"with {share:.0%} of its gain"
        )
        chance = replace(improvement(side.tuned.scores, there.scores), name=name)
        if {arm.value for arm in side.tuned.chosen} == {there.value}:
            chance = Number(name, 0.5, 0.5, 0.5)  # the same runs
        behind = decide(share < NEAR_BEST, share >= NEAR_BEST)
        return chance, combine([better(chance), behind])
