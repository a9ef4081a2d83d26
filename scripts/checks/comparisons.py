"""Rules for two optimizers over a study's tasks, each at its value, by the confirm runs."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

from scripts.checks.base import NO_RUNS, Opponents, Rule
from scripts.evidence import Evidence, Pair, TaskEvidence, runs_of, usable
from scripts.scores import MEASURES, Arm, Measure
from scripts.stability import LEARNED, collapsed, instability
from scripts.statistics import FloatArray, aggregate_iqm, improvement, interval_estimates
from scripts.studies import Family, Stage
from scripts.verdicts import (
    BETTER,
    FEWEST_SEEDS,
    MEANINGFUL,
    NON_INFERIOR,
    SUBSTANTIAL,
    Check,
    Number,
    Outcome,
    Progress,
    Verdict,
    above,
    all_of,
    better,
    change,
    large_enough,
    number,
    relative_gain,
    with_gain,
)


@dataclass(frozen=True)
class Judged:
    """An outcome, and the numbers that show it; the first is the one that decides."""

    outcome: Outcome
    numbers: list[Number]


class Comparison(Rule, Opponents):
    """A rule for two optimizers over a study's tasks that plan both.

    Until the plan of both is complete there is no verdict, and the tuning runs are told instead.
    """

    RULE: ClassVar[str]

    def checks(self, evidence: Evidence) -> list[Check]:
        """Compare them by both measures."""
        tasks = [
            task
            for task in evidence.tasks(self.study, self.task)
            if {
                task.family("subject", self.subject).name,
                task.family("against", self.against).name,
            }
            <= {*task.task.families}
        ]
        if not tasks:
            lacks = f"A plan: {NO_RUNS.format(self.study)}."
            return [Check(self.statement, self.RULE, Verdict.INCOMPLETE, (), {}, lacks)]
        return [self._check(tasks, measure) for measure in MEASURES]

    def _check(self, tasks: Sequence[TaskEvidence], measure: Measure) -> Check:
        sides = [
            (t, t.confirmed("subject", self.subject), t.confirmed("against", self.against))
            for t in tasks
        ]
        progress = reduce(
            Progress.__or__,
            (t.progress(*side, Stage.confirm) for t, *both in sides for side in both),
        )
        stage = Stage.confirm if progress.complete else Stage.tune
        pairs = []
        for task, (ours, value), (theirs, other) in sides:
            if stage is Stage.tune:
                value = task.tuned(ours) if value is None else value
                other = task.tuned(theirs) if other is None else other
            x, y = task.arm(ours, value, stage, measure), task.arm(theirs, other, stage, measure)
            if x is not None and y is not None and usable([x, y]):
                sweep = self._sweep(task, ours, theirs, other, measure)
                pairs.append(Pair(task.title, x, y, task.extent(stage, measure), sweep))
        runs = runs_of((arm for pair in pairs for arm in (pair.x, pair.y)), self.study)
        judged = self.judge(pairs) if pairs else Judged(Outcome(Verdict.UNDECIDED), [])
        statement = self.statement + names(pairs)
        if stage is Stage.tune:
            needed = f"The runs that are planned: {progress.missing}."
            verdict, p_value = Verdict.INCOMPLETE, 1.0
        else:
            outcome = judged.outcome
            if reason := self._undecidable(pairs, len(tasks), measure):
                outcome, needed = Outcome(Verdict.UNDECIDED), reason
            else:
                needed = change(outcome)
            verdict, p_value = outcome.verdict, outcome.p_value
        return Check(
            statement,
            self.RULE,
            verdict,
            tuple(judged.numbers),
            runs,
            needed,
            measure.title,
            p_value,
            progress,
            stage is Stage.tune,
        )

    @staticmethod
    def _sweep(
        task: TaskEvidence, ours: Family, theirs: Family, other: float | None, measure: Measure
    ) -> tuple[Pair, ...]:
        """Return the tuning runs of X at each of its values against those of Y at its value."""
        y = task.arm(theirs, other, Stage.tune, measure)
        arms = [arm for arm in task.arms(Stage.tune, measure) if arm.family == ours and arm != y]
        extent = task.extent(Stage.tune, measure) if arms else None
        return tuple(
            Pair(task.title, x, y, extent)
            for x in arms
            if y is not None and extent is not None and usable([x, y])
        )

    def _undecidable(self, pairs: Sequence[Pair], tasks: int, measure: Measure) -> str | None:
        """Return why complete runs decide nothing."""
        if len(pairs) < tasks:
            return f"Runs with a number: some have no {measure.title}."
        if few := [pair for pair in pairs if pair.seeds < FEWEST_SEEDS]:
            return f"A plan with {FEWEST_SEEDS} seeds at least: {few[0].title} has {few[0].seeds}."
        if idle := [pair.title for pair in pairs if pair.idle]:
            return f"Runs that learn something: on {', '.join(idle)} neither does."
        return None

    @abstractmethod
    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Return what the pairs, one at least, come to."""


def names(pairs: Sequence[Pair]) -> str:
    """Return which arms are compared."""
    if not pairs:
        return ""
    x, y = (
        f"{arms[0].family.title} ({', '.join(dict.fromkeys(arm.name for arm in arms))})"
        for arms in ([pair.x for pair in pairs], [pair.y for pair in pairs])
    )
    return f": {x} against {y}"


