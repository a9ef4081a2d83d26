"""Rules for the setting that is tuned: how much its choice matters, by the tuning runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import permutations
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from scripts.checks.base import NO_RUNS, Opponents, Rule, Subject
from scripts.evidence import ClaimError, Evidence, TaskEvidence, runs_of, usable
from scripts.scores import MEASURES, TRAINING, Arm, Measure
from scripts.stability import NEAR_BEST, decades
from scripts.statistics import (
    MINIMUM_SEEDS,
    FloatArray,
    aggregate_iqm,
    improvement,
    interval_estimates,
)
from scripts.studies import Family, Stage
from scripts.verdicts import (
    BETTER,
    SIGNIFICANT,
    Check,
    Number,
    Outcome,
    Progress,
    Sides,
    Verdict,
    all_of,
    better,
    change,
    decide,
    large_enough,
    number,
    relative_gain,
    seeds_needed,
    with_gain,
)

CRITICAL_LEVEL = 0.99
"""Nominal level of the percentile interval of `Critical`: of three seeds it covers 95%."""


@dataclass(frozen=True)
class Sweep:
    """A family's tuning runs on a task, at all values that have runs.

    Attributes:
        settings: The values, in growing order.
        arms: Likewise.
    """

    settings: list[float]
    arms: list[Arm]

    @property
    def width(self) -> float:
        """The decades from the first to the last value."""
        return float(np.log10(self.settings[-1] / self.settings[0]))


@dataclass(frozen=True)
class Control:
    """The subject's sweep and the control's on one task, and the untrained return."""

    title: str
    subject: Sweep
    control: Sweep
    untrained: float

    def widths(self, *strata: FloatArray, axis: int = 0) -> FloatArray:
        """Return the decades of both, as far as the narrower grid reaches, shape (2, ...)."""
        number = len(self.subject.arms)
        found = [
            decades(*part, settings=sweep.settings, untrained=self.untrained, axis=axis)
            for sweep, part in (
                (self.subject, strata[:number]),
                (self.control, strata[number:]),
            )
        ]
        narrower = min(self.subject.width, self.control.width)
        return np.asarray(np.minimum(found, narrower))

    @property
    def strata(self) -> list[FloatArray]:
        """The scores of all arms."""
        return [arm.scores for arm in (*self.subject.arms, *self.control.arms)]


class Critical(Rule, Opponents):
    """Whether a setting is good over fewer decades than the setting that the rival tunes."""

    rule: Literal["critical"]
    RULE: ClassVar[str] = (
        f"Decades of the setting that keep {NEAR_BEST:.0%} of the best gain, less those of the "
        "rival's, both as far as the narrower grid reaches, averaged over tasks, in one bootstrap "
        "that looks for the best anew in every resample. Reproduced if the interval lies below 0, "
        "not reproduced if it does not go below; else undecided. It rests on the tuning runs, "
        "since only they have all values."
    )

    def checks(self, evidence: Evidence) -> list[Check]:
        """Compare the settings by both measures."""
        tasks = [
            (task, task.family("subject", self.subject), task.family("against", self.against))
            for task in evidence.tasks(self.study, self.task)
        ]
        tasks = [
            (task, ours, theirs)
            for task, ours, theirs in tasks
            if len(task.grid(ours)) > 1 and len(task.grid(theirs)) > 1
        ]
        if not tasks:
            lacks = f"A plan: {NO_RUNS.format(self.study)}."
            return [Check(self.statement, self.RULE, Verdict.INCOMPLETE, (), {}, lacks)]
        for task, *families in tasks:
            if any(task.grid(family)[0] <= 0 for family in families):
                raise ClaimError("subject: should have values above 0 only, for this rule")
        return [self._check(tasks, measure) for measure in MEASURES]

    def _check(self, tasks: Sequence[tuple[TaskEvidence, Family, Family]], by: Measure) -> Check:
        progress = reduce(
            Progress.__or__,
            (
                task.progress(family, value, Stage.tune)
                for task, *families in tasks
                for family in families
                for value in task.grid(family)
            ),
        )
        found = []
        for task, ours, theirs in tasks:
            subject, control = (sweep_of(task, family, by) for family in (ours, theirs))
            if len(subject.arms) > 1 and len(control.arms) > 1:
                untrained = task.extent(Stage.tune, by).untrained
                found.append(Control(task.title, subject, control, untrained))
        arms = [arm for each in found for arm in (*each.subject.arms, *each.control.arms)]
        runs = runs_of(arms, self.study)
        outcome, numbers = difference(found) if found else (Outcome(Verdict.UNDECIDED), [])
        incomplete = not progress.complete
        return Check(
            self.statement,
            self.RULE,
            Verdict.INCOMPLETE if incomplete else outcome.verdict,
            tuple(numbers),
            runs,
            f"The runs that are planned: {progress.missing}." if incomplete else change(outcome),
            by.title,
            1.0 if incomplete else outcome.p_value,
            progress,
            incomplete,
        )


def sweep_of(task: TaskEvidence, family: Family, by: Measure) -> Sweep:
    """Return a family's tuning runs on a task, at the values that have enough for an interval."""
    arms = [arm for arm in task.arms(Stage.tune, by) if arm.family == family and usable([arm])]
    arms = sorted(arms, key=lambda arm: arm.value)
    arms = [arm for arm in arms if len(arm.records) >= MINIMUM_SEEDS]
    return Sweep([arm.value for arm in arms], arms)


