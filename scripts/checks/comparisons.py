"""Rules for two optimizers, each at the setting that was chosen on the other seeds."""

from abc import abstractmethod
from dataclasses import replace
from typing import Literal

from scripts.checks.base import OnEachTask, Opponents, scores
from scripts.evidence import Side, TaskEvidence, runs_of
from scripts.stability import LEARNED, collapsed, instability, interquartile_range
from scripts.statistics import Runs, aggregate_iqm, chance_of_gain, interval_estimates
from scripts.verdicts import (
    BETTER,
    SUBSTANTIAL,
    Check,
    Number,
    Verdict,
    above,
    better,
    change,
    combine,
    decide,
    improvement,
    lacking,
    number,
    relative_gain,
)


class Comparison(OnEachTask, Opponents):
    """A rule for two tuned optimizers on a task, both with all settings and enough seeds."""

    def check(self, task: TaskEvidence, statement: str) -> Check:
        """Compare them."""
        x, y = task.subject(self.subject), task.rival(self.against)
        runs = runs_of(x, y)
        if lacks := x.lacks or y.lacks:
            return lacking(statement, self.RULE, runs, lacks)
        verdict, numbers = self.judge(x, y, task)
        statement += f": {x.name} ({x.chosen}) against {y.name} ({y.chosen})"
        return Check(statement, self.RULE, verdict, tuple(numbers), runs, change(verdict))

    @abstractmethod
    def judge(self, x: Side, y: Side, task: TaskEvidence) -> tuple[Verdict, list[Number]]:
        """Return the verdict, and the numbers; the first is the one that decides."""


class Better(Comparison):
    """Whether one optimizer's final scores are better than another's."""

    rule: Literal["better"]
    statement: str = "Higher final scores"
    RULE = BETTER

    def judge(self, x: Side, y: Side, task: TaskEvidence) -> tuple[Verdict, list[Number]]:
        """Compare final scores."""
        chance = improvement(x.tuned.scores, y.tuned.scores)
        return better(chance), [chance, *scores([x.tuned, y.tuned])]


class Substantial(Comparison):
    """Whether one is better than the other, and by more than a tenth of the other's gain."""

    rule: Literal["substantial"]
    statement: str = "Substantially higher returns"
    RULE = (
        f"{BETTER} The relative gain must be above {SUBSTANTIAL:g} as well; an interval of it that "
        "lies below means not reproduced. How many small studies, drawn from our runs, would have "
        "shown such a gain does not decide."
    )

    def judge(self, x: Side, y: Side, task: TaskEvidence) -> tuple[Verdict, list[Number]]:
        """Compare final scores, and the gains over the untrained policy."""
        chance = improvement(x.tuned.scores, y.tuned.scores)
        gain = relative_gain(x.tuned.scores, y.tuned.scores, task.extent, y.name)
        large = above(gain, SUBSTANTIAL)
        enough = decide(gain.value > SUBSTANTIAL, large is Verdict.NOT_REPRODUCED)
        by_selection = [
            Number(
                f"share of studies with {seeds} seed{'s' * (seeds > 1)} an arm that show such a "
                f"gain, the best {x.symbol} chosen on the same seeds",
                chance_of_gain(
                    x.arms, y.tuned, seeds=seeds, untrained=task.extent.untrained, gain=SUBSTANTIAL
                ),
            )
            for seeds in (1, 3)
        ]
        return combine([better(chance), enough]), [chance, gain, *by_selection]


class Competitive(Comparison):
    """Whether one's gain is at most a tenth below the other's."""

    rule: Literal["competitive"]
    statement: str = "Competitive returns"
    RULE = (
        f"Relative gain: reproduced if the interval lies above -{SUBSTANTIAL:g}, not reproduced if "
        "below; else undecided."
    )

    def judge(self, x: Side, y: Side, task: TaskEvidence) -> tuple[Verdict, list[Number]]:
        """Compare the gains over the untrained policy."""
        gain = relative_gain(x.tuned.scores, y.tuned.scores, task.extent, y.name)
        return above(gain, -SUBSTANTIAL), [gain, improvement(x.tuned.scores, y.tuned.scores)]


class Stability(Comparison):
    """Whether one's drawdowns are larger or smaller than the other's.

    Attributes:
        drawdown: What is claimed of them.
    """

    rule: Literal["stability"]
    drawdown: Literal["larger", "smaller"]
    RULE = (
        "Drawdown: the largest fall of a run's smoothed curve, as share of its range; 1 if the run "
        f"diverged or never came {LEARNED:.0%} of the way from untrained to the study's best. At "
        "the setting with the best returns; the other settings are shown and do not decide. "
        f"{BETTER}"
    )

    def judge(self, x: Side, y: Side, task: TaskEvidence) -> tuple[Verdict, list[Number]]:
        """Compare drawdowns; show what else there is of stability."""
        sign = 1 if self.drawdown == "larger" else -1

        def chance(runs: Runs) -> Number:
            falls = (sign * instability(side, task.extent) for side in (runs, y.tuned))
            return replace(improvement(*falls), name=f"probability of a {self.drawdown} drawdown")

        falls = chance(x.tuned)
        numbers = [falls]
        for runs in (x.tuned, y.tuned):
            drawdowns = interval_estimates(aggregate_iqm, instability(runs, task.extent))
            spread = interval_estimates(interquartile_range, runs.scores)
            numbers += [
                number(f"drawdown, IQM, {runs.name}", drawdowns),
                number(f"interquartile range of the final scores, {runs.name}", spread),
                Number(
                    f"share of runs that collapsed, {runs.name}",
                    collapsed(runs, task.extent).mean(),
                ),
                Number(f"share of runs that diverged, {runs.name}", runs.diverged.mean()),
            ]
        for arm in x.arms:
            each = chance(arm)
            numbers.append(replace(each, name=f"{each.name}, {arm.name}"))
        return better(falls), numbers
