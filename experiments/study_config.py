"""Every setting of a study, its type and its range, checked before any time is spent."""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from experiments.config import STRICT, Count, EvaluationConfig, Index, Name
from experiments.mistakes import ConfigurationError

QUICK = "quick"
"""Scale and folder below the results of runs too short and too few to be evidence."""

Values = list[Annotated[float, Field(allow_inf_nan=False)]]
TUNE, CONFIRM = STAGES = ("tune", "confirm")
FIRST_CONFIRM_SEED = 100
SET_BY_STUDY = ("seed", "runs", "results", "protocol", "algorithm", "optimizer", "optimizer.name")
"""Settings that a study's overrides may not touch: it sets them itself."""


TuneSeeds = Annotated[Count, Field(le=FIRST_CONFIRM_SEED)]


@dataclass
class SeedsConfig:
    """How many seeds an arm has.

    Attributes:
        tune: from 0 on, of every value of every family; the best value is chosen by them.
        confirm: from 100 on, of the baseline at its default and of each family's chosen value.
    """

    __pydantic_config__ = STRICT
    tune: TuneSeeds = 5
    confirm: Index = 0


@dataclass
class TuneSeedsConfig:
    """Another number of tuning seeds for some arms of a task.

    Attributes:
        family: the family's name.
        values: of its tuned setting; null is all.
        tune: seeds from 0 on.
    """

    __pydantic_config__ = STRICT
    family: str = "???"
    values: Values | None = None
    tune: TuneSeeds = 5


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
    """An algorithm on one environment for a number of steps.

    A sensitivity task is another task with some overrides: does what was found there depend on
    them? Nothing is chosen on it. Its results are told beside the others, never aggregated.

    Attributes:
        protocol: one of ``configs/protocol``.
        algorithm: one of ``configs/algorithm``, instead of a protocol.
        environment: Gymnasium's id; by default the task's name.
        total_steps: environment steps; by default a million.
        sensitivity_of: the task whose protocol, environment, steps and choices a sensitivity task
            takes over; null for a task of its own.
        families: those that take part; empty is all.
        overrides: further Hydra overrides.
        seeds: instead of the study's.
        more_seeds: of arms that have more tuning runs than ``seeds`` says.
        values: instead of a family's, by its name. A sensitivity task has tuning runs of these
            alone.
    """

    __pydantic_config__ = STRICT
    protocol: str | None = None
    algorithm: str | None = None
    environment: str | None = None
    total_steps: Count | None = None
    sensitivity_of: str | None = None
    families: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    seeds: SeedsConfig | None = None
    more_seeds: list[TuneSeedsConfig] = field(default_factory=list)
    values: dict[str, Values] = field(default_factory=dict)


@dataclass
class QuickConfig:
    """What ``scale=quick`` changes, so that a study ends in minutes and shows that all works.

    Attributes:
        tasks: those that are run; by default the first.
        values: of the families that take part, by name.
        seeds: of each arm; none to confirm where the study confirms nothing.
        overrides: Hydra overrides for every run.
    """

    __pydantic_config__ = STRICT
    tasks: list[str] = field(default_factory=list)
    values: dict[str, Values] = field(default_factory=dict)
    seeds: SeedsConfig = field(default_factory=lambda: SeedsConfig(tune=1, confirm=2))
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
        confirm_evaluation: how runs of the stage *confirm* are evaluated at paper scale; null is as
            those of *tune*.
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
    confirm_evaluation: EvaluationConfig | None = None
    quick: QuickConfig = field(default_factory=QuickConfig)


