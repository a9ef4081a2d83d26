"""What CleanRL's scripts do otherwise than Stable-Baselines3, to be read beside them.

`DQN` is ``dqn.py``, `TD3` ``td3_continuous_action.py`` and `PPO` ``ppo_continuous_action.py``. What
is not here is SB3's own, and equal to CleanRL's with the hyperparameters of configs/algorithm/.
What a method of SB3's does for other settings than CleanRL's, its version here does too.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import stable_baselines3 as sb3
import torch
from gymnasium.spaces import Discrete
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.type_aliases import ReplayBufferSamples, RolloutBufferSamples
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.nn.utils import clip_grad_norm_


class DQN(sb3.DQN):
    """DQN with the mean squared error, and epsilon-greedy from the first step on.

    SB3 has no option for the loss; with its smooth L1 loss Adam diverges under this protocol.
    """

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        return super()._sample_action(0, action_noise, n_envs)  # SB3 acts at random until then

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take ``gradient_steps`` optimizer steps; see SB3's ``DQN.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses = []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            losses.append(self.differentiate(batch))
            self.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def step(self) -> None:
        """Take the optimizer's step, with clipped gradients."""
        if self.max_grad_norm < math.inf:  # with which an infinite norm would give NaN
            clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

    def differentiate(self, batch: ReplayBufferSamples) -> float:
        """Set the parameters' gradients of the loss of a batch, and return the loss."""
        with torch.no_grad():
            td_target = self.td_target(batch, self.q_net_target(batch.next_observations))
        old_val = self.q_net(batch.observations).gather(dim=1, index=batch.actions.long())
        loss = mse_loss(old_val, td_target)
        self.policy.optimizer.zero_grad()
        loss.backward()
        return loss.item()

    def td_target(self, batch: ReplayBufferSamples, next_values: Tensor) -> Tensor:
        """Return the targets (n, 1) of a batch, from the next states' values (n, actions)."""
        discounts = self.gamma if batch.discounts is None else batch.discounts  # of n steps
        target_max = next_values.amax(dim=1, keepdim=True)
        return batch.rewards + discounts * target_max * (1 - batch.dones)


class TD3(sb3.TD3):
    """TD3 whose warm-up is uniform, to which SB3 would add the noise.

    The actor is updated at the same updates: SB3 counts them, CleanRL counts environment steps, and
    the first one is the second in both.

    Args:
        args: as for SB3's ``TD3``.
        exploration_noise: standard deviation, >= 0, of the Gaussian noise on the action scaled to
            [-1, 1]; without effect beside SB3's own ``action_noise``.
        kwargs: as for SB3's ``TD3``.
    """

    def __init__(self, *args: Any, exploration_noise: float = 0.1, **kwargs: Any) -> None:
        self.exploration_noise = exploration_noise
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.action_noise is None:
            mean = np.zeros(self.action_space.shape or ())
            self.action_noise = NormalActionNoise(mean, np.full_like(mean, self.exploration_noise))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        warm_up = self.num_timesteps < learning_starts
        return super()._sample_action(learning_starts, None if warm_up else action_noise, n_envs)


class PPO(sb3.PPO):
    """PPO with CleanRL's loss, learning rate and look at ``target_kl``.

    The learning rate falls linearly from ``learning_rate`` to 0 and is set before each rollout, and
    a run ends with the last whole rollout within its total. ``target_kl`` is looked at after each
    epoch.
    """

    def _setup_lr_schedule(self) -> None:
        assert isinstance(self.learning_rate, float)
        self.lr_schedule = LinearSchedule(self.learning_rate, 0.0, 1.0)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        # SB3 calls this after a rollout; CleanRL's rate is the one of the rollout's beginning.
        begin = num_timesteps - self.n_steps * self.n_envs
        super()._update_current_progress_remaining(begin, total_timesteps)

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> "PPO":
        """Train for the whole rollouts within ``total_timesteps``."""
        rollout = self.n_steps * self.n_envs
        return super().learn(total_timesteps // rollout * rollout, *args, **kwargs)

    def train(self) -> None:
        """Update on the rollout for ``n_epochs`` epochs; see SB3's ``PPO.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        history: list[dict[str, Tensor]] = []
        for _ in range(self.n_epochs):
            for batch in self.minibatches():
                history.append(self.differentiate(batch))
                self.step()
            self._n_updates += 1
            if self.target_kl is not None and history[-1]["approx_kl"] > self.target_kl:
                break
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in history[0]:
            mean = torch.stack([statistics[name] for statistics in history]).mean()
            self.logger.record(f"train/{name}", mean.item())

    def step(self) -> None:
        """Take the optimizer's step, with clipped gradients."""
        if self.max_grad_norm < math.inf:  # with which an infinite norm would give NaN
            clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

    def minibatches(self) -> Iterable[RolloutBufferSamples]:
        """Return the rollout in a new random order, in minibatches."""
        return self.rollout_buffer.get(self.batch_size)

    def clip_ranges(self) -> tuple[float, float | None]:
        """Return the clip ranges of the policy and, if there is one, of the value."""
        progress = self._current_progress_remaining
        clip_vf = self.clip_range_vf
        return (
            FloatSchedule(self.clip_range)(progress),
            None if clip_vf is None else FloatSchedule(clip_vf)(progress),
        )

    def differentiate(self, batch: RolloutBufferSamples) -> dict[str, Tensor]:
        """Set the parameters' gradients of the loss of a minibatch.

        The loss is ``policy + vf_coef * value - ent_coef * entropy``.

        Returns:
            The loss's parts and what else is logged, by name: tensors of one element.
        """
        clip_coef, clip_coef_vf = self.clip_ranges()
        actions = batch.actions
        if isinstance(self.action_space, Discrete):
            actions = actions.long().flatten()
        newvalue, newlogprob, entropy = self.policy.evaluate_actions(batch.observations, actions)
        newvalue = newvalue.flatten()
        logratio = newlogprob - batch.old_log_prob
        ratio = logratio.exp()

        advantages = batch.advantages
        if self.normalize_advantage and len(advantages) > 1:  # one has no standard deviation
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        pg_loss1 = -advantages * ratio
        pg_loss2 = -advantages * ratio.clamp(1 - clip_coef, 1 + clip_coef)
        pg_loss = torch.max(pg_loss1, pg_loss2).mean()

        v_loss = (newvalue - batch.returns).square()
        if clip_coef_vf is not None:
            change = (newvalue - batch.old_values).clamp(-clip_coef_vf, clip_coef_vf)
            v_loss = torch.max(v_loss, (batch.old_values + change - batch.returns).square())
        v_loss = 0.5 * v_loss.mean()

        # A squashed Gaussian's entropy has no closed form.
        entropy_loss = -newlogprob.mean() if entropy is None else entropy.mean()
        self.policy.optimizer.zero_grad()
        (pg_loss - self.ent_coef * entropy_loss + v_loss * self.vf_coef).backward()
        return {
            "policy_gradient_loss": pg_loss.detach(),
            "value_loss": v_loss.detach(),
            "entropy_loss": -entropy_loss.detach(),
            "approx_kl": (ratio - 1 - logratio).detach().mean(),
            "clip_fraction": ((ratio - 1).abs() > clip_coef).float().mean(),
        }
