"""A training from its configuration to a record's fields: what is refused, told and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize
from support.trainings import StateAt, assert_goes_on

from alphagrad.sb3 import optimizers
from experiments.callbacks import EnvironmentFaultError
from experiments.environments import VectorEnvironment
from experiments.mistakes import ConfigurationError
from experiments.origin import begin
from experiments.training import Training

DQN = [
    *["algorithm=dqn_cleanrl", "optimizer=adam", "algorithm.learning_starts=100"],
    *["environment.id=CartPole-v1", "evaluation.points=0"],
]


def test_what_cannot_go_on_from_a_checkpoint_is_refused(
    make_training: Callable[..., Training],
) -> None:
    overrides = ["algorithm=ppo", "environment.id=Pendulum-v1", "+algorithm.use_sde=true"]
    message = r"checkpoint\.points = 20: .* use_sde = True .*; checkpoint\.points=0 trains without"
    with pytest.raises(ConfigurationError, match=message):
        make_training(*overrides)
    make_training(*overrides, "checkpoint.points=0")


def test_products_have_the_precision_of_their_run(make_training: Callable[..., Training]) -> None:
    try:
        make_training(*DQN, "matmul_precision=medium")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        make_training(*DQN)
        assert torch.get_float32_matmul_precision() == "highest"


def test_an_evaluation_comes_to_an_end_where_the_environment_has_none(
    make_training: Callable[..., Training], capsys: pytest.CaptureFixture[str]
) -> None:
    walk = [
        *["algorithm=dqn_cleanrl", "optimizer=adam", "algorithm.learning_starts=100"],
        *["environment.id=CliffWalking-v1", "evaluation.points=1", "evaluation.episodes=1"],
    ]
    training = make_training(*walk, "total_steps=120")
    expected = "CliffWalking-v1 has no time limit: episodes of evaluations end after 10,000 steps\n"
    assert capsys.readouterr().err.endswith(expected)
    assert training.learn() is None
    [[value]] = training.outcome()["evaluation"]["returns"]
    assert -100 * 10_000 <= value <= -1

    make_training(*walk, "total_steps=120", "+environment.kwargs.max_episode_steps=50")
    assert capsys.readouterr().err == ""


class Broken(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.full(2, np.nan, dtype=np.float32), 1.0, False, False, {}


gym.register("Broken-v0", f"{__name__}:Broken", max_episode_steps=10)


def test_an_environments_nan_is_no_divergence_unless_the_parameters_had_one(
    make_training: Callable[..., Training],
) -> None:
    overrides = [*DQN, "environment.id=Broken-v0"]
    message = "Broken-v0 returned observations that are not finite at step 1"
    with pytest.raises(EnvironmentFaultError, match=message):
        make_training(*overrides).learn()

    training = make_training(*overrides)
    training.observers.guard.next_check = 1_000  # the parameters' turn has not come
    with torch.no_grad():
        next(training.model.policy.parameters()).fill_(torch.nan)
    diverged = training.learn()
    assert diverged is not None
    assert "is not finite at step 1 (EnvironmentFaultError)" in diverged


class Rows(KVWriter):
    """Keeps what is logged, without what times it."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        assert step not in self.rows
        timed = ("time/fps", "time/time_elapsed")
        self.rows[step] = {key: value for key, value in key_values.items() if key not in timed}

    def close(self) -> None:
        pass


def test_what_was_logged_and_not_yet_written_is_written_after_an_interruption(
    make_training: Callable[..., Training],
) -> None:
    overrides = [*DQN, "total_steps=1200", "evaluation.points=4", "evaluation.episodes=1"]

    def logging() -> tuple[Training, Rows]:
        training, rows = make_training(*overrides), Rows()
        training.model.set_logger(Logger(None, [rows]))
        return training, rows

    undisturbed, expected = logging()
    state = StateAt(undisturbed, 600)
    undisturbed.learn(state)
    state.content.seek(0)
    resumed, rows = logging()
    assert resumed.restore(torch.load(state.content, weights_only=True))
    step = resumed.model.num_timesteps
    resumed.learn()
    later = {key: row for key, row in expected.rows.items() if key > step}
    assert any("evaluation/return_mean" in row for row in later.values())
    assert rows.rows == later
    fields = undisturbed.outcome() | {"timing": None}
    assert resumed.outcome() | {"timing": None} == fields


