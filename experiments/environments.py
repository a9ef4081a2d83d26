"""Gymnasium environments with the wrappers of the protocols."""

import math
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import wrappers
from gymnasium.wrappers.utils import RunningMeanStd
from hydra.utils import get_class, instantiate
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from experiments.config import EnvironmentConfig, arguments

Environment = gym.Env[Any, Any]

# MuJoCo's own way is a line on stderr and a file in the working directory each time.
mujoco.set_mju_user_warning(lambda message: warnings.warn(f"MuJoCo: {message}", stacklevel=2))

STATISTICS = "normalization.npz"
VEC_NORMALIZE = "vec_normalize.pkl"
CLIP = 10.0  # CleanRL clips normalised observations and rewards to [-10, 10]
EVALUATION_STEPS = 10_000  # ten times MuJoCo's limit


class Normalization(gym.Wrapper[Any, Any, Any, Any]):
    """Normalised observations and rewards, clipped to [-10, 10], as CleanRL's PPO wraps them.

    It gives the same bits as Gymnasium's ``NormalizeObservation``, ``TransformObservation``,
    ``NormalizeReward`` and ``ClipReward`` with statistics in float64, as CleanRL's version kept
    them. Those would make PPO on HalfCheetah 17% slower: they take the moments of one observation.

    Args:
        environment: its observations are arrays.
        gamma: discount of the return by whose spread rewards are normalised.

    Attributes:
        obs_rms: statistics of the observations.
        return_rms: statistics of the discounted return.
        update_running_mean: whether steps change the statistics of the observations.

    Raises:
        ValueError: if the observations are no arrays.
    """

    EPSILON = 1e-8

    def __init__(self, environment: Environment, gamma: float) -> None:
        super().__init__(environment)
        shape = environment.observation_space.shape
        if shape is None:
            raise ValueError(
                f"environment.normalize = True: observations of {environment.observation_space} "
                "cannot be normalised, only arrays"
            )
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, shape, np.float32)
        self.obs_rms = RunningMeanStd(shape=shape)
        self.return_rms = RunningMeanStd()
        self.discounted_return = 0.0
        self.gamma = gamma
        self.update_running_mean = True

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Reset the environment; the discounted return goes on, as in Gymnasium."""
        observation, info = self.env.reset(**kwargs)
        return self._normalized(observation), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step the environment and normalise what it returns."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        reward = float(reward)
        self.discounted_return = self.discounted_return * self.gamma * (1 - terminated) + reward
        _update(self.return_rms, self.discounted_return)
        reward /= math.sqrt(self.return_rms.var + self.EPSILON)
        reward = min(max(reward, -CLIP), CLIP)
        return self._normalized(observation), reward, terminated, truncated, info

    def _normalized(self, observation: np.ndarray) -> np.ndarray:
        statistics = self.obs_rms
        if self.update_running_mean:
            _update(statistics, observation)
        normalized = (observation - statistics.mean) / np.sqrt(statistics.var + self.EPSILON)
        return normalized.astype(np.float32).clip(-CLIP, CLIP)


def _update(statistics: RunningMeanStd, value: Any) -> None:
    """``RunningMeanStd.update`` with a single value, whose variance is 0."""
    statistics.update_from_moments(value, 0.0, 1)


class EpisodeMonitor(Monitor):
    """SB3's `Monitor` that writes into an ``info`` of its own.

    An environment may hand out one and the same dictionary in each step; an episode's return that
    stays in it would count again in each step of the next.
    """

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = super().step(action)
        own = dict(info)
        if terminated or truncated:
            del info["episode"]
        return observation, reward, terminated, truncated, own

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, and keep the return of an episode that has not come to its end."""
        self.cut = None
        if self.rewards and not self.needs_reset:
            seconds = round(time.time() - self.t_start, 6)
            self.cut = {"r": round(sum(self.rewards), 6), "l": len(self.rewards), "t": seconds}
        return super().reset(**kwargs)


