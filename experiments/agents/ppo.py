"""SB3's PPO as CleanRL runs it.

Any policy works through SB3's rollouts and autograd. What `GaussianMlp` supports goes through that
class, with the same actions to the bit and the same gradients within rounding. On HalfCheetah,
SB3's rollouts would make training 60% slower, autograd 20%.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from experiments.agents.gaussian_mlp import GaussianMlp

Statistics = dict[str, torch.Tensor]


class LossGradients(NamedTuple):
    """The loss's derivatives by values (n, 1), log-probabilities (n,) and mean entropy."""

    values: torch.Tensor
    log_probability: torch.Tensor
    entropy: float


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

    def _networks(self) -> GaussianMlp | None:
        return GaussianMlp(self.policy) if GaussianMlp.supports(self.policy) else None

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer; see SB3's ``OnPolicyAlgorithm.collect_rollouts``.

        The policy does not change during a rollout, so that values and log-probabilities can be
        computed at its end for all steps at once. Callbacks find ``actions``, ``new_obs``,
        ``rewards``, ``dones`` and ``infos`` among the local variables, as in SB3.
        """
        networks = self._networks()
        if networks is None or type(rollout_buffer) is not RolloutBuffer:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert isinstance(self.action_space, Box)
        assert isinstance(self._last_obs, np.ndarray)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        std = networks.log_std.detach().exp()
        low, high = self.action_space.low, self.action_space.high

        new_obs: Any = None
        for step in range(n_rollout_steps):
            with torch.no_grad():
                mean = networks.mean(torch.from_numpy(self._last_obs))
                actions = (mean + torch.randn_like(mean) * std).cpu().numpy()
            new_obs, rewards, dones, infos = env.step(actions.clip(low, high))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            for index in np.flatnonzero(dones):
                if infos[index].get("TimeLimit.truncated", False):
                    terminal, _ = self.policy.obs_to_tensor(infos[index]["terminal_observation"])
                    with torch.no_grad():
                        rewards[index] += self.gamma * self.policy.predict_values(terminal).item()
            rollout_buffer.observations[step] = self._last_obs
            rollout_buffer.actions[step] = actions
            rollout_buffer.rewards[step] = rewards
            rollout_buffer.episode_starts[step] = self._last_episode_starts
            self._last_obs, self._last_episode_starts = new_obs, dones

        rollout_buffer.pos, rollout_buffer.full = n_rollout_steps, True
        with torch.no_grad():
            values, log_probability, _ = networks.evaluate_actions(
                torch.from_numpy(rollout_buffer.observations).flatten(0, 1),
                torch.from_numpy(rollout_buffer.actions).flatten(0, 1),
            )
            last_values = self.policy.predict_values(self.policy.obs_to_tensor(new_obs)[0])
        shape = rollout_buffer.values.shape
        rollout_buffer.values[:] = values.reshape(shape).cpu()
        rollout_buffer.log_probs[:] = log_probability.reshape(shape).cpu()
        rollout_buffer.compute_returns_and_advantage(last_values, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Update on the rollout for ``n_epochs`` epochs; see SB3's ``PPO.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        networks = self._networks()
        parameters = list(self.policy.parameters())
        history: list[Statistics] = []
        for _ in range(self.n_epochs):
            for batch in self._minibatches():
                statistics = self.differentiate(batch, networks)
                if self.max_grad_norm < math.inf:
                    torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
                self.policy.optimizer.step()
                history.append(statistics)
            if self.target_kl is not None and statistics["approx_kl"] > self.target_kl:
                break
        self._n_updates += self.n_epochs
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in history[0]:
            mean = torch.stack([statistics[name] for statistics in history]).mean()
            self.logger.record(f"train/{name}", mean.item())

    def _minibatches(self) -> Iterator[RolloutBufferSamples]:
        """The rollout in a new random order, gathered at once and then cut."""
        [rollout] = self.rollout_buffer.get(batch_size=None)
        columns = (column.split(self.batch_size) for column in rollout)
        return map(RolloutBufferSamples._make, zip(*columns, strict=True))

    def differentiate(
        self, batch: RolloutBufferSamples, networks: GaussianMlp | None = None
    ) -> Statistics:
        """Set the parameters' gradients of the loss of a minibatch.

        The loss is ``policy + vf_coef * value - ent_coef * entropy``.

        Args:
            batch: the minibatch.
            networks: the policy without modules, if there is one for it.

        Returns:
            The loss's parts by name, and what else is logged.
        """
        if networks is not None:
            with torch.no_grad():
                evaluated = networks.evaluate_actions(batch.observations, batch.actions)
                gradients, statistics = self.loss_gradients(batch, *evaluated)
                networks.backward(*gradients)
            return statistics
        actions = batch.actions
        if isinstance(self.action_space, Discrete):
            actions = actions.long().flatten()
        values, log_probability, entropy = self.policy.evaluate_actions(batch.observations, actions)
        assert entropy is not None  # Gaussian and categorical policies have a closed form
        outputs = (values, log_probability, entropy.mean())
        with torch.no_grad():
            gradients, statistics = self.loss_gradients(batch, *outputs)
        self.policy.optimizer.zero_grad()
        by_entropy = outputs[-1].new_tensor(gradients.entropy)
        torch.autograd.backward(outputs, (*gradients[:2], by_entropy))
        return statistics

    def loss_gradients(
        self,
        batch: RolloutBufferSamples,
        values: torch.Tensor,
        log_probability: torch.Tensor,
        entropy: torch.Tensor,
    ) -> tuple[LossGradients, Statistics]:
        """The clipped surrogate objective: its parts, and its derivatives by the arguments.

        Args:
            batch: the minibatch of n steps.
            values: (n, 1).
            log_probability: (n,).
            entropy: the mean, ().
        """
        n = len(log_probability)
        advantages = batch.advantages
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        # Within the clip range, both branches are the same to the bit. Outside, the lower one
        # counts, and has a derivative only if it is the first. A NaN stays one.
        clip = FloatSchedule(self.clip_range)(self._current_progress_remaining)
        log_ratio = log_probability - batch.old_log_prob
        ratio = log_ratio.exp()
        surrogate = advantages * ratio
        clipped = advantages * ratio.clamp(1 - clip, 1 + clip)
        policy_loss = -torch.minimum(surrogate, clipped).mean()
        by_log_probability = surrogate.masked_fill(surrogate > clipped, 0.0) * (-1 / n)

        # The same for the value, where the greater of two errors counts.
        errors = values.flatten() - batch.returns
        squares = errors.square()
        if self.clip_range_vf is not None:
            clip_vf = FloatSchedule(self.clip_range_vf)(self._current_progress_remaining)
            low, high = batch.old_values - clip_vf, batch.old_values + clip_vf
            clipped_squares = (values.flatten().clamp(low, high) - batch.returns).square()
            errors = errors.masked_fill(clipped_squares > squares, 0.0)
            squares = torch.maximum(squares, clipped_squares)
        value_loss = 0.5 * squares.mean()
        by_values = (errors * (self.vf_coef / n)).view_as(values)

        statistics = {
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": -entropy,
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": ((ratio - 1).abs() > clip).float().mean(),
        }
        return LossGradients(by_values, by_log_probability, -self.ent_coef), statistics
