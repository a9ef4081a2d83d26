"""Learning curves as data that the report's page draws, so that they can be explored there."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from scripts.figures.curves import curve_data
from scripts.figures.panels import shown_stage
from scripts.figures.plot import looks, setting_text
from scripts.scores import MEASURES, arms_of
from scripts.studies import Stage, Study, Task

DIGITS = 5
"""Of each number: more than a page has pixels."""


@dataclass(frozen=True)
class Explorer:
    """A task's learning curves, as plain data.

    Attributes:
        task: The task.
        measures: What the curves show; each arm has one for each of these, in order.
        arms: What they are called, how they look, and their curves.
    """

    task: Task
    measures: tuple[str, ...]
    arms: list[dict[str, Any]]

    @property
    def families(self) -> dict[str, list[tuple[int, dict[str, Any]]]]:
        """The arms of each family with their numbers, by the family's title."""
        found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, arm in enumerate(self.arms):
            found.setdefault(arm["family"], []).append((number, arm))
        return found

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {"steps": self.task.total_steps, "arms": self.arms}


def explorer(study: Study, task: Task) -> Explorer:
    """Return a task's learning curves; of two stages, those that are compared come first."""
    first = shown_stage(study, task)
    stages = [stage for stage in Stage if study.arms_of(task, stage)]
    stages.sort(key=lambda stage: stage is not first)
    arms = [arm for stage in stages for arm in _arms(study, task, stage, first, len(stages) > 1)]
    return Explorer(task, tuple(measure.title for measure in MEASURES), arms)


def _arms(
    study: Study, task: Task, stage: Stage, first: Stage, staged: bool
) -> list[dict[str, Any]]:
    by_measure = [arms_of(study, task, measure, stage) for measure in MEASURES]
    curves = [curve_data(arms) for arms in by_measure]
    styles = looks(by_measure[0])
    found = []
    for arm in sorted(by_measure[0], key=lambda arm: (not arm.is_subject, not arm.is_baseline)):
        family = arm.family.title + f", {stage}" * staged
        found.append(
            {
                "label": f"{family}, {setting_text(arm)}",
                "setting": setting_text(arm),
                "family": family,
                "color": styles[arm.name].color,
                "dashed": styles[arm.name].linestyle == "--",
                "baseline": arm.is_baseline and stage is first,
                "shown": arm.is_subject and stage is first,
                "seeds": len(arm.records),
                "stopped": [record.steps for record in arm.records if record.diverged],
                "curves": [_curve(data[data["arm"] == arm.name]) for data in curves],
            }
        )
    return found


def _curve(curve: pd.DataFrame) -> dict[str, list[float] | None]:
    """Return a curve's numbers; none where it has no return, no ends where it has no interval."""
    known = curve[curve["value"].notna()]
    return {
        name: None if known[name].isna().any() else [_short(value) for value in known[name]]
        for name in ("step", "value", "low", "high")
    }


def _short(value: float) -> float:
    number = float(f"{value:.{DIGITS}g}")
    return int(number) if number.is_integer() else number
