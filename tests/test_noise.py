"""The measure of gradient noise: what it finds where that is known, and what it leaves behind."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose

from alphagrad.sb3 import optimizers
from experiments.convergence.noise import BATCHES, POINTS, NoiseMeter, measure, spread, table
from experiments.mistakes import ConfigurationError
from experiments.validation import validate

ONE_BATCH = [
    *["algorithm=ppo", "environment.id=CartPole-v1", "optimizer=alphagrad"],
    *["algorithm.n_steps=64", "algorithm.batch_size=64", "algorithm.n_epochs=3"],
]


def test_spread() -> None:
    assert spread([torch.tensor([[3.0], [4.0]]), torch.tensor([[3.0], [8.0]])]) == (45**0.5, 2)


def test_a_whole_rollout_has_no_noise(make: Callable[..., Any]) -> None:
    meter = NoiseMeter(64 * POINTS)
    make(*ONE_BATCH).learn(64 * (POINTS + 1), callback=meter)
    assert [noise.step for noise in meter.found] == [64 * (1 + point) for point in range(POINTS)]
    for noise in meter.found:
        assert noise.batch == 64
        assert noise.norm > 0.01
        assert noise.sigma < 1e-5
    assert len(table(meter.found).splitlines()) == 2 + POINTS


@pytest.mark.parametrize(
    "overrides",
    [
        [*ONE_BATCH, "algorithm.batch_size=16", "optimizer.momentum=0.9"],
        ["protocol=dqn_cleanrl", "algorithm.learning_starts=200", "optimizer=alphagrad"],
        ["protocol=td3_cleanrl", "algorithm.learning_starts=200", "optimizer=alphagrad"],
    ],
    ids=["ppo", "dqn", "td3"],
)
def test_the_training_stays_where_it_is(make: Callable[..., Any], overrides: list[str]) -> None:
    model = make(*overrides)
    meter = NoiseMeter(256)
    model.learn(256, callback=meter)
    assert meter.found
    named = optimizers(model)
    before = copy.deepcopy(model.policy.state_dict())
    states = {name: copy.deepcopy(one.state_dict()) for name, one in named.items()}
    updates = model._n_updates
    meter.found.clear()
    meter.measure()
    assert [noise.optimizer for noise in meter.found] == list(named)
    assert all(noise.sigma > 0 and noise.floor >= noise.sigma for noise in meter.found)
    assert model._n_updates == updates < BATCHES
    torch.testing.assert_close(model.policy.state_dict(), before, rtol=0, atol=0)
    for name, one in named.items():
        torch.testing.assert_close(one.state_dict()["state"], states[name]["state"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["algorithm=ppo", "optimizer=adam"], "optimizer"),
        (["algorithm=ppo", "algorithm._target_=stable_baselines3.A2C"], "algorithm"),
    ],
)
@pytest.mark.usefixtures("make")
def test_what_cannot_be_measured_is_refused(overrides: list[str], words: str) -> None:
    if "A2C" in overrides[-1]:
        overrides = [*overrides, "~algorithm.batch_size", "~algorithm.n_epochs"]
    with pytest.raises(ConfigurationError, match=words):
        measure(validate(compose("train", [*overrides, "environment.id=CartPole-v1"])))
