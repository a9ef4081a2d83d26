"""The arms of a task: each family at each value of the setting that is tuned, composed by Hydra."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import TrainConfig
from experiments.mistakes import ConfigurationError, mistake
from experiments.runs.run import Run
from experiments.study_config import CONFIRM, STAGES, FamilyConfig, Task, setting_of
from experiments.validation import validate


@dataclass(frozen=True)
class Arm:
    """A family at one value of its tuned setting, on one task.

    Attributes:
        task: the task's name.
        family: the family's name.
        value: of the setting that is tuned.
        name: ``<family>-<short><value>``, or the family's name at its default.
        tune_seeds: those of the stage *tune*.
        overrides: Hydra overrides that make it, but for the seed and what its stage sets.
        config: the configuration that they make, with seed 0.
        stages: what each stage sets, by the path of the setting.
    """

    task: str
    family: str
    value: float
    name: str
    tune_seeds: range
    overrides: list[str]
    config: TrainConfig
    stages: Mapping[str, Mapping[str, Any]]

    def run(self, stage: str, seed: int) -> Run:
        """Return the arm's run in a stage with a seed."""
        config, settings = replace(self.config, seed=seed), self.stages[stage]
        for path, value in settings.items():
            group, _, name = path.partition(".")
            changed = replace(getattr(config, group), **{name: value})
            config = replace(config, **{group: changed})
        own = [f"{path}={_text(value)}" for path, value in settings.items()]
        return Run(config, last_ones([*self.overrides, *own, f"seed={seed}"]))


def task_arms(
    study: str,
    group: str,
    task: Task,
    grids: Mapping[str, list[float]],
    families: Mapping[str, FamilyConfig],
    overrides: list[str],
) -> list[Arm]:
    """Return the arms of a task, family by family, by value.

    Args:
        study: the study's name.
        group: the trackers' name of the study.
        task: the task.
        grids: the values of each family that takes part.
        families: all, by name.
        overrides: Hydra overrides for every run, which stand for all others.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    given = {setting_of(item) for item in overrides}
    stages = {}
    for stage in STAGES:
        settings: dict[str, Any] = {"tracking.group": f"{group}/{task.name}/{stage}"}
        if stage == CONFIRM and task.confirm_evaluation is not None:
            evaluation = asdict(task.confirm_evaluation)
            settings |= {f"evaluation.{name}": value for name, value in evaluation.items()}
        stages[stage] = {path: value for path, value in settings.items() if path not in given}
    return [
        Arm(
            task.name,
            name,
            value,
            arm_name(name, families[name], value),
            task.tune_seeds(name, value),
            *made,
            stages,
        )
        for name, values in grids.items()
        for value, made in _composed(
            f"study {study}, task {task.name}",
            name,
            families[name],
            values,
            [*task.overrides, *overrides],
        )
    ]


def _composed(
    where: str, name: str, family: FamilyConfig, values: list[float], common: list[str]
) -> Iterator[tuple[float, tuple[list[str], TrainConfig]]]:
    """Yield each value of a family with its overrides and the configuration that they make."""
    composed: DictConfig | None = None
    for item in (*family.overrides, *common) if values else ():
        if setting_of(item) == family.tuned:
            raise ConfigurationError(f"{where}: {item!r}: families.{name} tunes this")
    for value in sorted(values):
        label = arm_name(name, family, value)
        overrides = [
            f"optimizer={family.optimizer}",
            f"optimizer.name={label}",
            f"tracking.job_type={name}",
            *family.overrides,
            f"{family.tuned}={value:.12g}",
            *common,
        ]
        overrides = last_ones(overrides)
        try:
            if composed is None:
                composed = compose("train", overrides)
            else:  # the same but for two settings, in a hundredth of the time
                OmegaConf.update(composed, "optimizer.name", label)
                OmegaConf.update(composed, family.tuned, value)
            config = validate(composed)
        except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
            raise ConfigurationError(f"{where}, arm {label}: {mistake(error)}") from error
        yield value, (overrides, config)


def last_ones(overrides: list[str]) -> list[str]:
    """Return overrides of which a later one stands for an earlier one of the same setting."""
    return list({item.partition("=")[0]: item for item in overrides}.values())


def short_of(family: FamilyConfig) -> str:
    """Return what the tuned setting is called in an arm's name."""
    return family.short or family.tuned.rpartition(".")[2]


def arm_name(name: str, family: FamilyConfig, value: float) -> str:
    """Return ``<family>-<short><value>``, or the family's name at its default."""
    return name if value == family.default else f"{name}-{short_of(family)}{value:.12g}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
