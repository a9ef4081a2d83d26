"""What happens during training: the return curve, evaluation and the divergence guard."""

import math
from bisect import bisect_left
from collections import deque
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv
from torch.optim import Optimizer

from alphagrad.sb3 import UpdateDiagnostics, optimizers

CURVE_CELLS = 200
DIAGNOSTICS_POINTS = 20
FINAL_EPISODES = 100  # CleanRL reports the last 100 training episodes


class DivergedError(Exception):
    """A loss, parameter or action became NaN or infinite; the text says which, in one line."""


class EnvironmentFaultError(Exception):
    """An environment returned a NaN or infinity; the text says where, in one line."""


def check_finite(environment: str, step: int, **returned: Any) -> None:
    """Check what an environment has returned.

    Args:
        environment: its id.
        step: environment steps done, this one included.
        returned: arrays, or dictionaries of arrays, by what they are.

    Raises:
        EnvironmentFaultError: if an element is not finite.
    """
    for name, value in returned.items():
        parts = value.values() if isinstance(value, dict) else [value]
        for part in map(np.asarray, parts):
            if not is_finite(part):
                raise EnvironmentFaultError(
                    f"{environment} returned {name} that are not finite at step {step}"
                )


def is_finite(array: np.ndarray) -> bool:
    """Return whether no element is NaN or infinite."""
    if array.dtype.kind != "f":
        return True
    # The sum of squares takes a third of the time, but is infinite for large elements too.
    return math.isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


class Resumable(BaseCallback):
    """A callback whose ``STATE``, the names of its changing attributes, goes into checkpoints."""

    STATE: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what has changed since the start, by name."""
        return {name: getattr(self, name) for name in self.STATE}


class EpisodeCurve(Resumable):
    """Average the returns and lengths of the training episodes over a grid of steps.

    Args:
        total_steps: the grid has ``min(200, total_steps)`` equal cells from 0 to here; an episode
            belongs to the cell in which it ended, or to the last one if that was later: SB3's PPO
            goes on to the end of a rollout.
    """

    STATE = ("episodes", "returns", "lengths", "last")

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        cells = min(CURVE_CELLS, total_steps)
        self.edges = [total_steps * (cell + 1) // cells for cell in range(cells)]
        self.episodes = [0] * cells
        self.returns = [0.0] * cells
        self.lengths = [0] * cells
        self.last: deque[float] = deque(maxlen=FINAL_EPISODES)

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.add(self.num_timesteps, info["episode"]["r"], info["episode"]["l"])
        return True

    def add(self, step: int, episode_return: float, length: int) -> None:
        """Count an episode that ended at environment step ``step``."""
        cell = min(bisect_left(self.edges, step), len(self.edges) - 1)
        self.episodes[cell] += 1
        self.returns[cell] += episode_return
        self.lengths[cell] += length
        self.last.append(episode_return)

    def result(self) -> dict[str, Any]:
        """Return the fields ``curve``, ``final_score`` and ``final_episodes`` of a record."""

        def mean(sums: list[float] | list[int]) -> list[float | None]:
            pairs = zip(sums, self.episodes, strict=True)
            return [total / count if count else None for total, count in pairs]

        return {
            "curve": {
                "step": self.edges,
                "episodes": self.episodes,
                "return_mean": mean(self.returns),
                "length_mean": mean(self.lengths),
            },
            "final_score": float(np.mean(self.last)) if self.last else None,
            "final_episodes": len(self.last),
        }


class Evaluation(Resumable):
    """Evaluate the deterministic policy at evenly spaced steps, the last one at the end.

    The environment is seeded anew at each point, so that what was evaluated before plays no part.

    Args:
        environment: an environment of its own, whose episodes all end.
        name: the environment's id.
        points: how many evaluations.
        episodes: episodes of each.
        total_steps: length of the run in environment steps.
        seed: of the run.
        at_start: whether to evaluate before the first step as well.
    """

    STATE = ("due", "steps", "returns")

    def __init__(
        self,
        environment: VecEnv,
        name: str,
        *,
        points: int,
        episodes: int,
        total_steps: int,
        seed: int,
        at_start: bool = False,
    ) -> None:
        super().__init__()
        self.environment = environment
        self.name = name
        first = 0 if at_start and points else 1
        self.due = deque(total_steps * point // points for point in range(first, points + 1))
        self.episodes = episodes
        self.seed = seed
        self.steps: list[int] = []
        self.returns: list[list[float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._evaluate_if_due()

    def _on_training_end(self) -> None:
        # PPO's last whole rollout may end before the last point.
        if self.due:
            self.due = deque([self.num_timesteps])
            self._evaluate_if_due()

    def _evaluate_if_due(self) -> None:
        if not self.due or self.num_timesteps < self.due[0]:
            return
        while self.due and self.num_timesteps >= self.due[0]:
            self.due.popleft()
        self.environment.seed(self.seed + 1_000_000 + len(self.steps))
        returns, _ = evaluate_policy(
            self.model,
            self.environment,
            n_eval_episodes=self.episodes,
            deterministic=True,
            return_episode_rewards=True,
            callback=self._check,
        )
        assert isinstance(returns, list)
        self.steps.append(self.num_timesteps)
        self.returns.append([float(value) for value in returns])
        self.logger.record("evaluation/return_mean", float(np.mean(returns)))

    def _check(self, step: dict[str, Any], _: object) -> None:
        """Tell the environment's fault from the policy's; the arguments are `evaluate_policy`'s."""
        observation = step["observations"]
        name = f"{self.name} in an evaluation"
        check_finite(name, self.num_timesteps, observations=observation)
        if not np.isfinite(step["actions"]).all():
            raise DivergedError(f"evaluated actions are not finite at step {self.num_timesteps}")
        check_finite(name, self.num_timesteps, rewards=step["rewards"])

    def result(self) -> dict[str, Any]:
        """Return the field ``evaluation`` of a record."""
        return {"step": self.steps, "returns": self.returns}


