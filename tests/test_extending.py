"""What docs/extending.md says, as far as it can be tried in a moment."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest
import torch
import yaml
from stable_baselines3 import PPO

from alphagrad import AlphaGrad
from experiments.config import TrainConfig

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text()
COMMANDS = re.findall(
    r"python -m experiments\.train ((?:.*\\\n)*.*)\n", PAGE.partition("## A claim of your own")[0]
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command: str, composed: Callable[..., TrainConfig]) -> None:
    gym.register("MyEnv-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    arguments = shlex.split(command.replace("\\\n", " ").replace("my_module:", "gymnasium:"))
    sweep = "-m" in arguments
    overrides = [a for a in arguments if a != "-m" and not a.startswith("hydra")]
    if sweep:
        overrides = [re.sub(r"tag\(log,interval\((.*),.*\)\)", r"\1", text) for text in overrides]
    # What may not be on this machine.
    overrides = [text.replace("ale_py:ALE/Pong-v5", "CartPole-v1") for text in overrides]
    overrides = [text for text in overrides if not text.startswith("origin=")]
    composed(*overrides)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


def test_the_zoos_file_gives_its_ppo_alphagrad() -> None:
    [block] = re.findall(r"```yaml\n(CartPole-v1:\n.*?)```", PAGE, flags=re.DOTALL)
    settings = yaml.safe_load(block)["CartPole-v1"]
    # As rl_zoo3.exp_manager does: n_envs and n_timesteps go, these are made, the rest is passed on.
    del settings["n_envs"], settings["n_timesteps"]
    assert {settings.pop("learning_rate"), settings.pop("clip_range")} == {"lin_0.001", "lin_0.2"}
    settings["policy_kwargs"] = eval(settings["policy_kwargs"])
    model = PPO(env="CartPole-v1", device="cpu", **settings | {"n_epochs": 1, "batch_size": 32})
    model.learn(32)
    assert isinstance(model.policy.optimizer, AlphaGrad)
    assert model.policy.optimizer.param_groups[0]["alpha"] == 10
    assert all(torch.isfinite(parameter).all() for parameter in model.policy.parameters())


def test_cleanrls_line_is_an_optimizer() -> None:
    [block] = re.findall(r"```python\n(optimizer = .*)\n```", PAGE)
    agent, args = torch.nn.Linear(2, 1), SimpleNamespace(learning_rate=1e-3)
    names = {"AlphaGrad": AlphaGrad, "agent": agent, "args": args}
    exec(block, names)
    optimizer = names["optimizer"]
    assert isinstance(optimizer, AlphaGrad)
    assert optimizer.param_groups[0]["alpha"] == 10
