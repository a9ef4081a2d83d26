"""All main tasks of a study together, by normalised scores: rliable's aggregates."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from scripts.scores import TRAINING, Arm, Measure, arms_of, scale_of
from scripts.statistics import (
    Estimate,
    FloatArray,
    aggregate_iqm,
    aggregate_optimality_gap,
    improvement,
    interval_estimates,
)
from scripts.studies import Stage, Study


@dataclass(frozen=True)
class Aggregate:
    """An optimizer over the tasks on which it has runs, as the baseline has.

    Attributes:
        name: The family's title; of the baseline at its default, with that said.
        arms: Its arm on each task.
        scores: Normalised, for each task: 0 untrained, 1 the baseline at its default.
        rivals: The baseline's arm on each task.
    """

    name: str
    arms: list[Arm]
    scores: list[FloatArray]
    rivals: list[Arm]

    @property
    def iqm(self) -> Estimate:
        """Interquartile mean over all runs, stratified by task."""
        return interval_estimates(aggregate_iqm, *self.scores)

    @property
    def optimality_gap(self) -> Estimate:
        """By how much runs miss what the baseline comes to, on average."""
        return interval_estimates(partial(aggregate_optimality_gap, target=1.0), *self.scores)

    @property
    def improvement(self) -> Estimate:
        """Probability of improvement over the baseline at its default, averaged over tasks."""
        pairs = zip(self.arms, self.rivals, strict=True)
        return improvement(*((arm.measured, rival.measured) for arm, rival in pairs))


def aggregates(
    study: Study, measure: Measure = TRAINING, stage: Stage = Stage.confirm
) -> list[Aggregate]:
    """Return the baseline at its default, then each family at its choice on every main task.

    In the stage *tune* the value that is best so far counts: exploratory, and too good for
    families of many values. Tasks without runs of the baseline, or on which it learned nothing,
    are left out.
    """
    found: dict[str, Aggregate] = {}
    for task in (task for task in study.tasks if task.role == "main"):
        arms = arms_of(study, task, measure, stage)
        scale = scale_of(arms)
        baseline = next((arm for arm in arms if arm.is_baseline), None)
        if scale is None or baseline is None or np.isnan(scale(baseline.scores)).any():
            continue
        chosen = {f"{baseline.family.title}, default": baseline}
        training = arms_of(study, task, TRAINING, stage)
        for family in study.manifest.families:
            value = study.manifest.choice(task, family)
            if stage is Stage.tune:
                own = [arm for arm in training if arm.family == family]
                best = max(own, key=lambda arm: float(aggregate_iqm(arm.scores)), default=None)
                value = None if best is None else best.value
            chosen |= {
                arm.family.title: arm for arm in arms if (arm.family, arm.value) == (family, value)
            }
        for name, arm in chosen.items():
            aggregate = found.setdefault(name, Aggregate(name, [], [], []))
            aggregate.arms.append(arm)
            aggregate.scores.append(scale(arm.scores))
            aggregate.rivals.append(baseline)
    return list(found.values())
