"""The return curve, evaluation and the divergence guard on models that really train."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import A2C, DQN, TD3
from support.runs import make_run

from alphagrad.sb3 import UpdateDiagnostics, policy_kwargs
from experiments.callbacks import (
    Diagnostics,
    DivergedError,
    DivergenceGuard,
    EnvironmentFaultError,
    EpisodeCurve,
    Evaluation,
)
from experiments.config import EnvironmentConfig
from experiments.environments import make_vector
from experiments.views.heartbeat import Heartbeat

CARTPOLE = EnvironmentConfig(id="CartPole-v1")


@given(
    total=st.integers(1, 3000),
    shares=st.lists(st.floats(0, 1, exclude_min=True), max_size=50),
)
def test_each_episode_is_in_the_cell_in_which_it_ended(total: int, shares: list[float]) -> None:
    steps = sorted(max(1, round(share * total)) for share in shares)
    curve = EpisodeCurve(total)
    for number, step in enumerate(steps):
        curve.add(step, float(number), number + 1)
    result = curve.result()["curve"]
    assert len(result["step"]) == min(200, total)
    assert result["step"][-1] == total
    assert np.all(np.diff(result["step"]) > 0)
    low = 0
    for high, count, mean in zip(
        result["step"], result["episodes"], result["return_mean"], strict=True
    ):
        inside = [number for number, step in enumerate(steps) if low < step <= high]
        assert count == len(inside)
        assert mean == (pytest.approx(np.mean(inside)) if inside else None)
        low = high


def test_an_episode_beyond_the_end_counts_in_the_last_cell() -> None:
    curve = EpisodeCurve(10)
    curve.add(11, 5.0, 1)
    assert curve.result()["curve"]["return_mean"] == [*[None] * 9, 5.0]


def test_the_final_score_is_the_mean_of_the_last_100_episodes() -> None:
    curve = EpisodeCurve(1000)
    assert curve.result()["final_score"] is None
    for episode in range(150):
        curve.add(episode + 1, float(episode), 1)
    assert curve.result()["final_score"] == np.mean(range(50, 150))
    assert curve.result()["final_episodes"] == 100


def test_evaluation_is_evenly_spaced_and_does_not_change_the_training() -> None:
    def train(points: int) -> tuple[Any, Evaluation]:
        model = DQN("MlpPolicy", make_vector(CARTPOLE, 0.99), learning_starts=50, seed=1)
        evaluation = Evaluation(
            make_vector(CARTPOLE, 0.99),
            "CartPole-v1",
            points=points,
            episodes=2,
            total_steps=400,
            seed=1,
            at_start=True,
        )
        model.learn(400, callback=evaluation)
        return model, evaluation

    plain, none = train(points=0)
    evaluated, evaluation = train(points=4)
    assert none.result() == {"step": [], "returns": []}
    assert evaluation.result()["step"] == [0, 100, 200, 300, 400]
    assert [len(returns) for returns in evaluation.result()["returns"]] == [2] * 5
    for before, after in zip(plain.policy.parameters(), evaluated.policy.parameters(), strict=True):
        assert torch.equal(before, after)


def test_the_last_evaluation_is_at_the_end_of_a_shorter_run() -> None:
    model = A2C("MlpPolicy", make_vector(CARTPOLE, 0.99), n_steps=5)
    evaluation = Evaluation(
        make_vector(CARTPOLE, 0.99), "CartPole-v1", points=2, episodes=1, total_steps=103, seed=0
    )
    model.learn(100, callback=evaluation)
    assert evaluation.result()["step"] == [55, 100]


def test_diagnostics_measure_one_update_at_each_point_once_there_are_updates() -> None:
    model = DQN(
        "MlpPolicy",
        make_vector(CARTPOLE, 0.99),
        learning_starts=100,
        policy_kwargs=policy_kwargs(alpha=10),
    )
    diagnostics = Diagnostics(400)
    measured: list[int] = []
    hook = UpdateDiagnostics._before_step

    def count(self: Diagnostics, optimizer: torch.optim.Optimizer, *arguments: object) -> None:
        hook(self, optimizer, *arguments)
        measured.extend([model.num_timesteps] * bool(self.before))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Diagnostics, "_before_step", count)
        model.learn(400, callback=diagnostics)
    result = diagnostics.result()
    assert result["step"] == list(range(0, 400, 20))
    names = {name for name, _ in model.q_net.named_parameters(prefix="q_net")}
    assert set(result["tensors"]) == names
    sizes = {name: tensor.numel() for name, tensor in model.q_net.named_parameters(prefix="q_net")}
    assert result["elements"] == sizes
    # The points before learning starts have no update; the last of them gets the first one.
    assert measured == [104, *range(124, 400, 20)]
    for quantities in result["tensors"].values():
        for values in quantities.values():
            assert [value is None for value in values] == [True] * 5 + [False] * 15
        assert all(0 <= value <= 1 for value in quantities["saturated_share"][5:])
        assert all(value > 0 for value in quantities["update_rms"][5:])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_guard_names_a_parameter_that_is_not_finite(value: float) -> None:
    model = A2C("MlpPolicy", make_vector(CARTPOLE, 0.99))
    with torch.no_grad():
        model.policy.value_net.bias.fill_(value)
    with pytest.raises(DivergedError, match=r"value_net\.bias is not finite at step 0"):
        model.learn(100, callback=DivergenceGuard("CartPole-v1"))


def test_the_guard_names_a_loss_and_keeps_the_last_good_metrics() -> None:
    guard = DivergenceGuard("CartPole-v1")
    losses = iter([0.5, 0.25, float("nan")])

    def train(self: DQN, gradient_steps: int, batch_size: int = 100) -> None:
        self.logger.record("train/loss", next(losses))

    model = type("Stub", (DQN,), {"train": train})(
        "MlpPolicy", make_vector(CARTPOLE, 0.99), learning_starts=0, train_freq=1
    )
    with pytest.raises(DivergedError, match="train/loss is nan at step 3"):
        model.learn(100, callback=guard)
    assert guard.metrics["train/loss"] == 0.25


class Faulty(gym.Env[Any, Any]):
    """Episodes of ten steps, and something that is not finite in one of them.

    Args:
        what: ``observation`` or ``reward``.
        at: the step; 0 is the first reset, a multiple of ten an episode's end.
        value: what is returned.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, what: str, at: int, value: float = np.nan) -> None:
        self.what, self.at, self.value, self.count = what, at, value, 0

    def observation(self) -> np.ndarray:
        fault = self.what == "observation" and self.count == self.at
        return np.array([self.value if fault else 0.5, 0.0])

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        observation = self.observation() if self.count == 0 else np.zeros(2)
        return observation, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        fault = self.what == "reward" and self.count == self.at
        reward = self.value if fault else 1.0
        return self.observation(), reward, self.count % 10 == 0, False, {}


