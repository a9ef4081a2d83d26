"""Training throughput of a protocol against stock Stable-Baselines3, on one core with one thread.

python -m scripts.benchmark.throughput protocol=ppo_cleanrl [optimizer=alphagrad] [seed=1]

They train in turn, a chunk of steps each, so that whatever else the machine does meets all; what is
timed is CPU time. Ours has the callbacks that watch a training, but neither evaluations nor
checkpoints. In turn with them go:

- SBX, SB3's algorithms in JAX, in a process of its own, if ``make sbx`` has installed it;
- bare, the environment without wrappers: the limit of what steps it by Python;
- products, those of matrices in a step of training, at the speed of one of 512 x 512: the limit of
  what computes in fp32.

All chunks go to results/benchmark/throughput.csv, in place of earlier ones of the same protocol,
environment, optimizer and CPU; ratios are those of medians.
"""

import os
from argparse import ArgumentParser

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import json
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from stable_baselines3 import DQN, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch.distributions import Distribution
from torch.utils.flop_counter import FlopCounterMode

from alphagrad.sb3 import policy_kwargs
from experiments.agents import native
from experiments.config import TrainConfig, arguments
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY, provenance
from experiments.runs.writing import write_text
from experiments.training import Training
from experiments.validation import validate

CHUNKS = 15
CHUNK_STEPS: dict[type[BaseAlgorithm], int] = {PPO: 4096, TD3: 500, DQN: 4000}
RESULTS = REPOSITORY / "results" / "benchmark" / "throughput.csv"
SBX = REPOSITORY / ".venv-sbx" / "bin" / "python"
COMPARED = ("stock", "sbx", "bare", "products")
Learn = Callable[[int], float]
"""Trains for a number of steps and returns the seconds of CPU time."""


def stock_environment(config: TrainConfig) -> VecEnv:
    """Return the protocol's environment with the wrappers that SB3 offers."""

    def make() -> gym.Env[Any, Any]:
        return Monitor(gym.make(config.environment.id, **config.environment.kwargs))

    environment = DummyVecEnv([make] * config.environment.n_envs)
    if config.environment.normalize:
        return VecNormalize(environment, gamma=config.algorithm["gamma"])
    return environment


def stock_algorithm(config: TrainConfig) -> BaseAlgorithm:
    """SB3's own class with the protocol's hyperparameters."""
    settings = arguments(config.algorithm)
    environment = stock_environment(config)
    algorithm = sb3_class(config)
    if algorithm is PPO:
        settings["learning_rate"] = LinearSchedule(settings["learning_rate"], 0.0, 1.0)
    if "exploration_noise" in settings:
        mean = torch.zeros(environment.action_space.shape or ()).numpy()
        settings["action_noise"] = NormalActionNoise(mean, mean + settings["exploration_noise"])
        del settings["exploration_noise"]
    if settings.get("max_grad_norm", 0.0) is None:
        settings["max_grad_norm"] = math.inf
    settings["policy_kwargs"] = policy_kwargs(
        get_class(config.optimizer["_target_"]),
        **arguments(config.optimizer),
        **settings["policy_kwargs"],
    )
    return algorithm(env=environment, seed=config.seed, device="cpu", **settings)


def step(environment: gym.Env[Any, Any], steps: int) -> None:
    """Step an environment, with one action for each episode."""
    is_over = True
    for _ in range(steps):
        if is_over:
            environment.reset()
            action = environment.action_space.sample()
        _, _, terminated, truncated, _ = environment.step(action)
        is_over = terminated or truncated


def multiply(operations_per_step: float, steps: int) -> None:
    """Compute so many floating-point operations by the product of 512 x 512 matrices."""
    matrix = torch.ones(512, 512)
    result = torch.empty(512, 512)
    for _ in range(math.ceil(operations_per_step * steps / (2 * 512**3))):
        torch.mm(matrix, matrix, out=result)


def timed(function: Callable[[int], object], steps: int) -> float:
    """Call a function with a number of steps; return the seconds of CPU time."""
    begin = time.process_time()
    function(steps)
    return time.process_time() - begin


