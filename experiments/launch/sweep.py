"""Sweeps, ``python -m experiments.train -m ...``: checked before they start, done by a launcher."""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from experiments.launch.launchers import make_launcher
from experiments.launch.progress import Watch
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import Run
from experiments.validation import require_device, require_folder, validate


@dataclass
class Job:
    """One run of a sweep, which publishes nothing."""

    run: Run

    def publish(self) -> bool:
        """Return whether the run has a record."""
        return self.run.record is not None


class CheckSweep(Callback):
    """Checks every job of a sweep before the first one starts, and reports failures at the end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 2 and one line if a job's configuration is wrong."""
        with exit_on_mistake():
            self.runs = [
                composed_run(config.hydra.job.config_name, job)
                for job in jobs(config.hydra.sweeper.params, config.hydra.overrides.task)
            ]
            for run in self.runs:
                require_folder("runs", run.config.runs)
                if (
                    OmegaConf.select(config, "hydra.launcher.name") != "slurm"
                ):  # whose GPUs are elsewhere
                    require_device(run.config.device)
        finished = sum(run.record is not None for run in self.runs)
        print(f"{len(self.runs)} runs, {finished} of them finished before", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 1 if a run has no record."""
        missing = [run for run in self.runs if run.record is None]
        for run in missing:
            reason = run.status.get("reason")
            print(f"no record: {run.folder}: {reason}", file=sys.stderr)
        if missing:
            sys.exit(1)


def jobs(params: DictConfig | None, overrides: Sequence[str]) -> list[list[str]]:
    """Return the overrides of each job, as Hydra's own sweeper will make them.

    Args:
        params: the sweeper's, by setting.
        overrides: the command line's, which win.

    Raises:
        HydraException: if one cannot be parsed.
    """
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    lines = [f"{setting!s}={value}" for setting, value in (params or {}).items()]
    swept = {}
    for override in parser.parse_overrides([*lines, *overrides]):
        key = override.get_key_element()
        values = (
            list(override.sweep_string_iterator())
            if override.is_sweep_override()
            else [override.get_value_element_as_str()]
        )
        swept[key] = [f"{key}={value}" for value in values]
    return [list(job) for job in itertools.product(*swept.values())]


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