def compared(config: StudyConfig) -> tuple[str, str]:
    """Return the names of the baseline and the subject.

    Raises:
        ConfigurationError: if there is no such family, one has no optimizer, or the baseline has
            no default.
    """
    where = f"study {config.name}"
    if not config.families:
        raise ConfigurationError(f"{where}: families: should have at least one")
    for name, family in config.families.items():
        if family.optimizer == "???":  # a misspelt name makes a family of its own
            near = difflib.get_close_matches(name, config.families.keys() - {name}, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigurationError(f"{where}: families.{name}.optimizer is not set{hint}")
    first, second, *_ = [*config.families, *config.families]
    baseline, subject = config.baseline or first, config.subject or second
    check_known(f"{where}: baseline", [baseline], config.families)
    check_known(f"{where}: subject", [subject], config.families)
    if config.families[baseline].default is None:
        raise ConfigurationError(
            f"{where}: families.{baseline}.default = null: the baseline should have one"
        )
    return baseline, subject


@dataclass(frozen=True)
class Task:
    """A task at one scale, with all that it takes over from its study and from another task.

    Attributes:
        name: the task's name.
        main: the task that this one is a sensitivity of; None for a task of its own.
        families: those that take part.
        grids: by family, the values that have tuning runs on this task.
        seeds: of an arm.
        more_seeds: of arms that have more tuning runs.
        overrides: Hydra overrides for every run, in the order in which they are applied.
        confirm_evaluation: of runs of the stage *confirm*; None is as those of *tune*.
    """

    name: str
    main: str | None
    families: list[str]
    grids: dict[str, list[float]]
    seeds: SeedsConfig
    more_seeds: list[TuneSeedsConfig]
    overrides: list[str]
    confirm_evaluation: EvaluationConfig | None

    def tune_seeds(self, family: str, value: float) -> range:
        """Return the tuning seeds of a family at a value: none if it is not in the grid."""
        if value not in self.grids.get(family, []):
            return range(0)
        more = [
            each.tune
            for each in self.more_seeds
            if each.family == family and (each.values is None or value in each.values)
        ]
        return range(max([self.seeds.tune, *more]))


def checked_tasks(config: StudyConfig, scale: str) -> dict[str, Task]:
    """Return the tasks of a scale by name.

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
        _check_task(config, f"{where}: tasks.{name}", task)
    if scale != QUICK:
        return {name: _paper_task(config, name) for name in config.tasks}
    names = config.quick.tasks or [next(iter(config.tasks))]
    for name in names:
        if (main := config.tasks[name].sensitivity_of) not in (None, *names):
            raise ConfigurationError(f"{where}: quick.tasks: {name} is not without {main}")
    return {name: _quick_task(config, name) for name in names}


def _check_task(config: StudyConfig, where: str, task: TaskConfig) -> None:
    check_known(f"{where}.values", task.values, config.families)
    check_known(f"{where}.families", task.families, config.families)
    check_known(f"{where}.more_seeds", [more.family for more in task.more_seeds], config.families)
    check_free(f"{where}.overrides", task.overrides)
    if task.sensitivity_of is None:
        if (task.protocol is None) == (task.algorithm is None):
            raise ConfigurationError(f"{where}: should have either a protocol or an algorithm")
        return
    mains = [name for name, other in config.tasks.items() if other.sensitivity_of is None]
    check_known(f"{where}.sensitivity_of", [task.sensitivity_of], mains)
    for setting in ("protocol", "algorithm", "environment", "total_steps"):
        if (value := getattr(task, setting)) is not None:
            main = f"{task.sensitivity_of}'s is taken over"
            raise ConfigurationError(f"{where}.{setting} = {value!r}: should be left out: {main}")


def _paper_task(config: StudyConfig, name: str) -> Task:
    task = config.tasks[name]
    main = config.tasks[task.sensitivity_of] if task.sensitivity_of else task
    values = {
        family: main.values.get(family, config.families[family].values)
        for family in task.families or config.families
        if not main.families or family in main.families
    }
    grids = values if main is task else task.values
    for more in task.more_seeds:
        for value in more.values or []:
            if value not in grids.get(more.family, []):
                where = f"study {config.name}: tasks.{name}.more_seeds"
                raise ConfigurationError(f"{where}: {value:g} is no value of {more.family}")
    made = f"protocol={main.protocol}" if main.protocol else f"algorithm={main.algorithm}"
    return Task(
        name,
        task.sensitivity_of,
        [family for family in values if values[family]],
        grids,
        task.seeds or config.seeds,
        task.more_seeds,
        [
            made,
            f"environment.id={main.environment or task.sensitivity_of or name}",
            f"total_steps={main.total_steps or 1_000_000}",
            *main.overrides,
            *(task.overrides if main is not task else []),
        ],
        config.confirm_evaluation,
    )


def _quick_task(config: StudyConfig, name: str) -> Task:
    task, quick = _paper_task(config, name), config.quick
    values = {family: quick.values.get(family, []) for family in task.families}
    return replace(
        task,
        families=[family for family in task.families if values[family]],
        grids=values if task.main is None else {},
        seeds=replace(quick.seeds, confirm=quick.seeds.confirm if task.seeds.confirm else 0),
        more_seeds=[],
        overrides=[*task.overrides, *quick.overrides],
        confirm_evaluation=None,
    )


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