class CutEpisodes(gym.Wrapper[Any, Any, Any, Any]):
    """Reports episodes that a wrapper ends, of which the monitor within sees only the next reset.

    So the environment is reset at once. A wrapper that shows an end but goes on with the episode,
    as for a lost life, ends none.
    """

    begun: tuple[Any, dict[str, Any]] | None = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and "episode" not in info:
            observation = deepcopy(observation)
            self.begun = self.env.reset()
            if (cut := self.get_wrapper_attr("cut")) is not None:
                info = info | {"episode": cut}
        return observation, reward, terminated, truncated, info

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, unless that has been done and no seed is asked for."""
        begun, self.begun = self.begun, None
        if begun is not None and seed is None:
            return begun
        return super().reset(seed=seed, options=options)


class VectorEnvironment(DummyVecEnv):
    """`DummyVecEnv` without deep copies, which make PPO on HalfCheetah 8% slower.

    What an environment may change in place, its last observation, is copied at an episode's end.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step each environment, and reset those whose episodes have ended."""
        for index, environment in enumerate(self.envs):
            observation, reward, terminated, truncated, info = environment.step(self.actions[index])
            info["TimeLimit.truncated"] = truncated and not terminated
            if terminated or truncated:
                info["terminal_observation"] = deepcopy(observation)
                observation, self.reset_infos[index] = environment.reset()
            self._save_obs(index, observation)
            self.buf_rews[index] = reward
            self.buf_dones[index] = terminated or truncated
            self.buf_infos[index] = info
        infos = list(self.buf_infos)
        return self._obs_from_buf(), self.buf_rews.copy(), self.buf_dones.copy(), infos

    def _obs_from_buf(self) -> VecEnvObs:
        if isinstance(self.observation_space, gym.spaces.Dict | gym.spaces.Tuple):
            return super()._obs_from_buf()
        [observations] = self.buf_obs.values()
        return observations.copy()


class TimeLimitAsTermination(gym.Wrapper[Any, Any, Any, Any]):
    """Show a truncation as a termination.

    CleanRL's PPO bootstraps neither; SB3's PPO bootstraps a truncation if it sees one.
    """

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment; the fourth value is always false."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward), terminated or truncated, False, info


class ResetTransitions(wrappers.Autoreset[Any, Any]):
    """Adds a transition from the last observation of an episode to the first one of the next.

    Its action is ignored, its reward 0, and it does not end the episode that it begins. Vector
    environments of Gymnasium 1.x make such a step, and scripts that are older than these, such as
    the author's, learn from it as from any other.
    """

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, or reset it if its episode has ended."""
        self.last_observation, *rest = super().step(action)
        return self.last_observation, *rest

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, unless its episode has ended: then the next step does."""
        if self.autoreset and seed is None:
            return self.last_observation, {}
        return super().reset(seed=seed, options=options)


def use_old_contact_margins(environment: Environment) -> None:
    """Let two geoms be in contact as before MuJoCo 3.5: within the larger margin, not the sum.

    With half of equal margins the sum is what the larger one was.

    Raises:
        ValueError: if it is no environment of MuJoCo's, or its geoms' margins differ.
    """
    setting = "environment.contact_margins = 'old'"
    model = getattr(environment.unwrapped, "model", None)
    if not isinstance(model, mujoco.MjModel):
        raise ValueError(f"{setting}: this is no environment of MuJoCo's")
    if np.ptp(model.geom_margin) > 0:
        raise ValueError(f"{setting}: works where all geoms have one margin, not several")
    model.geom_margin[:] *= 0.5