class Diagnostics(UpdateDiagnostics, Resumable):
    """Measure one update of each optimizer at evenly spaced steps, the first one at the start.

    Args:
        total_steps: length of the run in environment steps.
    """

    STATE = ("due", "armed", "points", "tensors")

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        points = DIAGNOSTICS_POINTS
        self.due = deque(total_steps * point // points for point in range(points))
        self.armed: list[str] = []  # optimizers whose next step is measured
        self.points: list[int] = []
        self.tensors: dict[str, dict[str, list[float | None]]] = {}

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.optimizer_names = {value: name for name, value in optimizers(self.model).items()}

    def _on_rollout_start(self) -> None:
        if self.due and self.num_timesteps >= self.due[0]:
            while self.due and self.num_timesteps >= self.due[0]:
                self.due.popleft()
            self.points.append(self.num_timesteps)
            self.armed = list(self.optimizer_names.values())

    def _is_due(self, optimizer: Optimizer) -> bool:
        name = self.optimizer_names[optimizer]
        armed = name in self.armed
        if armed:
            self.armed.remove(name)
        return armed

    def _record(self, quantity: str, tensor: str, value: float) -> None:
        super()._record(quantity, tensor, value)
        values = self.tensors.setdefault(tensor, {}).setdefault(quantity, [])
        values.extend(self._nothing_for(values))
        values[-1] = value if math.isfinite(value) else None

    def _nothing_for(self, values: list[float | None]) -> list[float | None]:
        return [None] * (len(self.points) - len(values))

    def result(self) -> dict[str, Any]:
        """Return the field ``diagnostics`` of a record."""
        tensors = {
            tensor: {name: values + self._nothing_for(values) for name, values in found.items()}
            for tensor, found in self.tensors.items()
        }
        elements = {
            tensor: parameter.numel()
            for tensor, parameter in self.model.policy.named_parameters()
            if tensor in tensors
        }
        return {"step": self.points, "elements": elements, "tensors": tensors}


class DivergenceGuard(Resumable):
    """Raise `DivergedError` as soon as a loss, an action or a parameter is not finite.

    Losses and actions are looked at in every step, parameters at least every
    ``PARAMETER_INTERVAL`` environment steps. So is what the environment returns: where it is not
    finite after an action that was, `EnvironmentFaultError` is raised.

    Args:
        environment: the environment's id.
    """

    PARAMETER_INTERVAL = 1000
    STATE = ("metrics", "next_check")

    def __init__(self, environment: str) -> None:
        super().__init__()
        self.environment = environment
        self.metrics: dict[str, float] = {}
        self.next_check = 0

    def _on_training_start(self) -> None:
        check_finite(self.environment, self.num_timesteps, observations=self.model._last_obs)

    def _on_step(self) -> bool:
        if not is_finite(self.locals["actions"]):
            raise DivergedError(f"actions are not finite at step {self.num_timesteps}")
        rewards, observation = self.locals["rewards"], self.locals["new_obs"]
        check_finite(
            self.environment, self.num_timesteps, rewards=rewards, observations=observation
        )
        for index in self.locals["dones"].nonzero()[0]:  # whose last observation is elsewhere
            last = self.locals["infos"][index]["terminal_observation"]
            check_finite(self.environment, self.num_timesteps, observations=last)
        return True

    def _on_rollout_start(self) -> None:
        self.check()

    def _on_training_end(self) -> None:
        self.next_check = 0
        self.check()

    def check(self) -> None:
        """Check the metrics of the last update, and the parameters if their turn has come.

        Raises:
            DivergedError: if one is not finite.
        """
        metrics = {
            name: float(value)
            for name, value in self.logger.name_to_value.items()
            if name.startswith("train/")
        }
        for name, value in metrics.items():
            if "loss" in name and not math.isfinite(value):
                raise DivergedError(f"{name} is {value} at step {self.num_timesteps}")
        if self.num_timesteps >= self.next_check:
            self.next_check = self.num_timesteps + self.PARAMETER_INTERVAL
            parameter = non_finite_parameter(self.model)
            if parameter is not None:
                raise DivergedError(f"{parameter} is not finite at step {self.num_timesteps}")
        self.metrics.update(
            {name: value for name, value in metrics.items() if math.isfinite(value)}
        )


def non_finite_parameter(model: BaseAlgorithm) -> str | None:
    """Return the policy's first parameter with a NaN or infinite element, by name."""
    for name, parameter in model.policy.named_parameters():
        if not torch.isfinite(parameter).all():
            return name
    return None
