"""Sweeps, ``python -m experiments.train -m ...``: checked before they start, done by a launcher."""

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override

from experiments.endings import one_line
from experiments.launch.launchers import make_launcher
from experiments.launch.progress import Watch
from experiments.measures import evaluation_return, training_return
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import Run
from experiments.validation import require_device, require_folder, validate

SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Hydra's own, which does all that it is given and chooses nothing."""

OPTUNA = {"hydra.sweeper.direction": "maximize", "hydra.sweeper.max_failure_rate": 1.0}
"""What ``hydra/sweeper=optuna`` has by default here: a failed trial is one, and the rest go on."""


@dataclass
class Job:
    """One run of a sweep, which publishes nothing."""

    run: Run

    def publish(self) -> bool:
        """Return whether the run has a record."""
        return self.run.record is not None


class CheckSweep(Callback):
    """Checks every job of a sweep before the first one starts, and reports failures at the end.

    Where a sweeper searches, its jobs are not known before: each end of what it may choose from is
    checked.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 2 and one line if a job's configuration is wrong."""
        self.searching = config.hydra.sweeper._target_ != SWEEPER
        # Here, since no file of configs/ may have the name of the plugin's own.
        for setting, value in OPTUNA.items():
            given = any(item.startswith(f"{setting}=") for item in config.hydra.overrides.hydra)
            if OmegaConf.select(config, setting) is not None and not given:
                with flag_override(config.hydra, "readonly", False):
                    OmegaConf.update(config, setting, value)
        with exit_on_mistake():
            sweeper = config.hydra.sweeper
            swept = values(sweeper.get("params"), config.hydra.overrides.task, self.searching)
            combine = one_by_one if self.searching else itertools.product
            runs = [
                composed_run(config.hydra.job.config_name, list(job)) for job in combine(*swept)
            ]
            for run in runs:
                require_folder("runs", run.config.runs)
                if (
                    OmegaConf.select(config, "hydra.launcher.name") != "slurm"
                ):  # whose GPUs are elsewhere
                    require_device(run.config.device)
            if self.searching:  # Optuna's results go there
                Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        self.runs = [] if self.searching else runs
        if not self.searching:
            finished = sum(run.record is not None for run in runs)
            print(f"{len(runs)} runs, {finished} of them finished before", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 1 if a run has no record; of a search, say where its best one is."""
        missing = [run for run in self.runs if run.record is None]
        for run in missing:
            reason = run.status.get("reason")
            print(f"no record: {run.folder}: {reason}", file=sys.stderr)
        if missing:
            sys.exit(1)
        found = Path(config.hydra.sweep.dir, "optimization_results.yaml")
        if self.searching and found.exists():
            print(f"{found}: {one_line(found.read_text())}")


def values(params: DictConfig | None, overrides: Sequence[str], searching: bool) -> list[list[str]]:
    """Return the overrides of each setting, one for each of its values, as a sweeper makes them.

    Args:
        params: the sweeper's, by setting.
        overrides: the command line's, which win.
        searching: whether the sweeper takes intervals, which have their ends here.

    Raises:
        HydraException: if one cannot be parsed.
    """
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    lines = [f"{setting!s}={value}" for setting, value in (params or {}).items()]
    swept = {}
    for override in parser.parse_overrides([*lines, *overrides]):
        key = override.get_key_element()
        value = override.value()
        if searching and isinstance(value, IntervalSweep):
            found = [str(value.start), str(value.end)]
        elif override.is_sweep_override():
            found = list(override.sweep_string_iterator())
        else:
            found = [override.get_value_element_as_str()]
        swept[key] = [f"{key}={item}" for item in found]
    return list(swept.values())


def one_by_one(*swept: list[str]) -> Iterator[list[str]]:
    """Yield the first override of each setting, and then each other one in its place."""
    first = [overrides[0] for overrides in swept]
    yield first
    for index, overrides in enumerate(swept):
        for other in overrides[1:]:
            yield [*first[:index], other, *first[index + 1 :]]


def score(run: Run) -> float | None:
    """Return the score of a run by its ``objective``; None if it failed, diverged or has none."""
    record = run.record
    if record is None:
        return None
    measure = training_return if run.config.objective == "training" else evaluation_return
    value = measure(record)
    return value if math.isfinite(value) else None


def composed_run(config_name: str, overrides: Sequence[str]) -> Run:
    """Return the run that overrides make.

    Raises:
        ConfigurationError, HydraException: for a setting that is wrong.
    """
    return Run(validate(compose(config_name, list(overrides))), overrides)


def launch(settings: dict[str, Any], workers: int | None, runs: Sequence[Run]) -> None:
    """Do the runs of a sweep by a launcher, with a line on how far they are.

    Args:
        settings: the launcher's; see `make_launcher`.
        workers: runs at a time; None leaves it to the launcher.
        runs: the runs.

    Raises:
        ConfigurationError: if they cannot be started.
    """
    launcher = make_launcher(settings)
    for run in runs:
        run.settle()
    missing = [run for run in runs if run.record is None]
    launcher.check(missing)
    if missing:
        with Watch("sweep", len(runs), [Job(run) for run in missing]):
            launcher.launch(missing, workers)