@pytest.mark.parametrize(
    ("algorithm", "rates"),
    [
        (["algorithm=ppo"], (0.5, 0.0)),  # 64 of 128 steps are done at the first update
        # From a rollout's begin on; without an end, it goes to 0, as in CleanRL's script.
        (["algorithm=ppo_cleanrl"], (1.0, 0.5)),
        (["algorithm=a2c", "algorithm.n_steps=64"], (0.5, 0.0)),
    ],
)
def test_the_learning_rate_and_alpha_go_linearly_to_their_ends(
    algorithm: list[str], rates: tuple[float, float], make_training: Callable[..., Training]
) -> None:
    overrides = [
        *[*algorithm, "environment.id=Pendulum-v1", "total_steps=128", "algorithm.n_steps=64"],
        *["algorithm.learning_rate=3e-3", "algorithm.learning_rate_end=1e-3"],
        *["optimizer=alphagrad", "optimizer.alpha=10", "optimizer.alpha_end=2"],
        "evaluation.points=0",
    ]
    assert_goes_on(make_training, *overrides, same_episodes=True)
    training = make_training(*overrides)
    [optimizer] = optimizers(training.model).values()
    used: list[tuple[float, float]] = []

    def note(*_: Any) -> None:
        group = optimizer.param_groups[0]
        if (group["lr"], group["alpha"]) not in used:
            used.append((group["lr"], group["alpha"]))

    optimizer.register_step_pre_hook(note)
    assert training.learn() is None
    expected = [(1e-3 + 2e-3 * rate, 2 + 8 * rate) for rate in rates]
    assert used == [pytest.approx(pair) for pair in expected]


def test_a_schedule_of_an_off_policy_algorithm(make_training: Callable[..., Training]) -> None:
    overrides = ["algorithm=td3", "environment.id=Pendulum-v1", "total_steps=200", "optimizer=adam"]
    overrides += ["algorithm.learning_rate_end=0", "algorithm.policy_kwargs.net_arch=[8]"]
    training = assert_goes_on(make_training, *overrides, "evaluation.points=0", same_episodes=True)
    for optimizer in optimizers(training.model).values():
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


class Picture(gym.Env[Any, Any]):
    """A grey square, whose shade an action changes."""

    observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = gym.spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.shade = int(self.np_random.integers(100))
        return self._seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.shade = min(max(self.shade + (5 if action else -5), 0), 255)
        return self._seen(), float(action), self.shade == 0, False, {}

    def _seen(self) -> np.ndarray:
        return np.full((1, 36, 36), self.shade, dtype=np.uint8)


gym.register("Picture-v0", f"{__name__}:Picture", max_episode_steps=20)
STACK = "{_target_:gymnasium.wrappers.FrameStackObservation,stack_size:3}"
SMALL = ["evaluation.points=2", "evaluation.episodes=1", "algorithm.policy_kwargs.net_arch=[8]"]
PPO = ["algorithm=ppo", "algorithm.n_steps=32", "algorithm.batch_size=32", "total_steps=256"]


@pytest.mark.parametrize(
    "overrides",
    [
        [
            *["algorithm=dqn", "total_steps=120", "algorithm.learning_starts=40"],
            *["environment.id=Picture-v0", "algorithm.policy=CnnPolicy"],
            *["algorithm.buffer_size=100", "algorithm.batch_size=8"],
            f"environment.wrappers=[{STACK},{{_target_:gymnasium.wrappers.ReshapeObservation,"
            "shape:[3,36,36]}]",
        ],
        [
            *[*PPO, "environment.id=CartPole-v1", "environment.vec_normalize={}"],
            *["environment.n_envs=2", f"environment.wrappers=[{STACK}]"],
        ],
        [
            *["algorithm=td3", "total_steps=120", "algorithm.learning_starts=40"],
            *["environment.id=Pendulum-v1", "environment.vec_normalize={norm_reward:false}"],
        ],
    ],
)
def test_a_training_goes_on_with_what_is_around_its_environment(
    overrides: list[str], make_training: Callable[..., Training]
) -> None:
    arguments = [*overrides, *SMALL, "optimizer=alphagrad"]
    training = assert_goes_on(make_training, *arguments, same_episodes=True)
    assert len(training.outcome()["evaluation"]["returns"]) == 2


