"""Whether a run updates its networks at all, by its settings: before it, or its study, starts."""

import math
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from experiments.config import TrainConfig
from experiments.mistakes import ConfigurationError
from experiments.signatures import init_parameters


def require_updates(config: TrainConfig, algorithm_class: type[Any]) -> None:
    """Look whether a run updates each network of its model.

    Raises:
        ConfigurationError: if it does not.
    """
    total_steps, n_envs = config.total_steps, config.environment.n_envs
    parameters, _ = init_parameters(algorithm_class, BaseAlgorithm)
    defaults = {p.name: p.default for p in parameters.values() if p.default is not p.empty}
    settings = defaults | config.algorithm

    def require_rollout(setting: str, rollout: int) -> None:
        if total_steps < rollout:
            raise ConfigurationError(
                f"total_steps = {total_steps}: should be at least one rollout of "
                f"algorithm.{setting} * environment.n_envs = {rollout}"
            )

    if issubclass(algorithm_class, OnPolicyAlgorithm):
        require_rollout("n_steps", settings.get("n_steps", 1) * n_envs)
    elif issubclass(algorithm_class, OffPolicyAlgorithm):
        names = {"learning_starts": 0, "train_freq": 1, "gradient_steps": 1, "policy_delay": 1}
        starts, frequency, steps, delay = (settings.get(*item) for item in names.items())
        # A frequency may also be in episodes, each of a step at least.
        rollout = frequency * n_envs if isinstance(frequency, int) else 1
        require_rollout("train_freq", rollout)
        # SB3 goes on to a rollout's end, and updates after each that ends beyond learning_starts.
        rollouts = math.ceil(total_steps / rollout) - starts // rollout
        if rollouts * (rollout if steps < 0 else steps) < delay:
            told = [f"algorithm.{name} = {settings[name]}" for name in names if name in settings]
            raise ConfigurationError(
                f"total_steps = {total_steps}: too few for an update with {', '.join(told)}"
            )
