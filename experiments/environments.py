"""Gymnasium environments with the wrappers of the protocols."""

import warnings
from functools import partial
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import wrappers
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from experiments.config import EnvironmentConfig

Environment = gym.Env[Any, Any]

# MuJoCo's own way is a line on stderr and a file in the working directory each time.
mujoco.set_mju_user_warning(lambda message: warnings.warn(f"MuJoCo: {message}", stacklevel=2))

CLIP = 10.0  # CleanRL clips normalised observations and rewards to [-10, 10]


class TimeLimitAsTermination(gym.Wrapper[Any, Any, Any, Any]):
    """Shows a truncation as a termination.

    CleanRL's PPO bootstraps neither; SB3's PPO bootstraps a truncation if it sees one.
    """

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment; the fourth value is always false."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated or truncated, False, info


def make(config: EnvironmentConfig, gamma: float) -> Environment:
    """One environment.

    Args:
        config: the environment and its wrappers.
        gamma: discount of the return by whose spread rewards are normalised.

    Raises:
        gymnasium.error.Error: if Gymnasium cannot make the environment.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date.*")  # v4 is the paper's choice
        warnings.filterwarnings("ignore", message=".*precision lowered.*")  # asked for by the dtype
        warnings.filterwarnings("ignore", message=".*settotalmass.*")  # in Gymnasium's v4 models
        environment = gym.make(config.id, **config.kwargs)
        environment = Monitor(environment)  # innermost: it reports raw returns
        if config.normalize:
            environment = _normalized(environment, gamma)
        if config.observation_dtype is not None:
            environment = wrappers.DtypeObservation(environment, np.dtype(config.observation_dtype))
        if config.time_limit_is_terminal:
            environment = TimeLimitAsTermination(environment)
    return environment


def _normalized(environment: Environment, gamma: float) -> Environment:
    normalizer = wrappers.NormalizeObservation(environment)
    # Gymnasium 1.x keeps these statistics in float32; CleanRL's version kept float64.
    normalizer.obs_rms = RunningMeanStd(shape=environment.observation_space.shape)
    clip = partial(np.clip, a_min=-CLIP, a_max=CLIP)
    environment = wrappers.TransformObservation(normalizer, clip, normalizer.observation_space)
    return wrappers.ClipReward(wrappers.NormalizeReward(environment, gamma=gamma), -CLIP, CLIP)


def make_vector(config: EnvironmentConfig, gamma: float) -> DummyVecEnv:
    """``config.n_envs`` environments stepped in turn in this process."""
    return DummyVecEnv([partial(make, config, gamma)] * config.n_envs)


def make_evaluation(config: EnvironmentConfig, gamma: float, training: DummyVecEnv) -> DummyVecEnv:
    """A single environment that reads the running statistics of ``training``, without a change.

    With several training environments, each with statistics of its own, the first one's are read.
    """
    environment = make(config, gamma)
    if config.normalize:
        normalizer = _observation_normalizer(environment)
        normalizer.obs_rms = _observation_normalizer(training.envs[0]).obs_rms
        normalizer.update_running_mean = False
    return DummyVecEnv([lambda: environment])


def _observation_normalizer(
    environment: Environment,
) -> wrappers.NormalizeObservation[Any, Any, Any]:
    while not isinstance(environment, wrappers.NormalizeObservation):
        assert isinstance(environment, gym.Wrapper)
        environment = environment.env
    return environment