def make(config: EnvironmentConfig, gamma: float, episode_steps: int | None = None) -> Environment:
    """Return one environment.

    Args:
        config: the environment and its wrappers.
        gamma: discount of the return by whose spread rewards are normalised.
        episode_steps: a time limit, >= 1, where the environment is registered without one.

    Raises:
        gymnasium.error.Error: if Gymnasium cannot make the environment.
        ValueError: if the environment does not have what a setting is about.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*out of date.*")  # v4 is the paper's choice
        warnings.filterwarnings("ignore", message=".*precision lowered.*")  # asked for by the dtype
        warnings.filterwarnings("ignore", message=".*settotalmass.*")  # in Gymnasium's v4 models
        environment = gym.make(config.id, **config.kwargs)
        if config.contact_margins == "old":
            use_old_contact_margins(environment)
        if episode_steps is not None and not has_time_limit(environment):
            environment = wrappers.TimeLimit(environment, episode_steps)
        environment = EpisodeMonitor(environment)  # innermost: it reports raw returns
        for index, wrapper in enumerate(config.wrappers):
            environment = _wrap(environment, f"environment.wrappers.{index}", wrapper)
        if config.wrappers:
            environment = CutEpisodes(environment)
        if config.normalize:
            environment = Normalization(environment, gamma)
        if config.observation_dtype is not None:
            environment = wrappers.DtypeObservation(environment, np.dtype(config.observation_dtype))
        if config.time_limit_is_terminal:
            environment = TimeLimitAsTermination(environment)
        if config.reset_transitions:
            environment = ResetTransitions(environment)
    return environment


def _wrap(environment: Environment, setting: str, wrapper: dict[str, Any]) -> Environment:
    """Put a wrapper around an environment.

    Raises:
        ValueError: if the wrapper refuses it.
    """
    settings = {  # Gymnasium asks for tuples where YAML has lists
        name: tuple(value) if isinstance(value, list) else value
        for name, value in instantiate(arguments(wrapper), _convert_="all").items()
    }
    try:
        wrapped: Environment = get_class(wrapper["_target_"])(environment, **settings)
    except Exception as error:  # whatever a user's class raises
        name = wrapper["_target_"].rpartition(".")[2]
        reason = str(error) or type(error).__name__
        raise ValueError(f"{setting} ({name}): {reason}") from error
    return wrapped


def has_time_limit(environment: Environment) -> bool:
    """Return whether an environment is registered with a time limit."""
    return environment.spec is not None and environment.spec.max_episode_steps is not None


def make_vector(config: EnvironmentConfig, gamma: float) -> VecEnv:
    """Return ``config.n_envs`` environments that are stepped in turn, or each in its process."""
    makers: list[Callable[[], Environment]] = [partial(make, config, gamma)] * config.n_envs
    subproc = config.vectorization == "subproc"
    vector = SubprocVecEnv(makers) if subproc else VectorEnvironment(makers)
    if config.vec_normalize is None:
        return vector
    return VecNormalize(vector, **{"gamma": gamma} | config.vec_normalize)


def make_evaluation(config: EnvironmentConfig, gamma: float, training: VecEnv) -> VecEnv:
    """Return one environment that reads the running statistics of ``training``, without a change.

    With several training environments, each with statistics of its own, the first one's are read.
    Without a time limit of its own, its episodes end after `EVALUATION_STEPS`: a policy may never
    come to an end.
    """
    environment = make(config, gamma, EVALUATION_STEPS)
    if config.normalize:
        assert isinstance(training, VectorEnvironment)
        freeze_statistics(environment, normalizer(training.envs[0]).obs_rms)
    vector = VectorEnvironment([lambda: environment])
    if not isinstance(training, VecNormalize):
        return vector
    normalized = VecNormalize(vector, training=False, **(config.vec_normalize or {}))
    normalized.norm_reward = False
    if training.norm_obs:
        normalized.obs_rms = training.obs_rms
    return normalized


def keep_statistics(vector: VecEnv | None, config: EnvironmentConfig, folder: Path) -> None:
    """Write the statistics that normalise observations, if there are any.

    With several training environments, each with statistics of its own, the first one's count.
    Those of SB3's ``VecNormalize`` are in its own format.
    """
    if isinstance(vector, VecNormalize):
        vector.save(str(folder / VEC_NORMALIZE))
    if config.normalize:
        assert isinstance(vector, VectorEnvironment)
        statistics = normalizer(vector.envs[0]).obs_rms
        kept = {name: getattr(statistics, name) for name in ("mean", "var", "count")}
        np.savez(folder / STATISTICS, **kept)


def take_statistics(vector: VecEnv | None, config: EnvironmentConfig, folder: Path) -> None:
    """Take over what `keep_statistics` has written.

    Raises:
        OSError, ValueError, KeyError: if it is not there, or damaged.
    """
    if isinstance(vector, VecNormalize):
        kept = VecNormalize.load(str(folder / VEC_NORMALIZE), vector.venv)
        # In place, since an evaluation reads them too.
        for own, other in zip(_statistics(vector), _statistics(kept), strict=True):
            vars(own).update(vars(other))
    if config.normalize:
        assert isinstance(vector, VectorEnvironment)
        statistics = dict(np.load(folder / STATISTICS))
        for environment in vector.envs:
            running = normalizer(environment).obs_rms
            running.mean, running.var = statistics["mean"].copy(), statistics["var"].copy()
            running.count = float(statistics["count"])


def _statistics(vector: VecNormalize) -> list[Any]:
    """Return the running statistics of returns and, if they are normalised, of observations."""
    observed = getattr(vector, "obs_rms", [])
    parts = observed.values() if isinstance(observed, dict) else [observed]
    return [vector.ret_rms, *(parts if vector.norm_obs else [])]


def freeze_statistics(environment: Environment, statistics: RunningMeanStd) -> None:
    """Let a normalised environment read the statistics of another one, without a change."""
    normalization = normalizer(environment)
    normalization.obs_rms = statistics
    normalization.update_running_mean = False


def normalizer(environment: Environment) -> Normalization:
    """Return the wrapper of a normalised environment that holds its statistics."""
    while not isinstance(environment, Normalization):
        assert isinstance(environment, gym.Wrapper)
        environment = environment.env
    return environment
