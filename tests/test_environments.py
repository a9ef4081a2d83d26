"""The wrappers around an environment, held against NumPy and raw Gymnasium."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd as SB3RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from experiments.agents import cleanrl
from experiments.config import EnvironmentConfig
from experiments.environments import (
    VectorEnvironment,
    make,
    make_evaluation,
    make_vector,
    use_old_contact_margins,
)

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


def test_normalisation_has_the_bits_of_gymnasiums_wrappers() -> None:
    normalized = wrappers.NormalizeObservation(gym.make("HalfCheetah-v4"))
    normalized.obs_rms = RunningMeanStd(shape=(17,))  # in float64
    clipped = wrappers.TransformObservation(
        normalized, lambda observation: observation.clip(-10, 10), normalized.observation_space
    )
    expected = wrappers.ClipReward(wrappers.NormalizeReward(clipped, GAMMA), -10, 10)
    environment = make(NORMALIZED, GAMMA)
    assert environment.observation_space == expected.observation_space
    _, _, actions = raw_episode(50)
    for seed in (7, 8):  # statistics and the discounted return go on over a reset
        np.testing.assert_array_equal(environment.reset(seed=seed)[0], expected.reset(seed=seed)[0])
        for action in actions:
            observation, reward, *_ = environment.step(action)
            expected_observation, expected_reward, *_ = expected.step(action)
            np.testing.assert_array_equal(observation, expected_observation)
            assert observation.dtype == expected_observation.dtype
            assert reward == expected_reward


def test_only_arrays_can_be_normalised() -> None:
    with pytest.raises(ValueError, match=r"environment\.normalize = True: observations of Tuple"):
        make(EnvironmentConfig(id="Blackjack-v1", normalize=True), GAMMA)


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_a_vector_of_environments_is_sb3s(environment_id: str) -> None:
    made = make_vector(EnvironmentConfig(id=environment_id, n_envs=2), GAMMA)
    expected = DummyVecEnv([lambda: Monitor(gym.make(environment_id))] * 2)
    for vector in (made, expected):
        vector.seed(5)
    np.testing.assert_equal(made.reset(), expected.reset())
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(100):
        actions = rng.integers(0, 2, 2)
        step, expected_step = made.step(actions), expected.step(actions)
        for info in (*step[3], *expected_step[3]):
            info.get("episode", {}).pop("t", None)  # wall time
        np.testing.assert_equal(step, expected_step)
        seen.append(step)
    assert any(dones.any() for _, _, dones, _ in seen)
    assert len({id(info) for *_, infos in seen for info in infos}) == 200


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


def test_a_reset_becomes_a_transition_of_the_replay_buffer() -> None:
    config = EnvironmentConfig(id="CartPole-v1", reset_transitions=True)
    model = cleanrl.DQN("MlpPolicy", make_vector(config, GAMMA), seed=0, learning_starts=1_000)
    model.learn(200)
    buffer = model.replay_buffer
    assert buffer is not None
    ends = np.flatnonzero(buffer.dones[:199, 0])
    assert len(ends) > 5
    np.testing.assert_array_equal(buffer.observations[ends + 1], buffer.next_observations[ends])
    assert np.abs(buffer.observations[ends + 1]).max(axis=(1, 2)).min() > 0.2  # a pole that fell
    assert np.abs(buffer.next_observations[ends + 1]).max() <= 0.05  # where CartPole begins
    assert not buffer.rewards[ends + 1].any()
    assert not buffer.dones[ends + 1].any()
    others = np.delete(np.arange(200), ends + 1)
    assert (buffer.rewards[others] == 1).all()
    lengths = [episode["l"] for episode in model.ep_info_buffer or []]
    assert [episode["r"] for episode in model.ep_info_buffer or []] == lengths
    np.testing.assert_array_equal(np.diff(ends), np.array(lengths[1 : len(ends)]) + 1)


def test_td3_learns_from_resets_as_dqn_does() -> None:
    config = EnvironmentConfig(id="Hopper-v4", reset_transitions=True)
    model = cleanrl.TD3("MlpPolicy", make_vector(config, GAMMA), seed=0, learning_starts=1_000)
    model.learn(300)
    buffer = model.replay_buffer
    assert buffer is not None
    ends = np.flatnonzero(buffer.dones[:299, 0])
    assert len(ends) > 5
    np.testing.assert_array_equal(buffer.observations[ends + 1], buffer.next_observations[ends])
    assert not buffer.rewards[ends + 1].any()
    assert not buffer.dones[ends + 1].any()
    heights = buffer.next_observations[ends + 1][:, 0, 0]
    assert (np.abs(heights - 1.25) < 0.01).all()  # where Hopper begins


def test_ppo_learns_from_resets_and_bootstraps_none_of_them() -> None:
    config = EnvironmentConfig(
        id="Pendulum-v1", normalize=True, time_limit_is_terminal=True, reset_transitions=True
    )
    model = cleanrl.PPO("MlpPolicy", make_vector(config, GAMMA), seed=0, n_steps=512)
    model.learn(512)
    buffer = model.rollout_buffer
    starts = np.flatnonzero(buffer.episode_starts[:, 0])
    # Pendulum's episodes have 200 steps. An episode begins with its transition from the last one.
    np.testing.assert_array_equal(starts, [0, 200, 401])
    assert not buffer.rewards[starts[1:]].any()
    assert np.count_nonzero(buffer.rewards) == 510
    lengths = [episode["l"] for episode in model.ep_info_buffer or []]
    assert lengths == [200, 200]


def test_a_seeded_reset_is_one_in_the_middle_of_reset_transitions() -> None:
    environment = make(EnvironmentConfig(id="CartPole-v1", reset_transitions=True), GAMMA)
    first, _ = environment.reset(seed=3)
    while not environment.step(0)[2]:
        pass
    np.testing.assert_array_equal(environment.reset(seed=3)[0], first)


def test_evaluation_reads_the_training_statistics_and_leaves_them() -> None:
    training = make_vector(NORMALIZED, GAMMA)
    assert isinstance(training, VectorEnvironment)
    training.seed(0)
    training.reset()
    for _ in range(20):
        training.step(np.stack([training.action_space.sample()]))
    statistics = training.envs[0].get_wrapper_attr("obs_rms")
    before = statistics.mean.copy(), statistics.var.copy(), statistics.count
    evaluation = make_evaluation(NORMALIZED, GAMMA, training)
    assert isinstance(evaluation, VectorEnvironment)
    observation = evaluation.reset()
    evaluation.step(np.stack([evaluation.action_space.sample()]))
    np.testing.assert_array_equal(statistics.mean, before[0])
    np.testing.assert_array_equal(statistics.var, before[1])
    assert statistics.count == before[2]
    assert evaluation.envs[0].get_wrapper_attr("obs_rms") is statistics
    assert isinstance(observation, np.ndarray)
    assert np.abs(observation).max() <= 10


@pytest.mark.parametrize("environment_id", ["HalfCheetah-v4", "HalfCheetah-v5", "Acrobot-v1"])
def test_any_registered_environment_can_be_made(environment_id: str) -> None:
    environment = make(EnvironmentConfig(id=environment_id, observation_dtype="float32"), GAMMA)
    observation, _ = environment.reset(seed=0)
    assert observation.dtype == np.float32
    assert environment.observation_space.dtype == np.float32


class Thrifty(gym.Env[Any, Any]):
    """Hands out one info and one observation, and changes them in place."""

    observation_space = gym.spaces.Box(-100, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self) -> None:
        self.seen, self.info = np.zeros(1, dtype=np.float32), {"constant": 1}

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.seen[:] = 0
        return self.seen, self.info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.seen += 1
        return self.seen, 1.0, False, self.seen[0] == 10, self.info


gym.register("Thrifty-v0", f"{__name__}:Thrifty")


def test_an_environment_may_use_its_info_and_its_observation_again() -> None:
    vector = make_vector(EnvironmentConfig(id="Thrifty-v0"), GAMMA)
    vector.reset()
    steps: list[tuple[Any, ...]] = [vector.step(np.array([0])) for _ in range(35)]
    infos = [step[3][0] for step in steps]
    ends = [index for index, info in enumerate(infos) if "episode" in info]
    assert ends == [9, 19, 29]
    assert [infos[index]["episode"]["r"] for index in ends] == [10, 10, 10]
    assert [infos[index]["terminal_observation"][0] for index in ends] == [10, 10, 10]
    assert [step[0][0, 0] for step in steps[:12]] == [*range(1, 10), 0, 1, 2]
    assert [info["TimeLimit.truncated"] for info in infos] == [i in ends for i in range(35)]
    assert all("terminal_observation" not in infos[i] for i in range(35) if i not in ends)


@pytest.mark.parametrize(
    ("environment_id", "limit"), [("CliffWalking-v1", 7), ("CartPole-v1", 500)]
)
def test_a_time_limit_is_set_where_there_is_none(environment_id: str, limit: int) -> None:
    environment = make(EnvironmentConfig(id=environment_id), GAMMA, episode_steps=7)
    assert environment.spec is not None
    assert environment.spec.max_episode_steps == limit
    environment.reset(seed=0)
    if limit == 7:
        assert [environment.step(0)[3] for _ in range(7)] == [*[False] * 6, True]


def contacts(margins: str) -> np.ndarray:
    """The distances at which Hopper's geoms are in contact while it falls and lies about."""
    hopper: Any = make(EnvironmentConfig(id="Hopper-v4", contact_margins=margins), GAMMA).unwrapped
    hopper.reset(seed=0)
    rng = np.random.default_rng(0)
    distances: list[float] = []
    for _ in range(300):
        hopper.step(rng.uniform(-1, 1, 3))
        distances += [contact.dist for contact in hopper.data.contact]
    return np.array(distances)


