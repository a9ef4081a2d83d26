"""The algorithms of `experiments.agents.cleanrl` with the same numbers sooner.

SB3's ``MlpPolicy`` goes through networks without modules and autograd here: with the same random
numbers and, within rounding, the same losses and gradients. Every other policy goes through the
base classes. On HalfCheetah, SB3's rollouts would make PPO 60% slower, autograd 20%.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import ReplayBufferSamples, RolloutBufferSamples
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.optim import Optimizer

from experiments.agents import cleanrl, native
from experiments.agents.mlp import Mlp
from experiments.agents.networks import ActorCritic, GaussianMlp

UNSUPPORTED = "the policy is not SB3's own MlpPolicy with ReLU or tanh, from vectors (PPO: to them)"


class DQN(cleanrl.DQN):
    """CleanRL's DQN.

    Attributes:
        networks: the Q-network and its target without modules, if the policy has layers for it.
    """

    networks: tuple[native.Mlp, native.Mlp] | None

    def _setup_model(self) -> None:
        super()._setup_model()
        self.networks = None
        if type(self.policy) is DQNPolicy and Mlp.supports(self.policy):
            self.networks = native.Mlp(self.q_net.q_net), native.Mlp(self.q_net_target.q_net)
        else:
            native.say(UNSUPPORTED)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "networks"]

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Greedy or epsilon-greedy actions; see SB3's ``DQN.predict``."""
        one = np.shape(observation) == (1, *(self.observation_space.shape or ()))
        if self.networks is None or not one:
            return super().predict(observation, state, episode_start, deterministic)
        if not deterministic and np.random.rand() < self.exploration_rate:  # noqa: NPY002
            return np.array([self.action_space.sample()]), state
        values = self.networks[0].forward(torch.as_tensor(observation).float().to(self.device))
        return values.cpu().numpy().argmax(axis=1), state

    @torch.no_grad()
    def _differentiate(self, batch: ReplayBufferSamples, network: Mlp, target: Mlp) -> float:
        targets = self.td_target(batch, target.forward(batch.next_observations.float()))
        values = network.forward(batch.observations.float())
        actions = batch.actions.long()
        errors = values.gather(dim=1, index=actions) - targets
        by_chosen = errors * (2 / len(errors))
        network.backward(torch.zeros_like(values).scatter_(1, actions, by_chosen))
        return errors.square().mean().item()

    def step(self) -> None:
        """Take the optimizer's step, with clipped gradients."""
        if not native.step(self.policy.optimizer, self.max_grad_norm):
            super().step()

    def differentiate(self, batch: ReplayBufferSamples) -> float:
        """Set the parameters' gradients of the loss of a batch, and return the loss."""
        if self.networks is None:
            return super().differentiate(batch)
        return self._differentiate(batch, *self.networks)


class TD3(cleanrl.TD3):
    """CleanRL's TD3.

    Attributes:
        networks: actor, critics and targets without modules, if the policy has layers for it.
    """

    networks: ActorCritic | None

    def _setup_model(self) -> None:
        super()._setup_model()
        self.networks = ActorCritic(self.policy) if ActorCritic.supports(self.policy) else None
        if self.networks is None:
            native.say(UNSUPPORTED)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "networks"]

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Actions without noise; see SB3's ``BaseAlgorithm.predict``."""
        batch = np.shape(observation)[1:] == self.observation_space.shape
        if self.networks is None or not batch:
            return super().predict(observation, state, episode_start, deterministic)
        inputs = torch.as_tensor(observation).float().to(self.device)
        actions = self.networks.actor.forward(inputs).cpu().numpy()
        actions = actions.reshape(-1, *(self.action_space.shape or ()))
        return self.policy.unscale_action(actions), state

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update the critics ``gradient_steps`` times; see SB3's ``TD3.train``."""
        if self.networks is None:
            return super().train(gradient_steps, batch_size)
        # No layer here has a training mode or running statistics, for which SB3's has more lines.
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        assert self.replay_buffer is not None
        critic_losses, actor_losses = [], []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            critic_losses.append(self._differentiate_critics(batch, self.networks))
            self.step(self.critic.optimizer)
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(self.networks.differentiate_actor(batch.observations.float()))
                self.step(self.actor.optimizer)
                self.networks.move_targets(self.tau)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    def step(self, optimizer: Optimizer) -> None:
        """Take the step of the actor's or the critics' optimizer."""
        if not native.step(optimizer):
            optimizer.step()

    @torch.no_grad()
    def _differentiate_critics(self, batch: ReplayBufferSamples, networks: ActorCritic) -> float:
        """Set the gradients of the critics' loss, and return it."""
        next_observations = batch.next_observations.float()
        noise = torch.empty_like(batch.actions).normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        next_actions = (networks.actor_target.forward(next_observations) + noise).clamp(-1, 1)
        next_inputs = torch.cat([next_observations, next_actions], dim=1)
        next_values = [critic.forward(next_inputs) for critic in networks.critic_targets]
        discounts = self.gamma if batch.discounts is None else batch.discounts
        next_value = torch.cat(next_values, dim=1).amin(dim=1, keepdim=True)
        targets = batch.rewards + (1 - batch.dones) * discounts * next_value

        inputs = torch.cat([batch.observations.float(), batch.actions], dim=1)
        loss = 0.0
        for critic in networks.critics:
            errors = critic.forward(inputs) - targets
            loss += errors.square().mean().item()
            critic.backward(errors * (2 / len(errors)))
        return loss


STATISTICS = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")


class LossGradients(NamedTuple):
    """The loss's derivatives by values (n, 1), log-probabilities (n,) and mean entropy."""

    values: Tensor
    log_probability: Tensor
    entropy: float


