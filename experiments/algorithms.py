"""The algorithms that a configuration names, and the construction of any SB3 algorithm."""

import inspect
import math
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
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
    """Return the algorithm of a run, with the run's optimizer, seeded.

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
    settings["policy_kwargs"] = _policy_kwargs(
        optimizer, optimizer_settings, settings.get("policy_kwargs", {})
    )
    algorithm: type[BaseAlgorithm] = get_class(config.algorithm["_target_"])
    model = algorithm(
        env=environment, seed=config.seed, device=resolve_device(config.device), **settings
    )
    if (end := config.algorithm.get("learning_rate_end")) is not None:
        # Not as SB3's argument: CleanRL's PPO takes a number, from which it goes to 0 by itself.
        model.lr_schedule = LinearSchedule(config.algorithm["learning_rate"], end, 1.0)
    return model


def _policy_kwargs(
    optimizer: type[Optimizer], settings: dict[str, Any], policy: dict[str, Any]
) -> dict[str, Any]:
    """Do as `policy_kwargs`, and give the optimizer what its ``**kwargs`` take too."""
    named = inspect.signature(optimizer).parameters
    known = {name: value for name, value in settings.items() if name in named}
    result = policy_kwargs(optimizer, **known, **policy)
    result["optimizer_kwargs"] |= settings
    return result
