"""Trainings that are saved in between, and go on elsewhere with the same bits."""

import io
from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from experiments.training import Training


class StateAt(BaseCallback):
    def __init__(self, training: Training, step: int) -> None:
        super().__init__()
        self.training, self.step, self.content = training, step, io.BytesIO()

    def _on_rollout_start(self) -> None:
        if not self.content.getvalue() and self.num_timesteps >= self.step:
            torch.save(self.training.state(), self.content)

    def _on_step(self) -> bool:
        return True


def assert_goes_on(make: Callable[..., Training], *overrides: str, same_episodes: bool) -> Training:
    """Train with and without an interruption at half of the steps; the ends are the same.

    Args:
        make: makes a training from Hydra's overrides.
        overrides: that describe it.
        same_episodes: whether the episodes go on; if they begin anew, the ends may differ.

    Returns:
        The training that was not interrupted.
    """

    def learn(training: Training, *callbacks: BaseCallback) -> None:
        training.model.set_logger(Logger(None, []))
        assert training.learn(*callbacks) is None

    undisturbed = make(*overrides)
    state = StateAt(undisturbed, undisturbed.config.total_steps // 2)
    learn(undisturbed, state)
    state.content.seek(0)
    resumed = make(*overrides)
    assert resumed.restore(torch.load(state.content, weights_only=True)) is same_episodes
    learn(resumed)
    assert resumed.model._n_updates == undisturbed.model._n_updates > 0
    if same_episodes:
        end, expected = (without_times(t.state()["snapshot"]) for t in (resumed, undisturbed))
        assert_same_bits(end, expected)
        assert resumed.outcome() | {"timing": None} == undisturbed.outcome() | {"timing": None}
    return undisturbed


def without_times(training: dict[str, Any]) -> dict[str, Any]:
    """The training without what only times it: starts, and the episodes' durations."""
    attributes = training["attributes"]
    del attributes["start_time"], attributes["_num_timesteps_at_start"]
    for info in attributes["ep_info_buffer"]["deque"]:
        del info["dict"]["t"]
    for layers in training["environments"]:
        for layer in layers:
            for name in ("t_start", "episode_times"):
                layer["attributes"].pop(name, None)
    return training


def assert_same_bits(value: Any, expected: Any, path: str = "training") -> None:
    if isinstance(expected, torch.Tensor):
        assert torch.equal(value, expected), path
    elif isinstance(expected, dict):
        assert value.keys() == expected.keys(), path
        for key in expected:
            assert_same_bits(value[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(value) == len(expected), path
        for index, pair in enumerate(zip(value, expected, strict=True)):
            assert_same_bits(*pair, f"{path}[{index}]")
    else:
        assert value == expected, path
