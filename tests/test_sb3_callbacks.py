"""The callbacks of alphagrad.sb3: alpha's schedule and the update diagnostics."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import HumanOutputFormat, KVWriter, Logger
from support.sb3_models import ALGORITHMS, APART, ONE_OPTIMIZER, alphas, assert_same, make, tiny

from alphagrad import AlphaGrad
from alphagrad.sb3 import SATURATION, AlphaSchedule, UpdateDiagnostics, optimizers, policy_kwargs


class AlphaUsed:
    """What alpha and learning rate each step of an optimizer was taken with."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.steps: list[tuple[int, float, float]] = []
        for optimizer in optimizers(model).values():
            if isinstance(optimizer, AlphaGrad):
                optimizer.register_step_pre_hook(self.look)
        self.model = model

    def look(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        group = optimizer.param_groups[0]
        self.steps.append((self.model.num_timesteps, group["alpha"], group["lr"]))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_alpha_follows_its_schedule(name: str) -> None:
    apart = {} if name in ONE_OPTIMIZER else APART
    model = make(name, tiny(alpha=3.0, **apart), learning_rate=lambda progress: 1e-3 * progress)
    used = AlphaUsed(model)
    callback = AlphaSchedule(lambda progress: 1 + 9 * progress)
    model.learn(64, callback=callback)
    assert len({step for step, _, _ in used.steps}) >= 4
    for step, alpha, learning_rate in used.steps:
        assert alpha == pytest.approx(1 + 9 * (1 - step / 64))
        assert learning_rate == pytest.approx(1e-3 * (1 - step / 64))  # SB3's own cadence
    assert used.steps[-1][1] == 1.0
    assert set(alphas(model).values()) == {1.0}


def test_schedule_goes_on_with_a_second_learn() -> None:
    model = make("ppo", tiny())
    used = AlphaUsed(model)
    model.learn(32, callback=AlphaSchedule(lambda progress: 1 + progress))
    model.learn(
        32, callback=AlphaSchedule(lambda progress: 1 + progress), reset_num_timesteps=False
    )
    expected = {16: 1.5, 32: 1.0, 48: 1.25, 64: 1.0}
    assert {step: alpha for step, alpha, _ in used.steps} == expected


def test_progress_stops_at_zero() -> None:
    # 3 rollouts of 16 steps for a total of 40: SB3's progress ends at -0.2.
    model = make("ppo", tiny())
    seen: list[float] = []

    def schedule(progress: float) -> float:
        seen.append(progress)
        return 1.0

    model.learn(40, callback=AlphaSchedule(schedule))
    assert seen == [1 - 16 / 40, 1 - 32 / 40, 0.0]
    assert model._current_progress_remaining == pytest.approx(-0.2)


def test_a_numpy_schedule_can_be_saved_and_loaded(tmp_path: Path) -> None:
    model = make("ppo", tiny(alpha=np.float64(3.0)))
    model.learn(16, callback=AlphaSchedule(lambda progress: np.exp(progress)))
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert alphas(loaded) == {"policy.optimizer": 1.0}


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_schedule_refuses_bad_values(bad: float) -> None:
    model = make("ppo", tiny())
    callback = AlphaSchedule(lambda progress: bad if progress < 0.7 else 1.0)
    with pytest.raises(ValueError, match=r"schedule\(0.5\) = .*: alpha must be > 0 and finite"):
        model.learn(64, callback=callback)


def test_schedule_refuses_what_it_cannot_set() -> None:
    with pytest.raises(TypeError, match="must be a function of the progress, not 3"):
        AlphaSchedule(3.0)  # type: ignore[arg-type]
    model = make("ppo", tiny(torch.optim.Adam))
    with pytest.raises(TypeError, match="needs a model with an AlphaGrad optimizer"):
        model.learn(16, callback=AlphaSchedule(lambda progress: 1.0))


class Collector(KVWriter):
    """An output of SB3's logger that keeps all."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.rows.append(dict(key_values))

    def close(self) -> None:
        pass


class ByHand:
    """The diagnostics of every step of a model's optimizers, by NumPy in float64."""

    def __init__(self, model: BaseAlgorithm) -> None:
        named = model.policy.named_parameters()
        self.names: dict[torch.Tensor, str] = {tensor: name for name, tensor in named}
        self.values: dict[str, list[float]] = {}
        self.before: dict[torch.Tensor, Any] = {}
        for optimizer in optimizers(model).values():
            optimizer.register_step_pre_hook(self.look)
            optimizer.register_step_post_hook(self.compute)

    def tensors(self, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        return [t for t in optimizer.param_groups[0]["params"] if t in self.names]

    def look(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for tensor in self.tensors(optimizer):
            self.before[tensor] = tensor.detach().double().numpy().copy()

    def compute(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        group = optimizer.param_groups[0]
        for tensor in self.tensors(optimizer):
            assert tensor.grad is not None
            gradient = tensor.grad.double().numpy()
            norm = np.sqrt((gradient**2).sum())
            change = tensor.detach().double().numpy() - self.before[tensor]
            self.add("grad_norm", tensor, norm)
            self.add("update_rms", tensor, np.sqrt((change**2).mean()))
            if isinstance(optimizer, AlphaGrad):
                scale = math.sqrt(gradient.size) if group["alpha_scaling"] == "sqrt" else 1.0
                update = np.tanh(group["alpha"] * scale * gradient / (norm + group["eps"]))
                self.add("saturated_share", tensor, (np.abs(update) >= SATURATION).mean())

    def add(self, quantity: str, tensor: torch.Tensor, value: float) -> None:
        self.values.setdefault(f"diagnostics/{quantity}/{self.names[tensor]}", []).append(value)


def diagnostics(model: BaseAlgorithm) -> dict[str, float]:
    recorded = model.logger.name_to_value
    return {name: value for name, value in recorded.items() if name.startswith("diagnostics/")}


@pytest.mark.parametrize("scaling", ["none", "sqrt"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_diagnostics_are_right(name: str, scaling: str) -> None:
    model = make(name, tiny(alpha=3.0, momentum=0.9, alpha_scaling=scaling, weight_decay=0.1))
    by_hand = ByHand(model)
    model.learn(32, callback=UpdateDiagnostics(every=1), log_interval=10_000)
    found = diagnostics(model)
    assert found.keys() == by_hand.values.keys()
    assert len(found) == 3 * sum(len(by_hand.tensors(o)) for o in optimizers(model).values())
    for key, values in by_hand.values.items():
        assert found[key] == pytest.approx(values[-1], rel=2e-3, abs=1e-7), key
    saturated = [value for key, value in found.items() if "/saturated_share/" in key]
    assert all(0 <= value <= 1 for value in saturated)
    assert any(saturated)


def test_diagnostics_of_adam() -> None:
    model = make("td3", tiny(torch.optim.Adam))
    by_hand = ByHand(model)
    model.learn(12, callback=UpdateDiagnostics(every=1), log_interval=10_000)
    found = diagnostics(model)
    assert found.keys() == by_hand.values.keys()
    assert not any("/saturated_share/" in key for key in found)
    assert found["diagnostics/update_rms/actor.mu.0.weight"] > 0
    for key, values in by_hand.values.items():
        assert found[key] == pytest.approx(values[-1], rel=2e-3, abs=1e-7), key


def test_gradient_norm_is_after_clipping() -> None:
    model = make("ppo", tiny(torch.optim.SGD), max_grad_norm=1e-3)
    model.learn(16, callback=UpdateDiagnostics(every=1))
    found = diagnostics(model)
    norms = [value for key, value in found.items() if "/grad_norm/" in key]
    assert math.hypot(*norms) == pytest.approx(1e-3, rel=1e-2)


def test_every_counts_optimizer_steps_from_the_first() -> None:
    model = make("ppo", tiny())
    by_hand = ByHand(model)
    model.learn(16 * 3, callback=UpdateDiagnostics(every=4))  # 3 rollouts of 4 steps
    for quantity in ("grad_norm", "update_rms"):
        key = f"diagnostics/{quantity}/action_net.weight"
        assert len(by_hand.values[key]) == 12
        assert diagnostics(model)[key] == pytest.approx(by_hand.values[key][8], rel=2e-3)


def test_tensors_without_gradient_are_left_out() -> None:
    model = make("ppo", tiny())
    model.policy.get_parameter("action_net.bias").requires_grad_(False)
    model.learn(16, callback=UpdateDiagnostics())
    found = diagnostics(model)
    assert "diagnostics/update_rms/action_net.weight" in found
    assert not any(key.endswith("action_net.bias") for key in found)


@pytest.mark.parametrize("optimizer", [AlphaGrad, torch.optim.Adam])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_diagnostics_change_nothing(name: str, optimizer: type[torch.optim.Optimizer]) -> None:
    plain = make(name, tiny(optimizer))
    plain.learn(32)
    random_state = torch.get_rng_state()
    watched = make(name, tiny(optimizer))
    watched.learn(32, callback=UpdateDiagnostics(every=2))
    assert_same(watched.get_parameters(), plain.get_parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def hooks(model: BaseAlgorithm) -> int:
    return sum(
        len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)
        for optimizer in optimizers(model).values()
    )


class Saver(BaseCallback):
    """Saves the model in the middle of its training."""

    def __init__(self, path: Any) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        if self.num_timesteps == 20:  # the second rollout of PPO, after the first updates of all
            self.hooks = hooks(self.model)
            self.model.save(self.path)
        return True


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_while_watched(name: str, tmp_path: Any) -> None:
    model = make(name, tiny())
    saver = Saver(tmp_path / "model")
    model.learn(32, callback=[UpdateDiagnostics(), saver])
    assert saver.hooks == 2 * len(optimizers(model))
    assert hooks(model) == 0
    loaded = type(model).load(tmp_path / "model", device="cpu")
    assert loaded.num_timesteps == 20
    assert hooks(loaded) == 0


class Interruption(BaseCallback):
    def _on_step(self) -> bool:
        raise KeyboardInterrupt


def test_hooks_of_an_interrupted_training_are_replaced(tmp_path: Any) -> None:
    model = make("ppo", tiny())
    callback = UpdateDiagnostics()
    with pytest.raises(KeyboardInterrupt):
        model.learn(16, callback=[callback, Interruption()])
    saver = Saver(tmp_path / "model")
    model.learn(32, callback=[callback, saver])
    assert saver.hooks == 2
    assert hooks(model) == 0


def test_written_by_the_logger() -> None:
    """To every output but the console, which would raise on names with a long common beginning."""
    console, collector = io.StringIO(), Collector()
    model = make("ppo", policy_kwargs(), learning_rate=lambda progress: progress)
    model.set_logger(Logger(None, [HumanOutputFormat(console), collector]))
    callbacks = [UpdateDiagnostics(every=1), AlphaSchedule(lambda progress: 1 + progress)]
    model.learn(64, callback=callbacks)
    last = collector.rows[-1]
    assert last["diagnostics/update_rms/mlp_extractor.policy_net.0.weight"] > 0
    assert last["diagnostics/update_rms/mlp_extractor.policy_net.2.weight"] > 0
    # The log is written before an update: its losses, learning rate and alpha are the last one's.
    assert [row["train/alpha"] for row in collector.rows] == [1.0, 1.75, 1.5, 1.25]
    assert [row.get("train/learning_rate") for row in collector.rows] == [None, 0.75, 0.5, 0.25]
    assert "alpha" in console.getvalue()
    assert "update_rms" not in console.getvalue()


def test_names_of_dqn_are_those_of_its_policy() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs=tiny(), learning_starts=4)
    model.learn(8, callback=UpdateDiagnostics())
    names = {key.split("/", 2)[2] for key in diagnostics(model)}
    expected = {f"q_net.q_net.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    assert names == expected


@pytest.mark.parametrize("every", [0, -1])
def test_every_is_checked(every: int) -> None:
    with pytest.raises(ValueError, match=f"every = {every}: must be at least 1"):
        UpdateDiagnostics(every)
