"""Every setting of a study, its type and its range, checked before any time is spent."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from experiments.config import STRICT, Count, Index, Name
from experiments.mistakes import ConfigurationError

QUICK = "quick"
"""Scale and folder below the results of runs too short and too few to be evidence."""

Values = list[Annotated[float, Field(allow_inf_nan=False)]]
SET_BY_STUDY = ("seed", "runs", "results", "protocol", "optimizer", "optimizer.name")
"""Settings that a study's overrides may not touch: it sets them itself."""


@dataclass
class SeedsConfig:
    """How many seeds an arm has.

    Attributes:
        tune: from 0 on, of every value of every family; the best value is chosen by them.
        confirm: from 100 on, of the chosen values only.
    """

    __pydantic_config__ = STRICT
    tune: Count = 5
    confirm: Index = 0


@dataclass
class FamilyConfig:
    """One optimizer with the one setting that is tuned.

    Attributes:
        title: as figures and tables call it.
        optimizer: one of ``configs/optimizer``.
        tuned: the setting that is tuned, as on the command line: ``algorithm.learning_rate``.
        values: the values that it takes.
        default: the value that needs no tuning, the protocol's say; it has the family's plain name.
        short: the setting in an arm's name; by default the last part of ``tuned``.
        symbol: the setting in figures and tables; by default ``short``.
        overrides: further Hydra overrides.
    """

    __pydantic_config__ = STRICT
    title: Annotated[str, Field(min_length=1)] = "???"
    optimizer: str = "???"
    tuned: str = "???"
    values: Values = field(default_factory=list)
    default: float | None = None
    short: Name | None = None
    symbol: str | None = None
    overrides: list[str] = field(default_factory=list)


@dataclass
class TaskConfig:
    """A protocol on one environment for a number of steps.

    Attributes:
        protocol: one of ``configs/protocol``.
        environment: Gymnasium's id; by default the task's name.
        total_steps: environment steps.
        overrides: further Hydra overrides.
        seeds: instead of the study's.
        values: instead of a family's, by its name; an empty list leaves the family out.
    """

    __pydantic_config__ = STRICT
    protocol: str = "???"
    environment: str | None = None
    total_steps: Count = 1_000_000
    overrides: list[str] = field(default_factory=list)
    seeds: SeedsConfig | None = None
    values: dict[str, Values] = field(default_factory=dict)


@dataclass
class QuickConfig:
    """What ``scale=quick`` changes, so that a study ends in minutes and shows that all works.

    Attributes:
        tasks: those that are run; by default the first.
        values: of the families that take part, by name.
        seeds: of each arm.
        overrides: Hydra overrides for every run.
    """

    __pydantic_config__ = STRICT
    tasks: list[str] = field(default_factory=list)
    values: dict[str, Values] = field(default_factory=dict)
    seeds: Count = 2
    overrides: list[str] = field(default_factory=list)


@dataclass
class StudyConfig:
    """Tasks x families x seeds.

    Attributes:
        name: of the study and of its folder under ``results``.
        title: as figures and tables call it.
        tasks: by name.
        families: by name, in the order in which they are shown.
        baseline: the family that the others are compared with, at its default; null is the first.
        subject: the family that the study is about; null is the second.
        overview: the study's place at the head of the report; null gives it none there.
        seeds: see `SeedsConfig`.
        quick: see `QuickConfig`.
    """

    __pydantic_config__ = STRICT
    name: Name = "???"
    title: Annotated[str, Field(min_length=1)] = "???"
    tasks: dict[Name, TaskConfig] = field(default_factory=dict)
    families: dict[Name, FamilyConfig] = field(default_factory=dict)
    baseline: str | None = None
    subject: str | None = None
    overview: Index | None = None
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    quick: QuickConfig = field(default_factory=QuickConfig)


def compared(config: StudyConfig) -> tuple[str, str]:
    """Return the names of the baseline and the subject.

    Raises:
        ConfigurationError: if there is no such family, or the baseline has no default.
    """
    where = f"study {config.name}"
    if not config.families:
        raise ConfigurationError(f"{where}: families: should have at least one")
    first, second, *_ = [*config.families, *config.families]
    baseline, subject = config.baseline or first, config.subject or second
    check_known(f"{where}: baseline", [baseline], config.families)
    check_known(f"{where}: subject", [subject], config.families)
    if config.families[baseline].default is None:
        raise ConfigurationError(
            f"{where}: families.{baseline}.default = null: the baseline should have one"
        )
    return baseline, subject


def checked_tasks(config: StudyConfig, scale: str) -> dict[str, TaskConfig]:
    """Return the tasks of a scale.

    Raises:
        ConfigurationError: if something refers to a task or a family that is not there.
    """
    where = f"study {config.name}"
    if not config.tasks:
        raise ConfigurationError(f"{where}: tasks: should have at least one")
    check_known(f"{where}: quick.tasks", config.quick.tasks, config.tasks)
    check_known(f"{where}: quick.values", config.quick.values, config.families)
    check_free(f"{where}: quick.overrides", config.quick.overrides)
    for name, family in config.families.items():
        check_free(f"{where}: families.{name}.tuned", [family.tuned])
        check_free(f"{where}: families.{name}.overrides", family.overrides)
    for name, task in config.tasks.items():
        check_known(f"{where}: tasks.{name}.values", task.values, config.families)
        check_free(f"{where}: tasks.{name}.overrides", task.overrides)
    if scale != QUICK:
        return config.tasks
    chosen = config.quick.tasks or [next(iter(config.tasks))]
    return {name: config.tasks[name] for name in chosen}


def check_free(setting: str, overrides: list[str]) -> None:
    """Check that overrides touch nothing that a study sets itself.

    Raises:
        ConfigurationError: for the first that does.
    """
    for override in overrides:
        if setting_of(override) in SET_BY_STUDY:
            raise ConfigurationError(f"{setting}: {override!r}: a study sets this itself")


def setting_of(override: str) -> str:
    """Return the setting that a Hydra override is about."""
    return override.partition("=")[0].lstrip("+~")


def check_known(setting: str, names: Iterable[str], known: Collection[str]) -> None:
    """Check that names are among those that are known.

    Raises:
        ConfigurationError: for the first that is not.
    """
    for name in names:
        if name not in known:
            raise ConfigurationError(f"{setting}: {name!r} should be one of {', '.join(known)}")