@pytest.mark.slow
def test_environments_in_processes_of_their_own_are_the_same_and_begin_anew(
    make_training: Callable[..., Training],
) -> None:
    arguments = [*PPO, *SMALL, "environment.id=CartPole-v1", "optimizer=alphagrad"]
    subproc = "environment.vectorization=subproc"
    training = assert_goes_on(make_training, *arguments, subproc, same_episodes=False)
    training.close()
    here = make_training(*arguments)
    assert here.learn() is None
    assert training.outcome() | {"timing": None} == here.outcome() | {"timing": None}


def test_a_kept_model_has_the_statistics_of_vec_normalize(
    make_training: Callable[..., Training], tmp_path: Path
) -> None:
    overrides = [*PPO, *SMALL, "environment.id=CartPole-v1", "environment.vec_normalize={}"]
    training = make_training(*overrides, "optimizer=adam")
    training.learn()
    training.keep_model(tmp_path)
    kept = VecNormalize.load(str(tmp_path / "vec_normalize.pkl"), training.environment.venv)  # type: ignore
    np.testing.assert_array_equal(kept.obs_rms.mean, training.environment.obs_rms.mean)  # type: ignore


def test_the_statistics_of_observations_come_with_a_model(
    make_training: Callable[..., Training], tmp_path: Path
) -> None:
    ppo = ["algorithm=ppo", "environment.id=Pendulum-v1", "algorithm.n_steps=32", "optimizer=adam"]
    ppo += ["total_steps=64", "algorithm.batch_size=32", "evaluation.points=0"]
    for around in ("environment.normalize=true", "environment.vec_normalize={}"):
        first = make_training(*ppo, around)
        assert first.learn() is None
        first.keep_model(tmp_path)
        second = make_training(*ppo, around, f"origin={tmp_path}/model.zip", "seed=1")
        begin(second.config, second.model)
        found = []
        for training in (first, second):
            vector = training.environment
            if isinstance(vector, VectorEnvironment):
                found.append(vars(vector.envs[0].get_wrapper_attr("obs_rms")))
            else:
                found.append(vars(vector.obs_rms))  # type: ignore[attr-defined]
        np.testing.assert_equal(found[1], found[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["environment.wrappers=[{_target_:gymnasium.wrappers.No}]"], r"wrappers\.0\._target_ = "),
        (["environment.wrappers=[{_target_:math.sqrt}]"], "should be a subclass of Wrapper"),
        (["environment.wrappers=[{stack_size:3}]"], r"environment\.wrappers\.0\._target_ = None"),
        (
            ["environment.wrappers=[{_target_:gymnasium.wrappers.FrameStackObservation,stack:3}]"],
            "has no such argument; did you mean environment.wrappers.0.stack_size",
        ),
        (
            [f"environment.wrappers=[{STACK},{STACK.replace('3', '0')}]"],
            r"environment\.wrappers\.1 \(FrameStackObservation\): The stack_size needs",
        ),
        (["environment.wrappers=[{_target_:gymnasium.wrappers.TimeLimit,env:3}]"], "no such arg"),
        (["environment.wrappers=3"], r"environment\.wrappers = 3: should be a valid list"),
        (["environment.vec_normalize={clip:3}"], "VecNormalize has no such argument"),
        (["environment.vec_normalize={training:false}"], "VecNormalize has no such argument"),
        (["environment.vec_normalize={}", "environment.normalize=true"], "should be false"),
        (["environment.vectorization=threads"], "should be 'dummy' or 'subproc'"),
        (["environment.vectorization=subproc", "environment.normalize=true"], "should be false"),
    ],
)
def test_what_cannot_be_put_around_an_environment_is_refused(
    overrides: list[str], message: str, make_training: Callable[..., Training]
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_training("environment.id=CartPole-v1", "optimizer=adam", *overrides)