def test_old_contact_margins_are_the_larger_of_two_and_not_their_sum() -> None:
    margin = 0.001  # of each of Hopper's geoms
    new, old = contacts("new"), contacts("old")
    assert margin < new.max() <= 2 * margin
    assert 0 < old.max() <= margin
    hopper: Any = make(EnvironmentConfig(id="Hopper-v4", contact_margins="old"), GAMMA).unwrapped
    assert (hopper.model.geom_margin == margin / 2).all()


def test_without_margins_old_ones_change_nothing() -> None:
    new, old = (
        make(EnvironmentConfig(id="HalfCheetah-v4", contact_margins=margins), GAMMA)
        for margins in ("new", "old")
    )
    np.testing.assert_array_equal(new.reset(seed=1)[0], old.reset(seed=1)[0])
    rng = np.random.default_rng(0)
    for _ in range(100):
        action = rng.uniform(-1, 1, 6)
        np.testing.assert_array_equal(new.step(action)[0], old.step(action)[0])


def test_old_contact_margins_are_refused_where_they_cannot_be() -> None:
    with pytest.raises(ValueError, match="contact_margins = 'old': this is no environment of Mu"):
        make(EnvironmentConfig(id="CartPole-v1", contact_margins="old"), GAMMA)
    hopper: Any = make(EnvironmentConfig(id="Hopper-v4"), GAMMA).unwrapped
    hopper.model.geom_margin[1] = 0.002
    with pytest.raises(ValueError, match="works where all geoms have one margin, not several"):
        use_old_contact_margins(hopper)


