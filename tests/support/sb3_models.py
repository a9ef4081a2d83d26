"""Small models of SB3 that the tests of alphagrad.sb3 share."""

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from alphagrad import AlphaGrad
from alphagrad.sb3 import optimizers, policy_kwargs

LEARNING_RATE = 1e-3
OFF_POLICY = {"learning_starts": 8, "batch_size": 4, "buffer_size": 100}
ALGORITHMS: dict[str, tuple[Callable[..., BaseAlgorithm], str, dict[str, Any]]] = {
    "dqn": (DQN, "CartPole-v1", {**OFF_POLICY, "train_freq": 2}),
    "td3": (TD3, "Pendulum-v1", OFF_POLICY),
    "ddpg": (DDPG, "Pendulum-v1", OFF_POLICY),
    "sac": (SAC, "Pendulum-v1", OFF_POLICY),
    "ppo": (PPO, "CartPole-v1", {"n_steps": 16, "batch_size": 8, "n_epochs": 2}),
    "a2c": (A2C, "CartPole-v1", {"n_steps": 8}),
}
ONE_OPTIMIZER = ["dqn", "ppo", "a2c"]
TWO_OPTIMIZERS = ["td3", "ddpg", "sac"]
APART = {"actor": {"alpha": 0.5}, "critic": {"alpha": 30.0, "momentum": 0.5}}


def make(name: str, hook: dict[str, Any], **settings: Any) -> BaseAlgorithm:
    algorithm, environment, defaults = ALGORITHMS[name]
    common = {"learning_rate": LEARNING_RATE, "seed": 0, "device": "cpu", "policy_kwargs": hook}
    return algorithm("MlpPolicy", environment, **{**common, **defaults, **settings})


def tiny(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return policy_kwargs(*args, net_arch=[8], **kwargs)


def settings_of(model: BaseAlgorithm, name: str) -> dict[str, Any]:
    return optimizers(model)[name].param_groups[0]


def alphas(model: BaseAlgorithm) -> dict[str, float]:
    found = optimizers(model).items()
    return {name: one.param_groups[0]["alpha"] for name, one in found if isinstance(one, AlphaGrad)}


def assert_same(first: Any, second: Any) -> None:
    """Equality, bit for bit, of nested containers of tensors and numbers."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second
