"""SB3's DQN, TD3 and PPO as CleanRL runs them, and the construction of any SB3 algorithm.

Deviations from CleanRL's scripts that remain are written where they are made; the author's own
scripts differ from CleanRL's by one wrong transition after each episode (a reset taken for a step),
which is not reproduced here.
"""

import math
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from hydra.utils import get_class, instantiate
from stable_baselines3 import DQN, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import (
    ReplayBufferSamples,
    RolloutBufferSamples,
)
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch.distributions import Distribution
from torch.nn.functional import mse_loss

from alphagrad.sb3 import policy_kwargs
from experiments.config import TrainConfig, arguments, resolve_device

# A NaN must reach the divergence guard, not raise in a distribution's constructor.
Distribution.set_default_validate_args(False)


def make(config: TrainConfig, environment: VecEnv) -> BaseAlgorithm:
    """The algorithm of a run, with the run's optimizer, seeded.

    Raises:
        AssertionError, TypeError, ValueError: if SB3 refuses the settings.
    """
    settings = instantiate(arguments(config.algorithm), _convert_="all")
    if settings.get("max_grad_norm", 0.0) is None:
        settings["max_grad_norm"] = math.inf
    settings["policy_kwargs"] = policy_kwargs(
        get_class(config.optimizer["_target_"]),
        **arguments(config.optimizer),
        **settings.get("policy_kwargs", {}),
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


class CleanRLPPO(PPO):
    """PPO with the loss and the learning-rate timing of CleanRL's ``ppo_continuous_action.py``.

    The learning rate falls linearly from ``learning_rate`` to 0 and is set before each rollout, and
    a run ends with the last whole rollout within its total. ``target_kl`` is looked at after each
    epoch, as in CleanRL.
    """

    def _setup_lr_schedule(self) -> None:
        assert isinstance(self.learning_rate, float)
        self.lr_schedule = LinearSchedule(self.learning_rate, 0.0, 1.0)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # SB3 calls this after a rollout; CleanRL's rate is the one of the rollout's beginning.
        begin = num_timesteps - self.n_steps * self.n_envs
        super()._update_current_progress_remaining(begin, total_timesteps)

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> "CleanRLPPO":
        """Train for the whole rollouts within ``total_timesteps``."""
        rollout = self.n_steps * self.n_envs
        return super().learn(total_timesteps // rollout * rollout, *args, **kwargs)

    def loss(self, batch: RolloutBufferSamples) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The clipped surrogate objective of a minibatch, and its parts by name.

        Returns:
            ``policy + vf_coef * value - ent_coef * entropy``, a scalar to minimise, and the
            detached parts.
        """
        actions = batch.actions
        if isinstance(self.action_space, Discrete):
            actions = actions.long().flatten()
        values, log_probability, entropy = self.policy.evaluate_actions(batch.observations, actions)
        values = values.flatten()
        advantages = batch.advantages
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        log_ratio = log_probability - batch.old_log_prob
        ratio = log_ratio.exp()
        clip = FloatSchedule(self.clip_range)(self._current_progress_remaining)
        policy_loss = torch.max(
            -advantages * ratio, -advantages * ratio.clamp(1 - clip, 1 + clip)
        ).mean()

        squared_error = (values - batch.returns).square()
        if self.clip_range_vf is not None:
            clip_vf = FloatSchedule(self.clip_range_vf)(self._current_progress_remaining)
            clipped = batch.old_values + (values - batch.old_values).clamp(-clip_vf, clip_vf)
            squared_error = torch.max(squared_error, (clipped - batch.returns).square())
        value_loss = 0.5 * squared_error.mean()

        assert entropy is not None  # Gaussian and categorical policies have a closed form
        entropy_mean = entropy.mean()
        loss = policy_loss + self.vf_coef * value_loss - self.ent_coef * entropy_mean
        with torch.no_grad():
            parts = {
                "policy_gradient_loss": policy_loss,
                "value_loss": value_loss,
                "entropy_loss": -entropy_mean,
                "approx_kl": (ratio - 1 - log_ratio).mean(),
                "clip_fraction": ((ratio - 1).abs() > clip).float().mean(),
            }
        return loss, {name: part.detach() for name, part in parts.items()}

    def train(self) -> None:
        """Update on the rollout for ``n_epochs`` epochs; see SB3's ``PPO.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        history: list[dict[str, torch.Tensor]] = []
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get(self.batch_size):
                loss, parts = self.loss(batch)
                self.policy.optimizer.zero_grad()
                loss.backward()
                _clip_gradients(self.policy, self.max_grad_norm)
                self.policy.optimizer.step()
                history.append(parts)
            if self.target_kl is not None and parts["approx_kl"] > self.target_kl:
                break
        self._n_updates += self.n_epochs
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in history[0]:
            mean = torch.stack([parts[name] for parts in history]).mean()
            self.logger.record(f"train/{name}", mean.item())


def _clip_gradients(policy: torch.nn.Module, max_norm: float) -> None:
    if max_norm < math.inf:
        torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm)
