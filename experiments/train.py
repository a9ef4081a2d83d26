"""One run: what Hydra composes, or what a launcher has prepared in a folder. With ``-m`` a sweep.

python -m experiments.train protocol=ppo_cleanrl optimizer=alphagrad optimizer.alpha=10 seed=3
python -m experiments.train -m hydra/sweeper=optuna 'optimizer.alpha=interval(1,100)' ...
python -m experiments.train --folder runs/...
"""

import argparse
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, make_output_format

from experiments.config import TrainConfig
from experiments.endings import one_line
from experiments.interrupts import Interrupted, ignore_interruptions
from experiments.launch import slurm
from experiments.launch.sweep import score
from experiments.mistakes import ConfigurationError, exit_on_mistake, masked
from experiments.origin import begin
from experiments.runs.checkpoints import Checkpoint
from experiments.runs.run import REPOSITORY, Run, RunBusyError
from experiments.training import Training
from experiments.validation import require_device, require_folder, validate
from experiments.views.heartbeat import Heartbeat
from experiments.views.tracking import Trackers, drop_later_rows

BUSY = os.EX_TEMPFAIL
NO_TRIAL = "No trials are completed yet."
"""What Optuna says where it looks for the best one."""
BUSY_SECONDS = 10.0
"""From one look at a lock that another process holds to the next."""


class Preempted(Interrupted):
    """Slurm wants this task's place, and a checkpoint has been saved."""


class OneProcess(BaseCallback):
    """Ends the copies of this process that an environment makes when it forks in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.process = os.getpid()

    def _on_step(self) -> bool:
        if os.getpid() != self.process:
            os._exit(1)
        return True


def train(run: Run, bar: bool = False, task: bool = False) -> dict[str, Any]:
    """Train, from the last checkpoint on if there is one, and write the record.

    Args:
        run: the run; its folder is made here, after all settings have been accepted.
        bar: whether to draw a progress bar instead of printing a line a minute.
        task: whether this is a task of Slurm's, which leaves its place when Slurm warns it.

    Returns:
        The record.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
        RunBusyError: if another process is at work on the run.
        Preempted: if Slurm has warned this task, and a checkpoint has been saved.
        BaseException: whatever else interrupts the training, but for a divergence.
    """
    config = run.config
    training = Training(config)
    model = training.model

    def save() -> None:
        state = {"training": training.state(), "provenance": run.provenance}
        run.checkpoints.save(model.num_timesteps, state)

    def leave() -> NoReturn:
        raise Preempted

    if anew := not run.checkpoints.paths():
        begin(config, model)

    with run.lock():
        if run.record is not None:  # another process has just finished it
            return run.record
        earlier = run.checkpoints.load() if config.checkpoint.points else None
        if earlier is None:
            if not anew:  # its checkpoints are damaged
                begin(config, model)
            run.start(first_step=model.num_timesteps)
            suffix = ""
        else:
            same_episodes = training.restore(earlier["training"])
            resumption = {"step": model.num_timesteps, "same_episodes": same_episodes}
            run.start(earlier["provenance"], resumption)
            for path in run.folder.glob("progress*.csv"):
                drop_later_rows(path, model.num_timesteps)
            suffix = f"-from-{model.num_timesteps}"
            if not same_episodes:
                print("new episodes begin: the environments' state could not be kept", flush=True)
        if config.optimizer_settings is None:
            print(without_a_word(config), flush=True)
        for name, kind in training.optimizers_apart().items():
            print(f"{name} is the algorithm's own {kind}, whatever the optimizer", flush=True)
        csv = make_output_format("csv", str(run.folder), suffix)
        heartbeat = Heartbeat(run, bar)
        interval = max(config.total_steps // max(config.checkpoint.points, 1), 1)
        checkpoint = Checkpoint(
            save,
            interval,
            seconds=60 * config.checkpoint.minutes,
            preempted=leave if task else None,
        )
        with Trackers(run) as trackers:
            model.set_logger(Logger(str(run.folder), [csv, trackers]))
            callbacks = [OneProcess(), heartbeat, *[checkpoint] * bool(config.checkpoint.points)]
            with heartbeat:
                diverged = training.learn(*callbacks)
            if config.keep_model:
                training.keep_model(run.folder)
            record = run.finish(diverged, training.outcome())
            trackers.finish(record)
        if config.checkpoint.keep:
            save()
    training.close()
    return record


def execute(run: Run, bar: bool = False, task: bool = False) -> str:
    """Train unless the run has a record; leave a failure in the run's folder.

    Returns:
        One line on what became of the run.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
        RunBusyError: if another process is at work on the run.
        Interrupted: if this process is to end.
    """
    if run.record is not None:
        run.settle()
        return f"{run.folder}: finished before; delete the folder to run it again"
    try:
        train(run, bar, task)
    except (ConfigurationError, RunBusyError):
        raise
    except Interrupted as interruption:
        if run.record is not None:
            run.settle()
        elif run.status.get("status") in ("running", "pending"):
            left = "pending" if isinstance(interruption, Preempted) else "interrupted"
            run.report(left, run.status["step"])
            if run.config.checkpoint.points:
                interruption.add_note("the same command goes on from the last checkpoint")
        raise
    except BaseException as error:  # an environment may raise anything, or exit
        reason = masked(one_line(f"{type(error).__name__}: {error}")).rstrip(": ")
        if run.record is None:
            with suppress(OSError):  # the disk may be full
                run.fail(reason, traceback.format_exc())
            return f"{run.folder}: failed: {reason} (see traceback.txt there)"
        run.settle()
        return f"{summary(run)}; after its record: {reason}"
    run.settle()
    return summary(run)


def without_a_word(config: TrainConfig) -> str:
    """Return one line on an optimizer for which the algorithm sets nothing of its own."""
    algorithm = config.algorithm["_target_"].rpartition(".")[2]
    norm = config.algorithm.get("max_grad_norm")
    clipped = "" if norm is None else f", gradients clipped to a norm of {norm:g}"
    optimizer = config.optimizer["name"]
    return f"{algorithm} has no settings made for {optimizer}, and takes those given{clipped}"


def summary(run: Run) -> str:
    """Return one line about a finished run."""
    record = run.record
    assert record is not None
    score = "no episode ended"
    if record["final_score"] is not None:
        score = f"final score {record['final_score']:.1f} over {record['final_episodes']} episodes"
    reason = f" ({record['reason']})" if record["reason"] else ""
    return (
        f"{run.folder}: {record['status']}{reason}, {score}, {record['steps']:,} steps at "
        f"{record['timing']['steps_per_second']:,.0f} steps/s"
    )


def run_in_folder(arguments: list[str]) -> int:
    """Do the run that a launcher has prepared in a folder; return the exit code.

    A run that another process is at work on is waited for: its machine may have failed, and its
    lock live on for minutes.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings, or the folder is not a run's.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.train")
    parser.add_argument("--folder", type=Path, required=True, help="the run's folder")
    parser.add_argument("--task", action="store_true", help="leave when Slurm warns, be requeued")
    options = parser.parse_args(arguments)
    run = Run.open(options.folder)
    while True:
        try:
            require_device(run.config.device)
            line = execute(run, task=options.task)
        except ConfigurationError as error:
            run.fail(str(error))
            raise
        except RunBusyError:
            time.sleep(BUSY_SECONDS)
        except Preempted:
            ignore_interruptions()  # Slurm ends what it requeues
            try:
                slurm.requeue_task()
            except slurm.SlurmError as error:
                print(f"not requeued: {error}", file=sys.stderr, flush=True)
                return 1
            return 0
        else:
            print(line, flush=True)
            return 0 if run.record else 1


