"""The fast paths of DQN and TD3 against SB3's modules and autograd."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import algorithms
from experiments.agents.mlp import Mlp

DQN = ["protocol=dqn_cleanrl", "algorithm.learning_starts=500"]
TD3 = ["protocol=td3_cleanrl", "algorithm.learning_starts=300"]
CASES = {
    "dqn-adam": ([*DQN, "optimizer=adam"], 1500),
    "dqn-alphagrad": ([*DQN, "optimizer=alphagrad", "optimizer.alpha=10"], 1500),
    # Clipped gradients and two environments.
    "dqn-clipped": (
        [*DQN, "optimizer=adam", "algorithm.max_grad_norm=0.5", "environment.n_envs=2"],
        2000,
    ),
    "td3-adam": ([*TD3, "optimizer=adam"], 400),
    "td3-alphagrad": ([*TD3, "optimizer=alphagrad"], 400),
    # Observations in float64, actions in [-2, 2], time limits.
    "td3-pendulum": (
        [
            *["algorithm=td3_cleanrl", "environment.id=Pendulum-v1", "optimizer=adam"],
            *["algorithm.learning_starts=300", "algorithm.policy_delay=1"],
        ],
        400,
    ),
}


@pytest.fixture
def slow_path(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def use() -> None:
        monkeypatch.setattr(algorithms, "FUSED", ())
        monkeypatch.setattr(Mlp, "supports", staticmethod(lambda policy: False))

    return use


@pytest.mark.parametrize("case", CASES)
def test_the_fast_path_is_the_same_algorithm(
    make: Callable[..., Any], slow_path: Callable[[], None], case: str
) -> None:
    overrides, steps = CASES[case]
    fast = make(*overrides)
    assert fast.networks is not None
    fast.learn(steps)
    slow_path()
    stock = make(*overrides)
    assert stock.networks is None
    stock.learn(steps)
    assert fast._n_updates == stock._n_updates >= 75
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        rows = [
            getattr(model.replay_buffer, name)[: fast.replay_buffer.pos] for model in (fast, stock)
        ]
        np.testing.assert_allclose(*rows, rtol=1e-4, atol=1e-5)
    logged = [
        {name: value for name, value in model.logger.name_to_value.items() if "train/" in name}
        for model in (fast, stock)
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5, abs=1e-5)
    torch.testing.assert_close(
        fast.policy.state_dict(), stock.policy.state_dict(), rtol=0, atol=1e-5
    )
    assert fast.replay_buffer.pos == stock.replay_buffer.pos


@pytest.mark.parametrize("case", ["dqn-adam", "td3-adam"])
@pytest.mark.parametrize("column", ["rewards", "observations", "next_observations"])
def test_the_fast_path_hides_no_nan(make: Callable[..., Any], case: str, column: str) -> None:
    model = make(*CASES[case][0])
    model.learn(520)
    getattr(model.replay_buffer, column)[:520] = math.nan
    model.train(gradient_steps=1, batch_size=32)
    losses = [value for name, value in model.logger.name_to_value.items() if "loss" in name]
    assert any(math.isnan(loss) for loss in losses)
    assert any(parameter.isnan().any() for parameter in model.policy.parameters())


@pytest.mark.parametrize("case", ["dqn-adam", "td3-adam"])
def test_a_loaded_model_trains_its_own_parameters(
    make: Callable[..., Any], case: str, tmp_path: Path
) -> None:
    overrides, steps = CASES[case]
    model = make(*overrides)
    model.learn(steps)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env())
    torch.testing.assert_close(
        loaded.policy.state_dict(), model.policy.state_dict(), rtol=0, atol=0
    )
    observation = model.get_env().reset()
    action, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
    before = [parameter.clone() for parameter in loaded.policy.parameters()]
    loaded.learn(steps, reset_num_timesteps=True)
    after = list(loaded.policy.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_other_policies_go_through_sb3(make: Callable[..., Any]) -> None:
    model = make(
        *TD3,
        "optimizer=adam",
        "+algorithm.policy_kwargs.activation_fn._target_=hydra.utils.get_class",
        "+algorithm.policy_kwargs.activation_fn.path=torch.nn.ELU",
    )
    assert model.networks is None
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(310)
    after = list(model.policy.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))
