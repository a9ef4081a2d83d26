"""SBX, Stable-Baselines3 in JAX, as a peer of the benchmark of throughput.

It runs in a Python environment of its own (``make sbx``), which has nothing of this project, on one
core. The first line of its input describes a model in JSON; for every other line, a number of
steps, it trains so long and prints the seconds of CPU time.
"""

import os

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX counts cores

import inspect
import json
import sys
import time
from typing import Any

import gymnasium as gym
import sbx  # type: ignore[import-not-found]
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize


def make(description: dict[str, Any]) -> Any:
    """Return the model; settings that SBX does not have are left out, and said."""
    environment: VecEnv = DummyVecEnv(
        [lambda: Monitor(gym.make(description["environment"]))] * description["n_envs"]
    )
    if description["normalize"]:
        environment = VecNormalize(environment, gamma=description["settings"]["gamma"])
    algorithm = getattr(sbx, description["algorithm"])
    known = inspect.signature(algorithm).parameters
    left_out = [name for name in description["settings"] if name not in known]
    if left_out:
        print(f"SBX's {algorithm.__name__} has no {', '.join(left_out)}", file=sys.stderr)
    settings = {name: x for name, x in description["settings"].items() if name in known}
    return algorithm("MlpPolicy", environment, **settings)


def main() -> None:
    """Train as the input says."""
    model = make(json.loads(input()))
    for line in sys.stdin:
        begin = time.process_time()
        model.learn(int(line), reset_num_timesteps=False)
        print(time.process_time() - begin, flush=True)


if __name__ == "__main__":
    main()