def difference(tasks: Sequence[Control]) -> tuple[Outcome, list[Number]]:
    """Return whether the subject's decades are fewer than the control's, and the numbers."""
    sizes = np.cumsum([len(task.strata) for task in tasks])[:-1]

    def fewer(*strata: FloatArray, axis: int = 0) -> FloatArray:
        parts = [strata[low:high] for low, high in zip([0, *sizes], [*sizes, None], strict=True)]
        widths = [task.widths(*part, axis=axis) for task, part in zip(tasks, parts, strict=True)]
        # A resample in which nothing was learned has no decades to keep.
        less = [np.subtract(*np.nan_to_num(pair)) for pair in widths]
        return np.asarray(np.mean(less, axis=0))

    measured = [task.widths(*task.strata) for task in tasks]
    ours, theirs = tasks[0].subject.arms[0].family, tasks[0].control.arms[0].family
    numbers = [
        Number(f"decades of {family.title}'s {family.symbol}, {task.title}", float(width))
        for task, widths in zip(tasks, measured, strict=True)
        for family, width in zip((ours, theirs), widths, strict=True)
    ]
    name = f"decades of {ours.title}'s {ours.symbol} less those of {theirs.title}'s {theirs.symbol}"
    if np.isnan(measured).any():
        return Outcome(Verdict.UNDECIDED), [Number(name, float("nan")), *numbers]
    strata = [scores for task in tasks for scores in task.strata]
    estimate = interval_estimates(fewer, *strata, level=CRITICAL_LEVEL)
    numbers.insert(0, number(name, estimate))
    if estimate.low is None or estimate.high is None or estimate.p_value is None:
        return Outcome(Verdict.UNDECIDED), numbers
    verdict = decide(*map(bool, critical_sides(estimate.low, estimate.high)))
    if verdict is Verdict.UNDECIDED:
        seeds = min(len(arm.records) for task in tasks for arm in task.subject.arms)
        return Outcome(verdict, seeds=seeds_needed(estimate, 0, seeds, scale=False)), numbers
    return Outcome(verdict, float(estimate.p_value(0))), numbers


def critical_sides(low: FloatArray, high: FloatArray) -> Sides:
    """Return whether there are fewer decades than the control has, and whether there are not."""
    return high < 0, low >= 0


class Interaction(Rule):
    """Whether the value that is best for one study falls behind on another.

    Attributes:
        over: The studies.
    """

    rule: Literal["interaction"]
    over: list[Subject] = Field(min_length=2)
    RULE: ClassVar[str] = (
        "For each ordered pair of studies, the confirm runs of the second at its own choices "
        "against its tuning runs at the value that is best over all tasks of the first, averaged "
        f"over the second's tasks; where both are the same value it is a tie. {BETTER} And the "
        f"probability that the choice is ahead with {NEAR_BEST:.0%} of its gain must be at least "
        "0.5; an interval of it that lies below means not reproduced. "
        "Reproduced if one pair is, its p-value times the number of pairs being at most "
        f"{SIGNIFICANT:g}; not reproduced if all are not."
    )

    def checks(self, evidence: Evidence) -> list[Check]:
        """Look at all ordered pairs of studies, by both measures."""
        studies: dict[str, list[tuple[TaskEvidence, Family]]] = {}
        lacks = []
        for each in self.over:
            tasks = evidence.tasks(each.study, each.task)
            found = [(task, task.family("subject", each.subject)) for task in tasks]
            studies[each.study] = [pair for pair in found if len(pair[0].grid(pair[1])) > 1]
            if not studies[each.study]:
                lacks.append(NO_RUNS.format(each.study))
        if lacks:
            needed = f"A plan: {'; '.join(lacks)}."
            return [Check(self.statement, self.RULE, Verdict.INCOMPLETE, (), {}, needed)]
        pairs = [pair for pairs in studies.values() for pair in pairs]
        common = sorted(set.intersection(*(set(task.grid(family)) for task, family in pairs)))
        if not common:
            raise ClaimError("over: the tasks have no value of the setting in common")
        return [self._check(studies, common, measure) for measure in MEASURES]

    def _check(
        self,
        studies: dict[str, list[tuple[TaskEvidence, Family]]],
        common: Sequence[float],
        by: Measure,
    ) -> Check:
        progress, confirmed = Progress(), True
        for task, family in (pair for pairs in studies.values() for pair in pairs):
            for value in task.grid(family):
                progress |= task.progress(family, value, Stage.tune)
            chosen = task.study.choice(task.task, family)
            confirm = task.progress(family, chosen, Stage.confirm)
            progress |= confirm
            confirmed &= confirm.complete
        stage = Stage.confirm if progress.complete and confirmed else Stage.tune
        pairs = []
        runs: dict[str, int] = {}
        for first, second in permutations(studies, 2):
            compared = compare(studies[first], studies[second], common, stage, by)
            if compared is not None:
                outcome, numbers = compared
                pairs.append((outcome, numbers))
        for study, tasks in studies.items():
            runs |= runs_of((a for task, f in tasks for a in task.records_of(f)), study)
        pairs.sort(key=lambda pair: (pair[0].verdict is not Verdict.REPRODUCED, -pair[1].value))
        outcome = correct([outcome for outcome, _ in pairs])
        incomplete = stage is Stage.tune
        return Check(
            self.statement,
            self.RULE,
            Verdict.INCOMPLETE if incomplete else outcome.verdict,
            tuple(shown for _, shown in pairs),
            runs,
            f"The runs that are planned: {progress.missing}." if incomplete else change(outcome),
            by.title,
            1.0 if incomplete else outcome.p_value,
            progress,
            incomplete,
        )


