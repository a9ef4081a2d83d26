"""Hydra entry point: one run; with ``-m`` a sweep.

python -m experiments.train protocol=ppo_halfcheetah optimizer=alphagrad optimizer.alpha=10 seed=3
"""

import shlex
import sys
import time
import traceback
from typing import Any, NamedTuple

import gymnasium as gym
import hydra
import torch
from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, make_output_format
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from alphagrad.sb3 import optimizers
from experiments import algorithms, environments, snapshot
from experiments.callbacks import (
    DivergedError,
    DivergenceGuard,
    EpisodeCurve,
    Evaluation,
    Heartbeat,
    non_finite_parameter,
)
from experiments.checkpoints import Checkpoint, CheckpointFolder
from experiments.config import ConfigurationError, TrainConfig, exit_on_mistake, validate
from experiments.run import Run


def train(run: Run, bar: bool = False) -> dict[str, Any]:
    """Train, from the last checkpoint on if there is one, and write the record.

    Args:
        run: the run; its folder is made here, after all settings have been accepted.
        bar: whether to draw a progress bar.

    Returns:
        The record.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
        Exception: whatever interrupts the training, but for a divergence.
    """
    config = run.config
    gamma = config.algorithm.get("gamma", 0.99)
    try:
        environment = environments.make_vector(config.environment, gamma)
        model = algorithms.make(config, environment)
    except (gym.error.Error, AssertionError, TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error
    callbacks = make_callbacks(config, gamma, environment)
    checkpoints = CheckpointFolder(run.folder / "checkpoints")
    earlier = checkpoints.load() if config.checkpoint.points else None
    seconds, suffix = 0.0, ""
    if earlier is None:
        run.start()
    else:
        complete = snapshot.put(earlier["training"], model)
        for callback, state in zip(callbacks, earlier["callbacks"], strict=True):
            vars(callback).update(snapshot.decode(state))
        seconds, suffix = earlier["seconds"], f"-from-{model.num_timesteps}"
        resumption = {"step": model.num_timesteps, "same_episodes": complete}
        run.start(earlier["provenance"], resumption)
    csv = make_output_format("csv", str(run.folder), suffix)
    model.set_logger(Logger(str(run.folder), [csv]))

    begin = time.perf_counter() - seconds
    heartbeat = Heartbeat(config.total_steps, lambda step: run.report("running", step), bar)

    def save() -> None:
        state = {
            "training": snapshot.take(model),
            "callbacks": [snapshot.encode(callback.state()) for callback in callbacks],
            "provenance": run.provenance,
            "seconds": time.perf_counter() - begin,
        }
        checkpoints.save(model.num_timesteps, state)

    checkpoint = Checkpoint(
        save,
        interval=max(config.total_steps // max(config.checkpoint.points, 1), 1),
        seconds=60 * config.checkpoint.minutes,
    )
    status, reason = "completed", None
    try:
        with heartbeat:
            model.learn(
                config.total_steps - model.num_timesteps,
                callback=[*callbacks, heartbeat, *[checkpoint] * bool(config.checkpoint.points)],
                # In rollouts for on-policy algorithms, in episodes for the others.
                log_interval=1 if isinstance(model, OnPolicyAlgorithm) else 10,
                reset_num_timesteps=False,
            )
    except DivergedError as error:
        status, reason = "diverged", str(error)
    except Exception as error:
        # Not every NaN reaches the guard: some raise where they are first used.
        parameter = non_finite_parameter(model)
        if parameter is None:
            raise
        status = "diverged"
        reason = f"{parameter} is not finite at step {model.num_timesteps} ({type(error).__name__})"
    seconds = time.perf_counter() - begin
    outcome = {
        "steps": model.num_timesteps,
        **callbacks.curve.result(),
        "evaluation": callbacks.evaluation.result(),
        "metrics": callbacks.guard.metrics,
        "optimizer": measure_optimizer(model),
        "timing": {
            "wall_seconds": round(seconds, 2),
            "steps_per_second": round(model.num_timesteps / seconds, 1),
        },
    }
    record = run.finish(status, reason, outcome)
    if config.checkpoint.keep:
        save()
    else:
        checkpoints.delete()
    return record


class Callbacks(NamedTuple):
    """What observes a training, in the order in which it is called."""

    guard: DivergenceGuard
    curve: EpisodeCurve
    evaluation: Evaluation


def make_callbacks(config: TrainConfig, gamma: float, environment: DummyVecEnv) -> Callbacks:
    """The callbacks of a run, as they are before its first step."""
    evaluation = Evaluation(
        environments.make_evaluation(config.environment, gamma, environment),
        points=config.evaluation.points,
        episodes=config.evaluation.episodes,
        total_steps=config.total_steps,
        seed=config.seed,
    )
    return Callbacks(DivergenceGuard(), EpisodeCurve(config.total_steps), evaluation)


def measure_optimizer(model: BaseAlgorithm) -> dict[str, int]:
    """Optimized elements, and the bytes of optimizer state that grow with them."""
    parameters = state_bytes = 0
    for optimizer in optimizers(model).values():
        parameters += sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        for state in optimizer.state.values():
            state_bytes += sum(
                value.nbytes
                for name, value in state.items()
                if isinstance(value, torch.Tensor) and name != "step"
            )
    return {"parameters": parameters, "state_bytes": state_bytes}


def execute(run: Run, bar: bool = False) -> str:
    """Train unless the run has a record; leave a failure in the run's folder.

    Returns:
        One line on what became of the run.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
    """
    record = run.record
    if record is not None:
        return f"{run.folder}: finished before; delete the folder to run it again"
    try:
        record = train(run, bar)
    except ConfigurationError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
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
        with exit_on_mistake():
            self.runs = [Run(validate(compose("train", job)), "") for job in jobs]
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
    overrides = shlex.join(HydraConfig.get().overrides.task)
    return Run(validate(composed), f"python -m experiments.train {overrides}")


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if it failed."""
    single = HydraConfig.get().mode == RunMode.RUN
    with exit_on_mistake():
        run = composed_run(composed)
        line = execute(run, bar=single and sys.stdout.isatty())
    failed = run.record is None
    print(line, file=sys.stderr if failed else sys.stdout, flush=True)
    if single and failed:
        sys.exit(1)


if __name__ == "__main__":
    with exit_on_mistake():
        main()
