"""The wrappers around an environment, held against NumPy and raw Gymnasium."""

import gymnasium as gym
import numpy as np
import pytest

from experiments.config import EnvironmentConfig
from experiments.environments import make, make_evaluation, make_vector

NORMALIZED = EnvironmentConfig(id="HalfCheetah-v4", normalize=True, time_limit_is_terminal=True)
GAMMA = 0.99


def raw_episode(steps: int) -> tuple[list[np.ndarray], list[float], list[np.ndarray]]:
    environment = gym.make("HalfCheetah-v4")
    observation, _ = environment.reset(seed=7)
    environment.action_space.seed(7)
    observations, rewards, actions = [observation], [], []
    for _ in range(steps):
        actions.append(environment.action_space.sample())
        observation, reward, _, _, _ = environment.step(actions[-1])
        observations.append(observation)
        rewards.append(float(reward))
    return observations, rewards, actions


def test_normalisation_is_cleanrls_in_float64() -> None:
    steps = 60
    raw_observations, raw_rewards, actions = raw_episode(steps)
    environment = make(NORMALIZED, GAMMA)
    environment.reset(seed=7)
    discounted, returns = 0.0, []
    for step in range(steps):
        observation, reward, _, _, _ = environment.step(actions[step])
        # Gymnasium's running statistics start from 1e-4 observations with mean 0 and variance 1.
        seen = np.array(raw_observations[: step + 2])
        mean, variance = prior_moments(seen)
        expected = np.clip((raw_observations[step + 1] - mean) / np.sqrt(variance + 1e-8), -10, 10)
        np.testing.assert_allclose(observation, expected, rtol=1e-5, atol=1e-6)
        discounted = discounted * GAMMA + raw_rewards[step]
        returns.append([discounted])
        _, variance = prior_moments(np.array(returns))
        expected_reward = np.clip(raw_rewards[step] / np.sqrt(variance[0] + 1e-8), -10, 10)
        assert reward == pytest.approx(expected_reward, rel=1e-9)


def prior_moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, weight = len(values), 1e-4
    total = count + weight
    mean = values.sum(axis=0) / total
    second = values.var(axis=0) * count + weight
    second += values.mean(axis=0) ** 2 * count * weight / total
    return mean, second / total


def test_a_time_limit_is_shown_as_a_termination_and_the_raw_return_is_reported() -> None:
    _, raw_rewards, actions = raw_episode(1000)
    environment = make_vector(NORMALIZED, GAMMA)
    environment.seed(7)
    environment.reset()
    for action in actions:
        _, _, dones, infos = environment.step(action[None])
    assert dones[0]
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[0]["episode"]["r"] == pytest.approx(sum(raw_rewards), abs=1e-5)
    assert infos[0]["episode"]["l"] == 1000


def test_a_plain_environment_keeps_its_truncation() -> None:
    environment = make_vector(EnvironmentConfig(id="Pendulum-v1"), GAMMA)
    environment.reset()
    for _ in range(200):
        _, _, _, infos = environment.step(np.zeros((1, 1), dtype=np.float32))
    assert infos[0]["TimeLimit.truncated"]


def test_evaluation_reads_the_training_statistics_and_leaves_them() -> None:
    training = make_vector(NORMALIZED, GAMMA)
    training.seed(0)
    training.reset()
    for _ in range(20):
        training.step(np.stack([training.action_space.sample()]))
    statistics = training.envs[0].get_wrapper_attr("obs_rms")
    before = statistics.mean.copy(), statistics.var.copy(), statistics.count
    evaluation = make_evaluation(NORMALIZED, GAMMA, training)
    observation = evaluation.reset()
    evaluation.step(np.stack([evaluation.action_space.sample()]))
    np.testing.assert_array_equal(statistics.mean, before[0])
    np.testing.assert_array_equal(statistics.var, before[1])
    assert statistics.count == before[2]
    assert evaluation.envs[0].get_wrapper_attr("obs_rms") is statistics
    assert np.abs(observation).max() <= 10


@pytest.mark.parametrize("environment_id", ["HalfCheetah-v4", "HalfCheetah-v5", "Acrobot-v1"])
def test_any_registered_environment_can_be_made(environment_id: str) -> None:
    environment = make(EnvironmentConfig(id=environment_id, observation_dtype="float32"), GAMMA)
    observation, _ = environment.reset(seed=0)
    assert observation.dtype == np.float32
    assert environment.observation_space.dtype == np.float32