def chances(
    name: str, pairs: Sequence[Pair], values: Sequence[tuple[FloatArray, FloatArray]]
) -> Judged:
    """Compare the values of each pair by the rule `BETTER`."""
    estimate = improvement(*values)
    numbers = [number(name, estimate)]
    if len(pairs) > 1:
        numbers[0] = number(f"{name}, average over tasks", estimate)
        numbers += [
            number(f"{name}, {pair.title}", improvement(value))
            for pair, value in zip(pairs, values, strict=True)
        ]
    return Judged(better(estimate, fewest_seeds(pairs)), numbers)


def fewest_seeds(pairs: Sequence[Pair]) -> int:
    """Return how many seeds the smallest arm has."""
    return min(pair.seeds for pair in pairs)


def measured(pairs: Sequence[Pair]) -> list[tuple[FloatArray, FloatArray]]:
    """Return what the runs of both measure."""
    return [(pair.x.measured, pair.y.measured) for pair in pairs]


def scores(pairs: Sequence[Pair]) -> list[Number]:
    """Return the interquartile mean of the scores of each."""
    several = len(pairs) > 1
    return [
        number(
            f"score, IQM, {arm.name}" + f", {pair.title}" * several,
            interval_estimates(aggregate_iqm, arm.scores),
        )
        for pair in pairs
        for arm in (pair.x, pair.y)
    ]


def gain(pairs: Sequence[Pair]) -> Number:
    """Return the relative gain, to be shown."""
    name = f"gain over untrained, relative to {pairs[0].y.family.title}'s"
    return Number(name, relative_gain([(p.x, p.y, p.extent.untrained) for p in pairs]))


class Better(Comparison):
    """Whether one optimizer's scores are better than another's."""

    rule: Literal["better"]
    statement: str = "Higher returns"
    RULE = BETTER

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Compare scores."""
        found = chances("probability of improvement", pairs, measured(pairs))
        return Judged(found.outcome, [*found.numbers, *scores(pairs)])


class Substantial(Comparison):
    """Whether one is better than the other, and by more than a tenth of the other's gain."""

    rule: Literal["substantial"]
    statement: str = "Substantially higher returns"
    RULE = (
        f"{BETTER} And the probability that a run beats one of the other with {SUBSTANTIAL:.0%} "
        "more gain over the untrained policy must be at least 0.5; an interval of it that lies "
        "below means not reproduced."
    )

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Compare scores, and the gains over the untrained policy."""
        found = chances("probability of improvement", pairs, measured(pairs))
        more = [
            (pair.x.measured, with_gain(pair.y.measured, pair.extent.untrained, 1 + SUBSTANTIAL))
            for pair in pairs
        ]
        beyond = chances(f"probability of {SUBSTANTIAL:.0%} more gain", pairs, more)
        large = large_enough(improvement(*more), fewest_seeds(pairs))
        numbers = [*found.numbers, *beyond.numbers, gain(pairs), *scores(pairs)]
        return Judged(all_of([found.outcome, large]), numbers)


class Competitive(Comparison):
    """Whether one is not inferior to the other."""

    rule: Literal["competitive"]
    statement: str = "Competitive returns"
    RULE = (
        f"Probability of improvement: reproduced if the interval lies above {NON_INFERIOR:g} "
        f"(the rival's is {MEANINGFUL:g}); not reproduced if below; else undecided."
    )

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Compare scores, and show the gains over the untrained policy."""
        found = chances("probability of improvement", pairs, measured(pairs))
        outcome = above(improvement(*measured(pairs)), NON_INFERIOR, fewest_seeds(pairs))
        return Judged(outcome, [*found.numbers, gain(pairs), *scores(pairs)])


class Stability(Comparison):
    """Whether one's drawdowns are larger or smaller than the other's.

    Attributes:
        drawdown: What is claimed of them.
    """

    rule: Literal["stability"]
    drawdown: Literal["larger", "smaller"]
    RULE = (
        "Drawdown: the largest fall of a run's smoothed curve, as share of its range; 1 if the run "
        f"failed or never came {LEARNED:.0%} of the way from untrained to the task's best. "
        f"{BETTER}"
    )

    def judge(self, pairs: Sequence[Pair]) -> Judged:
        """Compare drawdowns; show what else there is of stability."""
        sign = 1 if self.drawdown == "larger" else -1

        def falls(pair: Pair) -> tuple[FloatArray, FloatArray]:
            return sign * instability(pair.x, pair.extent), sign * instability(pair.y, pair.extent)

        name, several = f"probability of a {self.drawdown} drawdown", len(pairs) > 1
        found = chances(name, pairs, [falls(pair) for pair in pairs])
        numbers = found.numbers
        for pair in pairs:
            where = f", {pair.title}" * several
            for arm in (pair.x, pair.y):
                numbers += _steadiness(arm, pair, f", {arm.name}{where}")
            numbers += [
                number(f"{name}, tuning runs of {each.x.name}{where}", improvement(falls(each)))
                for each in pair.sweep
            ]
        return Judged(found.outcome, numbers)


def _steadiness(arm: Arm, pair: Pair, where: str) -> list[Number]:
    drawdowns = interval_estimates(aggregate_iqm, instability(arm, pair.extent))
    return [
        number(f"drawdown, IQM{where}", drawdowns),
        Number(f"share of runs that collapsed{where}", float(collapsed(arm, pair.extent).mean())),
        Number(f"share of runs that diverged{where}", float(arm.diverged.mean())),
    ]
