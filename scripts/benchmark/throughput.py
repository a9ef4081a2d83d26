"""Training throughput of a protocol against stock Stable-Baselines3, on one core with one thread.

python -m scripts.benchmark.throughput protocol=ppo_cleanrl [optimizer=alphagrad] [seed=1]

Both train in turn in one process, a chunk of steps each, so that whatever else the machine does
meets both; what is timed is the process's own CPU time. In turn with them, the bare environment is
stepped, which is the limit. Ours has the callbacks that watch a
training, but neither evaluations nor checkpoints. All chunks go to
results/benchmark/throughput.csv, in place of earlier ones of the same protocol and optimizer.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import math
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

from alphagrad.sb3 import policy_kwargs
from experiments.config import TrainConfig, arguments
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY, provenance
from experiments.runs.writing import write_text
from experiments.training import Training
from experiments.validation import validate

CHUNKS = 15
CHUNK_STEPS: dict[type[BaseAlgorithm], int] = {PPO: 4096, TD3: 500, DQN: 4000}
RESULTS = REPOSITORY / "results" / "benchmark" / "throughput.csv"


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
    """Step an environment without wrappers, with one action for each episode."""
    is_over = True
    for _ in range(steps):
        if is_over:
            environment.reset()
            action = environment.action_space.sample()
        _, _, terminated, truncated, _ = environment.step(action)
        is_over = terminated or truncated


def sb3_class(config: TrainConfig) -> type[BaseAlgorithm]:
    """Return the class of SB3 on which the protocol's algorithm is built."""
    bases = get_class(config.algorithm["_target_"]).__mro__
    return next(base for base in bases if base.__module__.startswith("stable_baselines3"))


def measure(config: TrainConfig) -> pd.DataFrame:
    """Return steps per second of CPU time, in a row for each chunk."""
    training = Training(config)
    stock = stock_algorithm(config)
    bare = gym.make(config.environment.id, **config.environment.kwargs)
    learn: dict[str, Callable[[int], Any]] = {
        "stock": partial(stock.learn, reset_num_timesteps=False),
        "ours": partial(
            training.model.learn, callback=[*training.observers], reset_num_timesteps=False
        ),
        "environment": partial(step, bare),  # the limit of what stays in Python
    }
    steps = CHUNK_STEPS[sb3_class(config)]
    rows = []
    for chunk in range(CHUNKS + 1):
        row: dict[str, Any] = {"chunk": chunk}
        for name, learn_chunk in learn.items():
            # What is a matter of the process, each as its user has it.
            Distribution.set_default_validate_args(name == "stock")
            extra = config.algorithm.get("learning_starts", 0) if chunk == 0 else 0
            begin = time.process_time()
            learn_chunk(steps + extra)
            row[name] = steps / (time.process_time() - begin)
        if chunk > 0:  # the first warms up
            rows.append(row)
            print(f"{chunk:2d}/{CHUNKS}: {row['ours'] / row['stock']:.2f}x", file=sys.stderr)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure the protocol that the command line composes, and add it to the results."""
    fixed = ["evaluation.points=0"]
    with exit_on_mistake(), initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        config = validate(compose("train", ["optimizer=adam", *fixed, *sys.argv[1:]]))
    warnings.filterwarnings("ignore", message=".*(out of date|settotalmass).*")  # v4 models
    rows = measure(config)
    ratio = (rows["ours"] / rows["stock"]).describe()
    print(
        f"{config.protocol} with {config.optimizer['name']}: stock {rows['stock'].median():,.0f}, "
        f"ours {rows['ours'].median():,.0f}, the environment alone "
        f"{rows['environment'].median():,.0f} steps/s; ratio {ratio['50%']:.2f} "
        f"(quartiles {ratio['25%']:.2f} to {ratio['75%']:.2f})"
    )
    key = {
        "protocol": config.protocol,
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
