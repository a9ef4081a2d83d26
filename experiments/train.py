"""Hydra entry point: one run; with ``-m`` a sweep.

python -m experiments.train protocol=ppo_cleanrl optimizer=alphagrad optimizer.alpha=10 seed=3
"""

import contextlib
import os
import sys
import traceback
from typing import Any

import hydra
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from stable_baselines3.common.logger import Logger, make_output_format
from submitit import SlurmJob
from submitit.core.utils import UncompletedJobError

from experiments.callbacks import Heartbeat
from experiments.config import ConfigurationError, exit_on_mistake, require_device, validate
from experiments.launch.slurm import QueueWatcher
from experiments.runs.checkpoints import Checkpoint, CheckpointFolder
from experiments.runs.run import Run, RunBusyError
from experiments.training import Training
from experiments.views.tracking import Trackers

BUSY = os.EX_TEMPFAIL


def train(run: Run, bar: bool = False) -> dict[str, Any]:
    """Train, from the last checkpoint on if there is one, and write the record.

    Args:
        run: the run; its folder is made here, after all settings have been accepted.
        bar: whether to draw a progress bar instead of printing a line a minute.

    Returns:
        The record.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
        RunBusyError: if another process is at work on the run.
        Exception: whatever interrupts the training, but for a divergence.
    """
    config = run.config
    training = Training(config)
    model = training.model
    checkpoints = CheckpointFolder(run.folder / "checkpoints")

    def save() -> None:
        state = {"training": training.state(), "provenance": run.provenance}
        checkpoints.save(model.num_timesteps, state)

    with run.lock():
        if run.record is not None:  # another process has just finished it
            return run.record
        earlier = checkpoints.load() if config.checkpoint.points else None
        if earlier is None:
            run.start()
            suffix = ""
        else:
            same_episodes = training.restore(earlier["training"])
            resumption = {"step": model.num_timesteps, "same_episodes": same_episodes}
            run.start(earlier["provenance"], resumption)
            suffix = f"-from-{model.num_timesteps}"
        csv = make_output_format("csv", str(run.folder), suffix)
        heartbeat = Heartbeat(run, bar)
        interval = max(config.total_steps // max(config.checkpoint.points, 1), 1)
        checkpoint = Checkpoint(
            save,
            interval,
            seconds=60 * config.checkpoint.minutes,
            interrupted=lambda: run.report("pending", model.num_timesteps),
        )
        with Trackers(run) as trackers:
            model.set_logger(Logger(str(run.folder), [csv, trackers]))
            with heartbeat:
                diverged = training.learn(heartbeat, *[checkpoint] * bool(config.checkpoint.points))
            if config.keep_model:
                training.keep_model(run.folder)
            record = run.finish(diverged, training.outcome())
            trackers.finish(record)
        if config.checkpoint.keep:
            save()
        else:
            checkpoints.delete()
        return record


def execute(run: Run, bar: bool = False) -> str:
    """Train unless the run has a record; leave a failure in the run's folder.

    Returns:
        One line on what became of the run.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
        RunBusyError: if another process is at work on the run.
    """
    record = run.record
    if record is not None:
        return f"{run.folder}: finished before; delete the folder to run it again"
    try:
        record = train(run, bar)
    except (ConfigurationError, RunBusyError):
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        with contextlib.suppress(OSError):  # the disk may be full
            run.fail(reason, traceback.format_exc())
        return f"{run.folder}: failed: {reason} (see traceback.txt there)"
    return summary(record, run)


def summary(record: dict[str, Any], run: Run) -> str:
    """One line about a finished run."""
    score = "no episode ended"
    if record["final_score"] is not None:
        score = f"final score {record['final_score']:.1f} over {record['final_episodes']} episodes"
    reason = f" ({record['reason']})" if record["reason"] else ""
    return (
        f"{run.folder}: {record['status']}{reason}, {score}, {record['steps']:,} steps at "
        f"{record['timing']['steps_per_second']:,.0f} steps/s"
    )


class CheckSweep(Callback):
    """Checks every job of a sweep before the first one starts, and reports failures at the end."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 2 and one line if a job's configuration is wrong."""
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        [jobs] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        slurm = "slurm" in config.hydra.launcher._target_.lower()
        with exit_on_mistake():
            self.runs = [Run(validate(compose("train", job)), job) for job in jobs]
            if not slurm:  # whose GPUs are on other machines
                for run in self.runs:
                    require_device(run.config.device)
        SlurmJob.watcher = QueueWatcher()
        finished = sum(run.record is not None for run in self.runs)
        print(f"{len(self.runs)} runs, {finished} of them finished before", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit with 1 if a run has no record."""
        missing = [str(run.folder) for run in self.runs if run.record is None]
        if missing:
            print(f"{len(missing)} runs have no record: {', '.join(missing)}", file=sys.stderr)
            sys.exit(1)


def composed_run(composed: DictConfig) -> Run:
    """The run that Hydra has composed for this job.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    config = validate(composed)
    require_device(config.device)
    return Run(config, HydraConfig.get().overrides.task)


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if it failed, `BUSY` if it is under way."""
    single = HydraConfig.get().mode == RunMode.RUN
    with exit_on_mistake():
        run = composed_run(composed)
        try:
            line = execute(run, bar=single and sys.stdout.isatty())
            code = 0 if run.record else 1
        except RunBusyError as error:
            line, code = str(error), BUSY
    print(line, file=sys.stderr if code else sys.stdout, flush=True)
    if single and code:
        sys.exit(code)


if __name__ == "__main__":
    with exit_on_mistake():
        try:
            main()
        except UncompletedJobError as error:  # a task of Slurm was killed
            reason = " ".join(str(error).splitlines()[:2])
            print(f"{reason}; the others go on in Slurm's queue", file=sys.stderr)
            sys.exit(1)