class Sbx:
    """SBX's algorithm with the protocol's hyperparameters, in a process of its own."""

    def __init__(self, config: TrainConfig) -> None:
        settings = arguments(config.algorithm)
        del settings["policy"]
        description = {
            "algorithm": sb3_class(config).__name__,
            "environment": config.environment.id,
            "n_envs": config.environment.n_envs,
            "normalize": config.environment.normalize,
            "settings": settings | {"seed": config.seed},
        }
        command = [str(SBX), str(REPOSITORY / "scripts" / "benchmark" / "sbx_peer.py")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.ask(json.dumps(description))

    def ask(self, line: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def learn(self, steps: int) -> float:
        """Train for a number of steps; return the seconds of CPU time."""
        self.ask(str(steps))
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def sb3_class(config: TrainConfig) -> type[BaseAlgorithm]:
    """Return the class of SB3 on which the protocol's algorithm is built."""
    bases = get_class(config.algorithm["_target_"]).__mro__
    return next(base for base in bases if base.__module__.startswith("stable_baselines3"))


def products_per_step(config: TrainConfig, steps: int) -> float:
    """Return the floating-point operations of matrix products of a training step."""
    model = Training(config).model
    model.learn(config.algorithm.get("learning_starts", 0))
    with native.left_out(), FlopCounterMode(display=False) as counter:
        model.learn(steps, reset_num_timesteps=False)
    return float(counter.get_total_flops()) / steps


def measure(config: TrainConfig) -> pd.DataFrame:
    """Return steps per second of CPU time, in a row for each chunk."""
    steps = CHUNK_STEPS[sb3_class(config)]
    training = Training(config)
    stock = stock_algorithm(config)
    bare = gym.make(config.environment.id, **config.environment.kwargs)
    learn_ours = partial(
        training.model.learn, callback=[*training.observers], reset_num_timesteps=False
    )
    learn: dict[str, Learn] = {
        "stock": partial(timed, partial(stock.learn, reset_num_timesteps=False)),
        "ours": partial(timed, learn_ours),
        "bare": partial(timed, partial(step, bare)),
        "products": partial(timed, partial(multiply, products_per_step(config, steps))),
    }
    sbx = None
    if SBX.exists():
        sbx = Sbx(config)
        learn["sbx"] = sbx.learn
    else:
        print("SBX is left out; `make sbx` installs it", file=sys.stderr)
    rows = []
    for chunk in range(CHUNKS + 1):
        row: dict[str, Any] = {"chunk": chunk}
        for name, learn_chunk in learn.items():
            # What is a matter of the process, each as its user has it.
            Distribution.set_default_validate_args(name == "stock")
            warm_up = config.algorithm.get("learning_starts", 0) if chunk == 0 else 0
            row[name] = steps / learn_chunk(steps + warm_up)
        if chunk > 0:  # the first warms up
            rows.append(row)
            print(f"{chunk:2d}/{CHUNKS}: {row['ours'] / row['stock']:.2f}x", file=sys.stderr)
    if sbx is not None:
        sbx.close()
    return pd.DataFrame(rows)


def main() -> None:
    """Measure the protocol that the command line composes, and add it to the results."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+", help="protocol=<name>, and other settings")
    with exit_on_mistake(), initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        overrides = ["optimizer=adam", "evaluation.points=0", *parser.parse_args().overrides]
        config = validate(compose("train", overrides))
    warnings.filterwarnings("ignore", message=".*(out of date|settotalmass).*")  # v4 models
    rows = measure(config)
    medians = rows.median()
    print(
        f"{config.protocol} on {config.environment.id} with {config.optimizer['name']}: "
        f"{medians['ours']:,.0f} steps per CPU second, "
        + ", ".join(
            f"{medians['ours'] / medians[name]:.2f} x {name}'s {medians[name]:,.0f}"
            for name in COMPARED
            if name in rows
        )
    )
    key = {
        "protocol": config.protocol,
        "environment": config.environment.id,
        "optimizer": config.optimizer["name"],
        "cpu": provenance()["cpu"]["model"],
    }
    rows = rows.assign(**key)[[*key, *rows.columns]]
    if RESULTS.exists():
        earlier = pd.read_csv(RESULTS)
        same = (earlier[list(key)] == pd.Series(key)).all(axis=1)
        rows = pd.concat([earlier[~same], rows])
    write_text(RESULTS, rows.to_csv(index=False, float_format="%.1f"))


if __name__ == "__main__":
    main()
