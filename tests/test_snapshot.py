"""Snapshots of environments, generators and plain data: what goes in comes out."""

import io
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3 import PPO

from experiments.config import EnvironmentConfig
from experiments.environments import make_vector
from experiments.runs import snapshot

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
matrices = arrays(st.sampled_from(["float64", "float32", "int64", "bool", "uint8"]), (2, 3))
plain = st.recursive(
    scalars | matrices.filter(lambda m: not np.isnan(m).any()),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def through_a_file(data: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def assert_equal(value: Any, expected: Any) -> None:
    assert type(value) is type(expected)
    if isinstance(expected, np.ndarray):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)
    elif isinstance(expected, dict):
        assert list(value) == list(expected)
        for key in expected:
            assert_equal(value[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(value) == len(expected)
        for pair in zip(value, expected, strict=True):
            assert_equal(*pair)
    else:
        assert value == expected


@given(plain)
def test_plain_data_comes_back_with_its_types(value: Any) -> None:
    assert_equal(snapshot.decode(through_a_file(snapshot.encode(value))), value)


def test_other_kinds_of_data() -> None:
    generator = np.random.default_rng(3)
    generator.random(5)
    value = {1: deque([np.float64(0.5), np.int32(7)], maxlen=4), 2: generator}
    copied = snapshot.decode(through_a_file(snapshot.encode(value)))
    assert copied[1] == value[1]
    assert copied[1].maxlen == 4
    assert [type(item) for item in copied[1]] == [np.float64, np.int32]
    assert copied[2].random() == generator.random()
    with pytest.raises(snapshot.NoSnapshotError, match="object"):
        snapshot.encode([object()])


class Counting(gym.Env[Any, Any]):
    """An environment whose state is an object: it can be pickled, unless it holds a lambda."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, picklable: bool = True) -> None:
        self.state = slice(0) if picklable else (lambda: None)
        self.count = 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.count = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation = np.array([self.count + self.np_random.random()], dtype=np.float32)
        return observation, 1.0, False, False, {}


gym.register("Counting-v0", Counting)


def make_model(config: EnvironmentConfig) -> PPO:
    return PPO("MlpPolicy", make_vector(config, 0.99), n_steps=32, seed=0, device="cpu")


@pytest.mark.parametrize(
    "config",
    [
        EnvironmentConfig(id="CartPole-v1", n_envs=2),
        EnvironmentConfig(id="Acrobot-v1", reset_transitions=True),
        EnvironmentConfig(id="Pendulum-v1"),
        EnvironmentConfig(id="MountainCarContinuous-v0"),
        EnvironmentConfig(id="FrozenLake-v1"),
        EnvironmentConfig(id="Hopper-v4", observation_dtype="float32"),
        EnvironmentConfig(id="HalfCheetah-v5", normalize=True, time_limit_is_terminal=True),
        EnvironmentConfig(id="Counting-v0"),
    ],
    ids=lambda config: config.id,
)
def test_an_environment_goes_on_as_if_nothing_had_happened(config: EnvironmentConfig) -> None:
    model = make_model(config).learn(96)
    taken = through_a_file(snapshot.take(model))
    other = make_model(config)
    other._setup_learn(1)
    assert snapshot.put(taken, other)
    assert other.num_timesteps == 96 if config.n_envs == 1 else 128
    rng = np.random.default_rng(1)
    originals, copies = model.get_env(), other.get_env()
    assert originals is not None
    assert copies is not None
    for _ in range(600):  # over the ends of episodes
        if isinstance(originals.action_space, gym.spaces.Box):
            size = (config.n_envs, *originals.action_space.shape)
            actions = rng.uniform(-1, 1, size)
        else:
            actions = rng.integers(0, originals.action_space.n, config.n_envs)
        for expected, value in zip(originals.step(actions), copies.step(actions), strict=True):
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(value, expected)
    # Both have drawn from one global generator, so only what is their own can be compared.
    assert originals.action_space.sample() == pytest.approx(copies.action_space.sample())


def test_an_environment_that_cannot_be_kept_begins_anew_and_says_so() -> None:
    config = EnvironmentConfig(id="Counting-v0", kwargs={"picklable": False})
    taken = through_a_file(snapshot.take(make_model(config).learn(64)))
    other = make_model(config)
    assert not snapshot.put(taken, other)
    assert other.num_timesteps == 64
    other.learn(32, reset_num_timesteps=False)
    assert other.num_timesteps == 96


def test_global_generators_go_back() -> None:
    model = make_model(EnvironmentConfig(id="CartPole-v1"))
    model._setup_learn(1)
    taken = through_a_file(snapshot.take(model))
    draw = (np.random.random(3).tolist(), torch.rand(3).tolist())  # noqa: NPY002
    snapshot.put(taken, model)
    assert draw == (np.random.random(3).tolist(), torch.rand(3).tolist())  # noqa: NPY002