def best_over(
    tasks: Sequence[tuple[TaskEvidence, Family]], values: Sequence[float]
) -> float | None:
    """Return the value that keeps most of what the best one gains, averaged over tasks."""
    shares = []
    for task, family in tasks:
        arms = {a.value: a for a in task.arms(Stage.tune, TRAINING) if a.family == family}
        if not arms.keys() >= set(values):
            continue
        gains = [float(aggregate_iqm(arms[v].scores)) for v in values]
        gain = np.array(gains) - task.extent(Stage.tune, TRAINING).untrained
        if gain.max() > 0:
            shares.append(gain / gain.max())
    return values[int(np.mean(shares, axis=0).argmax())] if shares else None


def compare(
    first: Sequence[tuple[TaskEvidence, Family]],
    second: Sequence[tuple[TaskEvidence, Family]],
    values: Sequence[float],
    stage: Stage,
    by: Measure,
) -> tuple[Outcome, Number] | None:
    """Compare the choices of a second study with the best value of a first one, on the second.

    Returns:
        The outcome, and the probability of improvement; ``None`` without runs of both.
    """
    best = best_over(first, values)
    sides, arms = [], []
    for task, family in second:
        chosen = task.study.choice(task.task, family) if stage is Stage.confirm else None
        chosen = task.tuned(family) if chosen is None else chosen
        x = task.arm(family, chosen, stage, by)
        y = task.arm(family, best, Stage.tune, by)
        if x is None or y is None or not usable([x, y]):
            continue
        same = x.value == y.value
        tie = np.zeros(len(x.records)), np.zeros(len(y.records))
        sides.append(tie if same else (x.measured, y.measured))
        arms.append((x if same else y, x, task.extent(Stage.tune, by).untrained))
    if not sides or best is None:
        return None
    less = [(with_gain(x.measured, untrained, NEAR_BEST), y.measured) for y, x, untrained in arms]
    kept = relative_gain(arms)
    title, other = second[0][0].study.title, first[0][0].study.title
    name = (
        f"{title}: probability that its choice beats {other}'s best, {second[0][1].symbol} "
        f"{best:g}, which keeps {1 + kept:.0%} of the gain"
    )
    estimate = improvement(*sides)
    seeds = min(len(side) for pair in sides for side in pair)
    behind = large_enough(improvement(*less), seeds)
    return all_of([better(estimate, seeds), behind]), number(name, estimate)


def correct(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what all pairs come to: one that is reproduced is enough, corrected for all."""
    reproduced = [o.p_value for o in outcomes if o.verdict is Verdict.REPRODUCED]
    if reproduced and (p_value := min(reproduced) * len(outcomes)) <= SIGNIFICANT:
        return Outcome(Verdict.REPRODUCED, p_value)
    if outcomes and all(o.verdict is Verdict.NOT_REPRODUCED for o in outcomes):
        return Outcome(Verdict.NOT_REPRODUCED, max(o.p_value for o in outcomes))
    seeds = [o.seeds for o in outcomes if o.seeds is not None]
    return Outcome(Verdict.UNDECIDED, seeds=max(seeds, default=None))