gym.register("Faulty-v0", f"{__name__}:Faulty")


@pytest.mark.parametrize("algorithm", [A2C, TD3])
@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("observation", 0, np.nan),
        ("observation", 15, np.nan),
        ("observation", 20, np.inf),  # replaced by the next episode's first
        ("observation", 15, 1e39),  # finite, but not in the space's float32
        ("reward", 15, np.nan),
        ("reward", 20, -np.inf),
        ("reward", 15, 1e39),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_what_an_environment_returns_is_its_own_fault(
    algorithm: type[A2C | TD3], what: str, at: int, value: float
) -> None:
    kwargs = {"what": what, "at": at, "value": value}
    config = EnvironmentConfig(id="Faulty-v0", kwargs=kwargs)
    model = algorithm("MlpPolicy", make_vector(config, 0.99), seed=0, device="cpu")
    message = f"Faulty-v0 returned {what}s that are not finite at step {at}"
    with pytest.raises(EnvironmentFaultError, match=message):
        model.learn(100, callback=DivergenceGuard("Faulty-v0"))


def test_an_action_is_the_policys_even_where_the_environment_passes_it_on() -> None:
    guard = DivergenceGuard("Faulty-v0")
    guard.locals = {
        "actions": np.array([[np.nan]]),
        "rewards": np.array([np.nan]),
        "new_obs": np.array([[np.nan]]),
        "dones": np.array([False]),
        "infos": [{}],
    }
    guard.model = SimpleNamespace(num_timesteps=7)  # type: ignore[assignment]
    with pytest.raises(DivergedError, match="actions are not finite at step 7"):
        guard.on_step()


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_an_evaluation_tells_whose_fault_it_is(what: str) -> None:
    def evaluation() -> Evaluation:
        config = EnvironmentConfig(id="Faulty-v0", kwargs={"what": what, "at": 5})
        vector = make_vector(config, 0.99)
        return Evaluation(vector, "Faulty-v0", points=1, episodes=1, total_steps=20, seed=0)

    sound = EnvironmentConfig(id="Faulty-v0", kwargs={"what": what, "at": -1})
    model = A2C("MlpPolicy", make_vector(sound, 0.99), seed=0, device="cpu")
    message = f"Faulty-v0 in an evaluation returned {what}s that are not finite at step 20"
    with pytest.raises(EnvironmentFaultError, match=message):
        model.learn(20, callback=evaluation())
    with torch.no_grad():
        model.policy.get_parameter("action_net.bias").fill_(math.nan)
    found = evaluation()
    found.init_callback(model)
    found.num_timesteps = 20
    with pytest.raises(DivergedError, match="evaluated actions are not finite at step 20"):
        found.on_rollout_start()


def test_the_rate_leaves_out_what_was_done_before_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = SimpleNamespace(num_timesteps=400)
    run = make_run(tmp_path, total_steps=1000)
    run.first_step = 400
    heartbeat = Heartbeat(run, bar=False)
    heartbeat.init_callback(model)
    heartbeat.on_training_start({}, {})
    [task] = heartbeat.progress.tasks
    assert task.completed == 400
    task.start_time, task.stop_time = 0.0, 2.0  # holds the clock
    model.num_timesteps = 410
    heartbeat.on_step()
    assert run.status["step"] == 410
    assert (task.completed, task.fields["rate"]) == (410, 5.0)
    assert capsys.readouterr().out == ""

    heartbeat.next_report = heartbeat.next_line = 0.0  # a minute later
    model.num_timesteps = 1000
    heartbeat.on_step()
    line = f"{run.folder.name}: 1,000 of 1,000 steps, 300 steps/s, 0:00:00 left\n"
    assert capsys.readouterr().out == line
    assert heartbeat.next_line > 0.0
