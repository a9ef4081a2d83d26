"""Learning curves as data that the report's page draws, so that they can be explored there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scripts.figures.curves import curve_data
from scripts.figures.plot import looks, setting_text
from scripts.scores import Arm, arms_of
from scripts.studies import Study, Task

DIGITS = 5
"""Of each number: more than a page's pixels."""


@dataclass(frozen=True)
class Explorer:
    """A task's learning curves.

    Attributes:
        task: The task.
        measures: What the curves show, by which each arm's curves are in order.
        arms: Their names, looks and curves, as plain data.
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
    """Return a task's learning curves, the baseline's first."""
    arms = sorted(arms_of(study, task), key=lambda arm: not arm.is_baseline)
    styles = looks(arms)
    curves = curve_data(arms)
    found = []
    for arm in arms:
        look = styles[arm.name]
        own = curves[curves["arm"] == arm.name]
        found.append(
            {
                "label": f"{arm.family.title}, {setting_text(arm)}",
                "setting": setting_text(arm),
                "family": arm.family.title,
                "color": look.color,
                "dashed": look.linestyle == "--",
                "baseline": arm.is_baseline,
                "shown": arm.is_subject,
                "seeds": len(arm.records),
                "curves": [_curve(arm, own)],
            }
        )
    return Explorer(task, ("Return in training",), found)


def _curve(arm: Arm, curve: pd.DataFrame) -> dict[str, Any]:
    known = curve[curve["value"].notna()]
    return {
        name: None if known[name].isna().any() else [_short(value) for value in known[name]]
        for name in ("step", "value", "low", "high")
    } | {"stopped": [record.steps for record in arm.records if record.diverged]}


def _short(value: float) -> float:
    number = float(f"{value:.{DIGITS}g}")
    return int(number) if np.equal(number, int(number)) else number