def wrapped(*wrappers_: dict[str, Any], **settings: Any) -> EnvironmentConfig:
    return EnvironmentConfig(wrappers=list(wrappers_), **{"id": "CartPole-v1"} | settings)


def test_wrappers_go_around_the_raw_environment_in_their_order() -> None:
    stack = {"_target_": "gymnasium.wrappers.FrameStackObservation", "stack_size": 3}
    flat = {"_target_": "gymnasium.wrappers.FlattenObservation"}
    reward = {
        "_target_": "gymnasium.wrappers.TransformReward",
        "func": {"_target_": f"{__name__}.no"},
    }
    config = wrapped(stack, flat, reward, observation_dtype="float64")
    environment = make(config, GAMMA)
    expected = wrappers.FlattenObservation(
        wrappers.FrameStackObservation(gym.make("CartPole-v1"), stack_size=3)
    )
    first, _ = environment.reset(seed=1)
    np.testing.assert_array_equal(first, expected.reset(seed=1)[0])
    assert (first.shape, first.dtype) == ((12,), np.float64)
    done = False
    while not done:
        observation, given, done, _, info = environment.step(0)
        np.testing.assert_array_equal(observation, expected.step(0)[0])
        assert given == 0.0
    assert info["episode"]["r"] == info["episode"]["l"] > 5  # the raw return