class PPO(cleanrl.PPO):
    """CleanRL's PPO.

    Attributes:
        networks: the policy without modules, if it has layers for it.
    """

    networks: GaussianMlp | None

    def _setup_model(self) -> None:
        super()._setup_model()
        self.networks = GaussianMlp(self.policy) if GaussianMlp.supports(self.policy) else None
        if self.networks is None:
            native.say(UNSUPPORTED)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "networks"]

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
        networks = self.networks
        if networks is None or type(rollout_buffer) is not RolloutBuffer:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert isinstance(self.action_space, Box)
        assert isinstance(self._last_obs, np.ndarray), "No previous observation was provided"
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        std = networks.log_std.detach().exp()
        low, high = self.action_space.low, self.action_space.high

        new_obs: Any = None
        for step in range(n_rollout_steps):
            mean = networks.mean(torch.from_numpy(self._last_obs))
            actions = (mean + torch.randn_like(mean) * std).cpu().numpy()
            new_obs, rewards, dones, infos = env.step(actions.clip(low, high))
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            for index in dones.nonzero()[0]:
                terminal = infos[index].get("terminal_observation")
                if terminal is not None and infos[index].get("TimeLimit.truncated", False):
                    inputs, _ = self.policy.obs_to_tensor(terminal)
                    with torch.no_grad():
                        rewards[index] += self.gamma * self.policy.predict_values(inputs).item()
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

    def step(self) -> None:
        """Take the optimizer's step, with clipped gradients."""
        if not native.step(self.policy.optimizer, self.max_grad_norm):
            super().step()

    def minibatches(self) -> Iterable[RolloutBufferSamples]:
        """Return SB3's minibatches, gathered at once and then cut."""
        if type(self.rollout_buffer) is not RolloutBuffer:
            return super().minibatches()
        [rollout] = self.rollout_buffer.get(batch_size=None)
        columns = (column.split(self.batch_size) for column in rollout)
        return map(RolloutBufferSamples._make, zip(*columns, strict=True))

    @torch.no_grad()
    def _differentiate(
        self, batch: RolloutBufferSamples, networks: GaussianMlp
    ) -> dict[str, Tensor]:
        if native.supports(networks.log_std, networks.log_std_gradient, *batch[1:]):
            return self._differentiate_natively(batch, networks)
        evaluated = networks.evaluate_actions(batch.observations, batch.actions)
        gradients, statistics = self.loss_gradients(batch, *evaluated)
        networks.backward(*gradients)
        return statistics

    def _differentiate_natively(
        self, batch: RolloutBufferSamples, networks: GaussianMlp
    ) -> dict[str, Tensor]:
        clip, clip_vf = self.clip_ranges()
        observations = batch.observations.to(networks.log_std)
        by_means, by_values, statistics = native.ppo_gradients(
            batch,
            networks.actor.forward(observations),
            networks.critic.forward(observations),
            networks.log_std,
            networks.log_std_gradient,
            normalize=self.normalize_advantage,
            clip=clip,
            clip_value=math.inf if clip_vf is None else clip_vf,
            vf_coef=self.vf_coef,
            ent_coef=self.ent_coef,
        )
        networks.log_std.grad = networks.log_std_gradient
        networks.actor.backward(by_means)
        networks.critic.backward(by_values)
        return dict(zip(STATISTICS, statistics.unbind(), strict=True))

    def differentiate(self, batch: RolloutBufferSamples) -> dict[str, Tensor]:
        """Set the gradients of a minibatch's loss, and return what the base class returns."""
        if self.networks is None:
            return super().differentiate(batch)
        return self._differentiate(batch, self.networks)

    def loss_gradients(
        self,
        batch: RolloutBufferSamples,
        values: Tensor,
        log_probability: Tensor,
        entropy: Tensor,
    ) -> tuple[LossGradients, dict[str, Tensor]]:
        """Return the loss's derivatives by the arguments, and its parts.

        Args:
            batch: the minibatch of n steps.
            values: (n, 1).
            log_probability: (n,).
            entropy: the mean, ().
        """
        n = len(log_probability)
        clip, clip_vf = self.clip_ranges()
        advantages = batch.advantages
        if self.normalize_advantage and n > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        # Within the clip range, both branches are the same to the bit. Outside, the lower one
        # counts, and has a derivative only if it is the first. A NaN stays one.
        log_ratio = log_probability - batch.old_log_prob
        ratio = log_ratio.exp()
        surrogate = advantages * ratio
        clipped = advantages * ratio.clamp(1 - clip, 1 + clip)
        policy_loss = -torch.minimum(surrogate, clipped).mean()
        by_log_probability = surrogate.masked_fill(surrogate > clipped, 0.0) * (-1 / n)

        # The same for the value, where the greater of two errors counts.
        errors = values.flatten() - batch.returns
        squares = errors.square()
        if clip_vf is not None:
            low, high = batch.old_values - clip_vf, batch.old_values + clip_vf
            clipped_squares = (values.flatten().clamp(low, high) - batch.returns).square()
            errors = errors.masked_fill(clipped_squares > squares, 0.0)
            squares = torch.maximum(squares, clipped_squares)
        value_loss = 0.5 * squares.mean()
        by_values = (errors * (self.vf_coef / n)).view_as(values)

        divergence = (ratio - 1 - log_ratio).mean()
        clipped_share = ((ratio - 1).abs() > clip).float().mean()
        statistics = (policy_loss, value_loss, -entropy, divergence, clipped_share)
        by_outputs = LossGradients(by_values, by_log_probability, -self.ent_coef)
        return by_outputs, dict(zip(STATISTICS, statistics, strict=True))
