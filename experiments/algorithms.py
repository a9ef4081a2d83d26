"""SB3's DQN, TD3 and PPO as CleanRL runs them, and the construction of any SB3 algorithm.

Deviations from CleanRL's scripts that remain are written where they are made; the author's own
scripts differ from CleanRL's by one wrong transition after each episode (a reset taken for a step),
which is not reproduced here.
"""

import math
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class, instantiate
from stable_baselines3 import DQN, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecEnv
from torch.distributions import Distribution
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

from alphagrad.sb3 import policy_kwargs
from experiments.config import TrainConfig, arguments, resolve_device
from experiments.ppo import CleanRLPPO as CleanRLPPO  # a run's identity has it here

# A NaN must reach the divergence guard, not raise in a distribution's constructor.
Distribution.set_default_validate_args(False)

# The same steps in one kernel; without it, PPO with Adam is 15% slower.
FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


def make(config: TrainConfig, environment: VecEnv) -> BaseAlgorithm:
    """The algorithm of a run, with the run's optimizer, seeded.

    Raises:
        AssertionError, TypeError, ValueError: if SB3 refuses the settings.
    """
    settings = instantiate(arguments(config.algorithm), _convert_="all")
    if settings.get("max_grad_norm", 0.0) is None:
        settings["max_grad_norm"] = math.inf
    optimizer: type[Optimizer] = get_class(config.optimizer["_target_"])
    optimizer_settings = arguments(config.optimizer)
    if optimizer in FUSED:
        optimizer_settings["fused"] = True
    settings["policy_kwargs"] = policy_kwargs(
        optimizer, **optimizer_settings, **settings.get("policy_kwargs", {})
    )
    algorithm: type[BaseAlgorithm] = get_class(config.algorithm["_target_"])
    model = algorithm(
        env=environment, seed=config.seed, device=resolve_device(config.device), **settings
    )
    if isinstance(model, OnPolicyAlgorithm) and config.total_steps < model.n_steps * model.n_envs:
        raise ValueError(
            f"total_steps = {config.total_steps}: should be at least one rollout of "
            f"n_steps * n_envs = {model.n_steps * model.n_envs}"
        )
    return model


class CleanRLDQN(DQN):
    """DQN with the mean squared error and the exploration of CleanRL's ``dqn.py``.

    SB3 has no option for the loss; with its smooth L1 loss Adam diverges under this protocol.
    """

    def loss(self, batch: ReplayBufferSamples) -> torch.Tensor:
        """Mean squared one-step temporal-difference error of a batch."""
        with torch.no_grad():
            next_values = self.q_net_target(batch.next_observations).amax(dim=1, keepdim=True)
            targets = batch.rewards + self.gamma * next_values * (1 - batch.dones)
        values = self.q_net(batch.observations).gather(dim=1, index=batch.actions.long())
        return mse_loss(values, targets)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take ``gradient_steps`` optimizer steps; see SB3's ``DQN.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses = []
        for _ in range(gradient_steps):
            loss = self.loss(self.replay_buffer.sample(batch_size, env=self._vec_normalize_env))
            self.policy.optimizer.zero_grad()
            loss.backward()
            _clip_gradients(self.policy, self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        # CleanRL is epsilon-greedy from the first step; SB3 acts at random until learning starts.
        return super()._sample_action(0, action_noise, n_envs)


class CleanRLTD3(TD3):
    """TD3 with the exploration of CleanRL's ``td3_continuous_action.py``.

    One phase differs: SB3 counts the policy's delay in updates, CleanRL in environment steps.

    Args:
        args: as for SB3's ``TD3``.
        exploration_noise: standard deviation of the Gaussian noise on the action scaled to [-1, 1].
        kwargs: as for SB3's ``TD3``.
    """

    def __init__(self, *args: Any, exploration_noise: float = 0.1, **kwargs: Any) -> None:
        self.exploration_noise = exploration_noise
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        mean = np.zeros(self.action_space.shape or ())
        self.action_noise = NormalActionNoise(mean, np.full_like(mean, self.exploration_noise))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        # CleanRL's warm-up is uniform; SB3 would add the noise to it.
        warm_up = self.num_timesteps < learning_starts
        return super()._sample_action(learning_starts, None if warm_up else action_noise, n_envs)


def _clip_gradients(policy: torch.nn.Module, max_norm: float) -> None:
    if max_norm < math.inf:
        torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm)