def no() -> Any:
    """A function that an environment's wrapper gets."""
    return lambda _: 0.0


class LostLives(gym.Wrapper[Any, Any, Any, Any]):
    """Shows an end every third step, and goes on, as SB3's wrapper for Atari does."""

    steps = 0
    over = True

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, self.over, truncated, info = self.env.step(self.steps % 2)
        self.steps += 1
        return observation, reward, self.over or self.steps % 3 == 0, truncated, info

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        if not self.over:
            observation, _, self.over, _, info = self.env.step(0)
        return super().reset(**kwargs) if self.over else (observation, info)


def test_an_episode_that_a_wrapper_ends_is_reported_and_a_lost_life_is_none() -> None:
    limit = {"_target_": "gymnasium.wrappers.TimeLimit", "max_episode_steps": 5}
    vector = make_vector(wrapped(limit, n_envs=2), GAMMA)
    expected = make_vector(
        EnvironmentConfig(id="CartPole-v1", n_envs=2, kwargs={"max_episode_steps": 5}), GAMMA
    )
    for each in (vector, expected):
        each.seed(3)
    np.testing.assert_array_equal(vector.reset(), expected.reset())
    for step in range(1, 17):
        found, other = (each.step(np.array([step % 2, 1])) for each in (vector, expected))
        for info in (*found[3], *other[3]):
            info.get("episode", {}).pop("t", None)
        np.testing.assert_equal(found, other)
        assert ("episode" in found[3][0]) is (step % 5 == 0)

    lives = {"_target_": f"{__name__}.LostLives"}
    vector = make_vector(wrapped(lives), GAMMA)
    vector.seed(0)
    vector.reset()
    ends, episodes = 0, []
    for _ in range(200):
        _, _, dones, [info] = vector.step(np.array([0]))
        ends += int(dones[0])
        episodes += [info["episode"]] if "episode" in info else []
    assert ends > 4 * len(episodes) > 0
    assert all(episode["r"] == episode["l"] > 10 for episode in episodes)


def test_vec_normalize_is_sb3s_and_evaluations_leave_its_statistics() -> None:
    config = EnvironmentConfig(id="CartPole-v1", n_envs=2, vec_normalize={"clip_obs": 5.0})
    training = make_vector(config, 0.9)
    assert isinstance(training, VecNormalize)
    assert (training.clip_obs, training.gamma, training.norm_reward) == (5.0, 0.9, True)
    training.seed(0)
    training.reset()
    for _ in range(20):
        training.step(np.array([0, 1]))
    statistics = training.obs_rms
    assert isinstance(statistics, SB3RunningMeanStd)
    before = statistics.copy()
    evaluation = make_evaluation(config, 0.9, training)
    assert isinstance(evaluation, VecNormalize)
    evaluation.seed(1)
    normalized = evaluation.reset()
    raw, _ = gym.make("CartPole-v1").reset(seed=1)
    expected = (raw - before.mean) / np.sqrt(before.var + 1e-8)
    np.testing.assert_allclose(normalized, expected[None], rtol=1e-5)
    assert evaluation.step(np.array([0]))[1] == 1.0  # as it is
    assert statistics.count == before.count