@hydra.main(version_base="1.3", config_path=str(REPOSITORY / "configs"), config_name="train")
def run_composed(composed: DictConfig) -> float | None:
    """Run what Hydra has composed; the exit code is 1 if it failed, `BUSY` if it is under way.

    Returns:
        The run's score, for Hydra's sweepers; None if it has none.
    """
    single = HydraConfig.get().mode == RunMode.RUN
    with exit_on_mistake():  # here, since Hydra would print more
        config = validate(composed)
        require_device(config.device)
        require_folder("runs", config.runs)
        run = Run(config, HydraConfig.get().overrides.task)
        try:
            line = execute(run, bar=single and sys.stdout.isatty())
            code = 0 if run.record else 1
        except RunBusyError as error:
            line, code = str(error), BUSY
        except ConfigurationError as error:
            if single:
                raise
            line, code = f"{run.folder}: {error}", 1  # the sweep's other runs go on
    print(line, file=sys.stderr if code else sys.stdout, flush=True)
    if single and code:
        sys.exit(code)
    return score(run)


def main() -> None:
    """Do one run, or a sweep."""
    with exit_on_mistake():
        if sys.argv[1:2] == ["--folder"]:
            sys.exit(run_in_folder(sys.argv[1:]))
        try:
            run_composed()
        except ValueError as error:
            if str(error) != NO_TRIAL:
                raise
            line = "no trial has a score: each run has failed or diverged, or ended no episode"
            print(line, file=sys.stderr, flush=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
