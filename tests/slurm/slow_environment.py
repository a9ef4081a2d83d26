"""CartPole, slow until a file appears, so that a run lasts as long as a test needs it to."""

import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class SlowCartPole(CartPoleEnv):
    def step(self, action: Any) -> Any:
        if not Path(os.environ["SLOW_UNTIL"]).exists():
            time.sleep(0.05)
        return super().step(action)  # type: ignore[no-untyped-call]


gym.register("Slow-v0", f"{__name__}:SlowCartPole", max_episode_steps=500)
