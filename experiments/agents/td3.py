"""SB3's TD3 as CleanRL runs it.

Any policy works through SB3's own update. SB3's ``MlpPolicy`` is updated by `Networks` instead,
with the same random numbers and, within rounding, the same losses and gradients.
"""

from typing import Any

import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.noise import ActionNoise, NormalActionNoise
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.td3.policies import TD3Policy

from experiments.agents.mlp import Mlp


class CleanRLTD3(TD3):
    """TD3 with the exploration of CleanRL's ``td3_continuous_action.py``.

    One phase differs: SB3 counts the policy's delay in updates, CleanRL in environment steps.

    Args:
        args: as for SB3's ``TD3``.
        exploration_noise: standard deviation of the Gaussian noise on the action scaled to [-1, 1].
        kwargs: as for SB3's ``TD3``.

    Attributes:
        networks: the policy without modules, if there is one for it.
    """

    def __init__(self, *args: Any, exploration_noise: float = 0.1, **kwargs: Any) -> None:
        self.exploration_noise = exploration_noise
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        mean = np.zeros(self.action_space.shape or ())
        self.action_noise = NormalActionNoise(mean, np.full_like(mean, self.exploration_noise))

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self.networks = Networks(self.policy) if Networks.supports(self.policy) else None

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "networks"]

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        # CleanRL's warm-up is uniform; SB3 would add the noise to it.
        warm_up = self.num_timesteps < learning_starts
        return super()._sample_action(learning_starts, None if warm_up else action_noise, n_envs)

    def predict(
        self, observation: Any, state: Any = None, *args: Any, **kwargs: Any
    ) -> tuple[np.ndarray, Any]:
        """Actions without noise; see SB3's ``BaseAlgorithm.predict``."""
        if self.networks is None or observation.ndim != 2:
            return super().predict(observation, state, *args, **kwargs)
        inputs = torch.from_numpy(observation).float().to(self.device)
        actions = self.networks.actor.forward(inputs).cpu().numpy()
        return self.policy.unscale_action(actions), state

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Update the critics ``gradient_steps`` times; see SB3's ``TD3.train``."""
        if self.networks is None:
            return super().train(gradient_steps, batch_size)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        assert self.replay_buffer is not None
        critic_losses, actor_losses = [], []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            critic_losses.append(self._differentiate_critics(batch, self.networks))
            self.critic.optimizer.step()
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(self.networks.differentiate_actor(batch.observations.float()))
                self.actor.optimizer.step()
                self.networks.move_targets(self.tau)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    @torch.no_grad()
    def _differentiate_critics(self, batch: ReplayBufferSamples, networks: "Networks") -> float:
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


class Networks:
    """Actor, critics and their targets without modules and autograd, on a policy's parameters.

    Args:
        policy: one that `supports` accepts.
    """

    def __init__(self, policy: TD3Policy) -> None:
        self.actor, self.actor_target = Mlp(policy.actor.mu), Mlp(policy.actor_target.mu)
        self.critics = [Mlp(network) for network in policy.critic.q_networks]
        self.critic_targets = [Mlp(network) for network in policy.critic_target.q_networks]
        self.parameters: list[torch.Tensor] = [
            *policy.actor.parameters(),
            *policy.critic.parameters(),
        ]
        self.targets: list[torch.Tensor] = [
            *policy.actor_target.parameters(),
            *policy.critic_target.parameters(),
        ]

    @staticmethod
    def supports(policy: TD3Policy) -> bool:
        """Whether ``policy`` is SB3's own, with layers that `Mlp` knows."""
        return type(policy) is TD3Policy and Mlp.supports(policy)

    @torch.no_grad()
    def differentiate_actor(self, observations: torch.Tensor) -> float:
        """Set the gradients of the actor's loss, minus the first critic's mean, and return it."""
        actions = self.actor.forward(observations)
        values = self.critics[0].forward(torch.cat([observations, actions], dim=1))
        by_inputs = self.critics[0].input_gradient(torch.full_like(values, -1 / len(values)))
        self.actor.backward(by_inputs[:, observations.shape[1] :])
        return -values.mean().item()

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """Move the targets by ``tau`` of the way to the networks (Polyak averaging)."""
        torch._foreach_lerp_(self.targets, self.parameters, tau)
