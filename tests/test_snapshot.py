"""Snapshots of environments, generators and plain data: what goes in comes out."""

import io
import pickle
import random
import threading
from collections import OrderedDict, defaultdict, deque
from enum import IntEnum
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

from experiments.agents import fast
from experiments.config import EnvironmentConfig
from experiments.environments import make_vector
from experiments.runs import plain_data, snapshot

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
    assert_equal(plain_data.decode(through_a_file(plain_data.encode(value))), value)


def test_other_kinds_of_data() -> None:
    generator = np.random.default_rng(3)
    generator.random(5)
    legacy, plain = np.random.RandomState(3), random.Random(3)
    odd = [np.array([b"S", b"FH"]), np.array([1 + 2j]), np.arange(3, dtype=">i4"), np.array("ab")]
    value = {
        1: deque([np.float64(0.5), np.int32(7)], maxlen=4),
        2: generator,
        3: [legacy, plain],
        4: odd,
        5: OrderedDict(b=1, a=2),
    }
    copied = plain_data.decode(through_a_file(plain_data.encode(value)))
    assert copied[1] == value[1]
    assert copied[1].maxlen == 4
    assert [type(item) for item in copied[1]] == [np.float64, np.int32]
    assert copied[2].random() == generator.random()
    assert copied[3][0].rand() == legacy.rand()
    assert copied[3][1].random() == plain.random()
    for array, expected in zip(copied[4], odd, strict=True):
        assert_equal(array, expected)
    assert_equal(copied[5], value[5])


class Flavour(IntEnum):
    SWEET = 1


