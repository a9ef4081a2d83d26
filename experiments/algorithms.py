"""The algorithms that a configuration names, and the construction of any SB3 algorithm."""

import math

import torch
from hydra.utils import get_class, instantiate
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from torch.distributions import Distribution
from torch.optim import Optimizer

from alphagrad.sb3 import policy_kwargs
from experiments.agents import fast
from experiments.config import TrainConfig, arguments, resolve_device

# A run's identity has these names.
CleanRLDQN, CleanRLTD3, CleanRLPPO = fast.DQN, fast.TD3, fast.PPO

# A NaN must reach the divergence guard, not raise in a distribution's constructor.
Distribution.set_default_validate_args(False)

# The same steps in one kernel; without it, PPO with Adam is 15% slower.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make(config: TrainConfig, environment: VecEnv) -> BaseAlgorithm:
    """The algorithm of a run, with the run's optimizer, seeded.

    Raises:
        AssertionError, TypeError, ValueError: if SB3 refuses the settings.
    """
    settings = instantiate(arguments(config.algorithm), _convert_="all")
    if settings.get("max_grad_norm", 0.0) is None:
        settings["max_grad_norm"] = math.inf
    optimizer: type[Optimizer] = get_class(config.optimizer["_target_"])
    optimizer_settings = arguments(config.optimizer)
    if optimizer in FUSED:
        optimizer_settings.setdefault("fused", True)
    settings["policy_kwargs"] = policy_kwargs(
        optimizer, **optimizer_settings, **settings.get("policy_kwargs", {})
    )
    algorithm: type[BaseAlgorithm] = get_class(config.algorithm["_target_"])
    model = algorithm(
        env=environment, seed=config.seed, device=resolve_device(config.device), **settings
    )
    if isinstance(model, OnPolicyAlgorithm) and config.total_steps < model.n_steps * model.n_envs:
        raise ValueError(
            f"total_steps = {config.total_steps}: should be at least one rollout of "
            f"n_steps * n_envs = {model.n_steps * model.n_envs}"
        )
    return model
