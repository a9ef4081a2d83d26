"""One training: a model, its environments and what observes them, which can stop and go on."""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from alphagrad.sb3 import AlphaSchedule, optimizers
from experiments import algorithms, environments
from experiments.callbacks import (
    Diagnostics,
    DivergedError,
    DivergenceGuard,
    EpisodeCurve,
    Evaluation,
    non_finite_parameter,
)
from experiments.config import TrainConfig
from experiments.endings import one_line
from experiments.mistakes import ConfigurationError
from experiments.optimizers import OptimizerModes
from experiments.runs import snapshot
from experiments.runs.plain_data import NoSnapshotError, decode, encode

MODEL = "model.zip"
REFUSALS = (
    *(gym.error.Error, ImportError, AssertionError, TypeError, ValueError, NotImplementedError),
    MemoryError,
)
"""What Gymnasium and SB3 raise for settings that cannot be."""
LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")  # of SB3's logger, until a dump


class Observers(NamedTuple):
    """The callbacks whose state belongs to a training, in the order in which they are called."""

    guard: DivergenceGuard
    curve: EpisodeCurve
    evaluation: Evaluation
    diagnostics: Diagnostics


class Training:
    """A training before its first step.

    Args:
        config: the validated configuration.

    Raises:
        ConfigurationError: if Gymnasium or SB3 refuses the settings.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.set_float32_matmul_precision(config.matmul_precision)
        gamma = config.algorithm.get("gamma", 0.99)
        setting = f"environment.id = {config.environment.id!r}"
        try:
            self.environment = environments.make_vector(config.environment, gamma)
            setting = f"algorithm.name = {config.algorithm['name']!r} with {setting}"
            self.model = algorithms.make(config, self.environment)
        except (*REFUSALS, RuntimeError) as error:  # the latter is torch's, for sizes
            reason = str(error) or type(error).__name__
            raise ConfigurationError(one_line(f"{setting}: {reason}")) from error
        evaluation = Evaluation(
            environments.make_evaluation(config.environment, gamma, self.environment),
            config.environment.id,
            points=config.evaluation.points,
            episodes=config.evaluation.episodes,
            total_steps=config.total_steps,
            seed=config.seed,
            at_start=config.evaluation.at_start,
        )
        self.observers = Observers(
            DivergenceGuard(config.environment.id),
            EpisodeCurve(config.total_steps),
            evaluation,
            Diagnostics(config.total_steps),
        )
        [spec] = self.environment.get_attr("spec", 0)
        if config.evaluation.points and (spec is None or spec.max_episode_steps is None):
            steps = environments.EVALUATION_STEPS
            print(
                f"{config.environment.id} has no time limit: episodes of evaluations end after "
                f"{steps:,} steps",
                file=sys.stderr,
                flush=True,
            )
        if config.checkpoint.points:
            try:
                snapshot.take(self.model)
            except NoSnapshotError as error:
                raise ConfigurationError(
                    f"checkpoint.points = {config.checkpoint.points}: this training cannot go on "
                    f"from a checkpoint, since {error}; checkpoint.points=0 trains without"
                ) from error
        self.logged: dict[str, dict[str, Any]] = {}  # and not yet written before an interruption
        self.earlier_seconds = 0.0  # of training before an interruption
        self.begin = time.perf_counter()

    def close(self) -> None:
        """End the processes of environments that have some."""
        if self.config.environment.vectorization == "subproc":
            self.environment.close()

    def seconds(self) -> float:
        """Return how long the training has taken, without interruptions."""
        return self.earlier_seconds + time.perf_counter() - self.begin

    def state(self) -> dict[str, Any]:
        """Return all that `restore` needs, as nested plain data and tensors."""
        evaluation = self.observers.evaluation.environment
        return {
            "snapshot": snapshot.take(self.model),
            "evaluation": snapshot.take_environments(evaluation),
            "observers": [encode(observer.state()) for observer in self.observers],
            "logged": {name: encode(dict(getattr(self.model.logger, name))) for name in LOGGED},
            "seconds": self.seconds(),
        }

    def restore(self, state: dict[str, Any]) -> bool:
        """Go to where `state` was called.

        Returns:
            Whether in the same episodes; if not, the environments could not be kept.
        """
        same_episodes = snapshot.put(state["snapshot"], self.model)
        evaluation = self.observers.evaluation.environment
        same_episodes &= snapshot.put_environments(state["evaluation"], evaluation)
        for observer, encoded in zip(self.observers, state["observers"], strict=True):
            vars(observer).update(decode(encoded))
        self.logged = decode({"dict": state["logged"], "ordered": False})
        self.earlier_seconds = state["seconds"]
        return same_episodes

    def learn(self, *callbacks: BaseCallback) -> str | None:
        """Train to the end.

        Args:
            callbacks: called after the training's own.

        Returns:
            What diverged, in one line; None if nothing did.

        Raises:
            Exception: whatever else interrupts the training.
        """
        for name, values in self.logged.items():
            getattr(self.model.logger, name).update(values)
        self.begin = time.perf_counter()
        try:
            self.model.learn(
                self.config.total_steps - self.model.num_timesteps,
                callback=[*self.of_optimizers(), *self.observers, *callbacks],
                # In rollouts for on-policy algorithms, in episodes for the others.
                log_interval=1 if isinstance(self.model, OnPolicyAlgorithm) else 10,
                reset_num_timesteps=False,
            )
        except DivergedError as error:
            return str(error)
        except Exception as error:
            # Not every NaN reaches the guard: some raise where they are first used.
            parameter = non_finite_parameter(self.model)
            if parameter is None:
                raise
            where = f"at step {self.model.num_timesteps} ({type(error).__name__})"
            return f"{parameter} is not finite {where}"
        return None

    def of_optimizers(self) -> list[BaseCallback]:
        """Return the callbacks that see to the optimizers, which come first."""
        callbacks: list[BaseCallback] = [OptimizerModes()]
        if (end := self.config.optimizer.get("alpha_end")) is not None:
            schedule = LinearSchedule(self.config.optimizer["alpha"], end, 1.0)
            callbacks.append(AlphaSchedule(schedule))
        return callbacks

    def outcome(self) -> dict[str, Any]:
        """Return a record's fields from ``steps`` to ``timing``."""
        seconds = self.seconds()
        return {
            "steps": self.model.num_timesteps,
            **self.observers.curve.result(),
            "evaluation": self.observers.evaluation.result(),
            "metrics": self.observers.guard.metrics,
            "diagnostics": self.observers.diagnostics.result(),
            "optimizer": self.measure_optimizer(),
            "timing": {
                "wall_seconds": round(seconds, 2),
                "steps_per_second": round(self.model.num_timesteps / seconds, 1),
            },
        }

    def keep_model(self, folder: Path) -> None:
        """Write SB3's ``model.zip``, and the statistics of the observations."""
        self.model.save(folder / MODEL)
        environments.keep_statistics(self.environment, self.config.environment, folder)

    def measure_optimizer(self) -> dict[str, Any]:
        """Return a record's field ``optimizer``: elements, bytes of state, and optimizers apart."""
        parameters = state_bytes = 0
        for optimizer in optimizers(self.model).values():
            parameters += sum(
                p.numel() for group in optimizer.param_groups for p in group["params"]
            )
            for state in optimizer.state.values():
                state_bytes += sum(
                    value.nbytes
                    for name, value in state.items()
                    if isinstance(value, torch.Tensor) and name != "step"
                )
        apart = {"apart": names} if (names := self.optimizers_apart()) else {}
        return {"parameters": parameters, "state_bytes": state_bytes, **apart}

    def optimizers_apart(self) -> dict[str, str]:
        """Return the classes of optimizers that an algorithm makes by itself, by their names.

        SAC, TQC and CrossQ give their entropy coefficient, no part of the policy, an Adam.
        """
        policy = {id(parameter) for parameter in self.model.policy.parameters()}
        return {
            name: type(optimizer).__name__
            for name, optimizer in optimizers(self.model).items()
            if not any(id(p) in policy for group in optimizer.param_groups for p in group["params"])
        }