@pytest.mark.parametrize(
    "value",
    [
        *[object(), threading.Lock(), np.array([None]), {(1, 2): 3}, defaultdict(int)],
        np.zeros(2, dtype=[("x", float)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_as_plain_data_is_refused(value: Any) -> None:
    with pytest.raises(plain_data.NoSnapshotError):
        plain_data.encode([value])


def test_what_never_changes_has_to_be_there() -> None:
    def scaled(factor: Any) -> Any:
        return lambda value: value * factor

    value = [int, Flavour.SWEET, np.dtype("float32"), scaled(3)]
    data = through_a_file(plain_data.encode(value))
    there = [int, Flavour.SWEET, np.dtype("float32"), scaled(2)]
    decoded = plain_data.decode(data, there)
    assert decoded == there
    assert decoded[3](1) == 3
    for place, other in enumerate([float, 1, np.dtype("float64"), len]):
        with pytest.raises(plain_data.NoSnapshotError):
            plain_data.decode(data, [*there[:place], other, *there[place + 1 :]])


class Counting(gym.Env[Any, Any]):
    """An environment whose state is an object: it can be pickled, unless it holds a lock."""

    observation_space: gym.Space[Any] = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, picklable: bool = True) -> None:
        self.state = slice(0) if picklable else threading.Lock()
        self.count = 0

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.count = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        observation = np.array([self.count + self.np_random.random()], dtype=np.float32)
        return observation, 1.0, False, False, {}


gym.register("Counting-v0", f"{__name__}:Counting")


class Plant(gym.Env[Any, Any]):
    """Attributes with names that others have for what is drawn, and draws from all its spaces."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float64)

    def __init__(self) -> None:
        self.action_space = gym.spaces.Discrete(9)
        self.orders = gym.spaces.Dict(
            a=gym.spaces.Box(0, 1), b=gym.spaces.Tuple([gym.spaces.Box(0, 1)])
        )
        self.clock = self.func = self.screen = 0.0

    def observation(self) -> np.ndarray:
        orders = self.orders.sample()
        drawn = [self.action_space.sample(), orders["a"][0], orders["b"][0][0]]
        return np.array([self.clock, self.func, *drawn])

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.clock = self.func = 0.0
        return self.observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.clock += 1
        self.func += 0.5
        return self.observation(), self.clock, self.clock == 50, False, {}


gym.register("Plant-v0", f"{__name__}:Plant")


class Pictures(Counting):
    """Observations that SB3 transposes, in a wrapper of its own around the vector."""

    observation_space = gym.spaces.Box(0, 255, (36, 40, 3), np.uint8)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(**kwargs)
        return np.zeros((36, 40, 3), np.uint8), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        super().step(action)
        return np.full((36, 40, 3), self.count % 256, np.uint8), 1.0, self.count == 50, False, {}


gym.register("Pictures-v0", f"{__name__}:Pictures")


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
        EnvironmentConfig(id="Hopper-v4", observation_dtype="float32", contact_margins="old"),
        EnvironmentConfig(id="HalfCheetah-v5", normalize=True, time_limit_is_terminal=True),
        # Whose rewards and observations have parts from the step before.
        EnvironmentConfig(id="Ant-v5"),
        EnvironmentConfig(id="Reacher-v4", n_envs=2),
        EnvironmentConfig(id="Counting-v0"),
        EnvironmentConfig(id="Plant-v0", n_envs=2),
        EnvironmentConfig(id="Pictures-v0", n_envs=2),
    ],
    ids=lambda config: config.id,
)
def test_an_environment_goes_on_as_if_nothing_had_happened(config: EnvironmentConfig) -> None:
    model = make_model(config).learn(96)
    taken = through_a_file(snapshot.take(model))
    other = make_model(config)
    other._setup_learn(1)
    assert snapshot.put(taken, other)
    assert other.num_timesteps == (96 if config.n_envs == 1 else 128)
    rng = np.random.default_rng(1)
    originals, copies = model.get_env(), other.get_env()
    assert originals is not None
    assert copies is not None
    for _ in range(600):  # over the ends of episodes
        space = originals.action_space
        actions: np.ndarray
        if isinstance(space, gym.spaces.Box):
            actions = rng.uniform(-1, 1, (config.n_envs, *space.shape))
        else:
            assert isinstance(space, gym.spaces.Discrete)
            actions = rng.integers(0, space.n, config.n_envs)
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


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("the checkpoint has run code",)


@pytest.mark.parametrize("environment_id", ["CartPole-v1", "Hopper-v4", "FrozenLake-v1"])
def test_a_known_environment_is_never_unpickled(environment_id: str) -> None:
    config = EnvironmentConfig(id=environment_id, normalize=environment_id == "Hopper-v4")
    taken = snapshot.take(make_model(config).learn(32))
    [layers] = taken["environments"]
    trap = torch.frombuffer(bytearray(pickle.dumps({"state": Trap()})), dtype=torch.uint8)
    for layer in layers:
        assert "pickled" not in layer
        layer["pickled"] = trap
    other = make_model(config)
    assert not snapshot.put(through_a_file(taken), other)
    other.learn(32, reset_num_timesteps=False)


def test_a_simulator_that_is_changed_in_training_cannot_be_kept_and_says_so() -> None:
    model = make_model(EnvironmentConfig(id="Hopper-v4")).learn(32)
    taken = through_a_file(snapshot.take(model))
    vector = model.get_env()
    assert vector is not None
    [simulator] = vector.get_attr("model")
    simulator.geom_friction[:] *= 0.5
    changed = through_a_file(snapshot.take(model))
    assert snapshot.put(taken, make_model(EnvironmentConfig(id="Hopper-v4")))
    assert not snapshot.put(changed, make_model(EnvironmentConfig(id="Hopper-v4")))


class Itself(Counting):
    """An environment that is reached from its own attributes: unpickled, it would be a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.moves = {(0, 1): self.step}


gym.register("Itself-v0", f"{__name__}:Itself")


def test_an_environment_that_holds_itself_is_not_pickled() -> None:
    taken = snapshot.take(make_model(EnvironmentConfig(id="Itself-v0")).learn(32))
    assert taken["environments"] == [None]


class TakeAt(BaseCallback):
    """Takes a snapshot between two rollouts."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.taken: Any = None

    def _on_rollout_start(self) -> None:
        if self.taken is None and self.num_timesteps >= self.step:
            self.taken = through_a_file(snapshot.take(self.model))

    def _on_step(self) -> bool:
        return True


OFF_POLICY = {"learning_starts": 50, "buffer_size": 400, "batch_size": 8}
NOISE = NormalActionNoise(np.zeros(1), np.ones(1))
PENDULUM, CARTPOLE = EnvironmentConfig(id="Pendulum-v1", n_envs=2), EnvironmentConfig("CartPole-v1")


@pytest.mark.parametrize(
    ("algorithm", "config", "settings"),
    [
        (sb3.SAC, PENDULUM, OFF_POLICY),
        (sb3.SAC, PENDULUM, OFF_POLICY | {"ent_coef": 0.1}),
        (
            sb3.TD3,
            PENDULUM,
            OFF_POLICY | {"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))},
        ),
        (sb3.DDPG, PENDULUM, OFF_POLICY),
        (sb3.DQN, CARTPOLE, OFF_POLICY | {"n_steps": 3}),
        (
            sb3.DQN,
            CARTPOLE,
            OFF_POLICY
            | {
                "optimize_memory_usage": True,
                "replay_buffer_kwargs": {"handle_timeout_termination": False},
            },
        ),
        (sb3.PPO, PENDULUM, {"n_steps": 32}),
        (sb3.A2C, CARTPOLE, {}),
        (fast.TD3, PENDULUM, OFF_POLICY),
        (fast.DQN, CARTPOLE, OFF_POLICY),
        (fast.PPO, PENDULUM, {"n_steps": 32, "batch_size": 16}),
    ],
)
def test_every_algorithm_goes_on_with_the_same_bits(
    algorithm: Any, config: EnvironmentConfig, settings: dict[str, Any]
) -> None:
    def make() -> Any:
        settled = {"policy_kwargs": {"net_arch": [8]}, "seed": 1, "device": "cpu"} | settings
        return algorithm("MlpPolicy", make_vector(config, 0.99), **settled)

    undisturbed, callback = make(), TakeAt(140)
    undisturbed.learn(320, callback=callback)
    resumed = make()
    assert snapshot.put(callback.taken, resumed)
    assert 140 <= resumed.num_timesteps < 320
    resumed.learn(320 - resumed.num_timesteps, reset_num_timesteps=False)
    assert resumed.num_timesteps == undisturbed.num_timesteps
    assert_same(resumed.get_parameters(), undisturbed.get_parameters())


def assert_same(value: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(value, expected)
    elif isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key in expected:
            assert_same(value[key], expected[key])
    elif isinstance(expected, list):
        assert len(value) == len(expected)
        for both in zip(value, expected, strict=True):
            assert_same(*both)
    else:
        assert value == expected


@pytest.mark.parametrize(
    ("algorithm", "settings", "reason"),
    [
        (sb3.SAC, {"use_sde": True}, "use_sde = True"),
        (sb3.PPO, {"use_sde": True}, "use_sde = True"),
        (
            sb3.TD3,
            {"action_noise": OrnsteinUhlenbeckActionNoise(np.zeros(1), np.ones(1))},
            "TD3.action_noise is or has a .*OrnsteinUhlenbeckActionNoise",
        ),
    ],
)
def test_an_algorithm_that_could_not_go_on_is_refused(
    algorithm: Any, settings: dict[str, Any], reason: str
) -> None:
    model = algorithm("MlpPolicy", make_vector(PENDULUM, 0.99), **settings)
    with pytest.raises(plain_data.NoSnapshotError, match=reason):
        snapshot.take(model)


def test_a_snapshot_of_another_version_is_told() -> None:
    model = make_model(CARTPOLE)
    model._setup_learn(1)
    taken = snapshot.take(model)
    del taken["format"]
    with pytest.raises(ValueError, match="another version of this code"):
        snapshot.put(taken, model)
