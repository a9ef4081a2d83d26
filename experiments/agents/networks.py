"""The networks of SB3's ``MlpPolicy`` for TD3 and PPO, without its modules and autograd.

Both work on a policy's own parameters.
"""

import math

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor

from experiments.agents import native
from experiments.agents.mlp import Mlp


class ActorCritic:
    """TD3's actor, critics and their targets.

    Args:
        policy: one that `supports` accepts.
    """

    def __init__(self, policy: TD3Policy) -> None:
        self.actor, self.actor_target = (
            native.Mlp(policy.actor.mu),
            native.Mlp(policy.actor_target.mu),
        )
        self.critics = [native.Mlp(network) for network in policy.critic.q_networks]
        self.critic_targets = [native.Mlp(network) for network in policy.critic_target.q_networks]
        self.parameters: list[Tensor] = [
            *policy.actor.parameters(),
            *policy.critic.parameters(),
        ]
        self.targets: list[Tensor] = [
            *policy.actor_target.parameters(),
            *policy.critic_target.parameters(),
        ]

    @staticmethod
    def supports(policy: TD3Policy) -> bool:
        """Return whether ``policy`` is SB3's own, with layers that `Mlp` knows."""
        return type(policy) is TD3Policy and Mlp.supports(policy)

    @torch.no_grad()
    def differentiate_actor(self, observations: Tensor) -> float:
        """Set the gradients of the actor's loss, minus the first critic's mean, and return it.

        Args:
            observations: (n, features).
        """
        actions = self.actor.forward(observations)
        values = self.critics[0].forward(torch.cat([observations, actions], dim=1))
        by_inputs = self.critics[0].input_gradient(torch.full_like(values, -1 / len(values)))
        self.actor.backward(by_inputs[:, observations.shape[1] :])
        return -values.mean().item()

    @torch.no_grad()
    def move_targets(self, tau: float) -> None:
        """Move the targets by ``tau`` of the way to the networks (Polyak averaging)."""
        torch._foreach_lerp_(self.targets, self.parameters, tau)


class GaussianMlp:
    """PPO's separate networks for the mean action and the value.

    Args:
        policy: one that `supports` accepts.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.log_std = policy.log_std
        self.log_std_gradient = torch.empty_like(policy.log_std)
        self.actor = native.Mlp([*policy.mlp_extractor.policy_net, policy.action_net])
        self.critic = native.Mlp([*policy.mlp_extractor.value_net, policy.value_net])

    @staticmethod
    def supports(policy: ActorCriticPolicy) -> bool:
        """Return whether ``policy`` is SB3's own, from vectors to vectors with a Gaussian."""
        return (
            type(policy) is ActorCriticPolicy
            and Mlp.supports(policy)
            and type(policy.action_dist) is DiagGaussianDistribution
            and len(policy.action_space.shape or ()) == 1
        )

    def mean(self, observations: Tensor) -> Tensor:
        """Return the mean actions (n, actions) for observations (n, features)."""
        return self.actor.forward(observations.to(self.log_std))

    def evaluate_actions(
        self, observations: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what SB3's ``evaluate_actions`` does, but for the shape of the entropy.

        Returns:
            Values (n, 1), log-probabilities (n,) and the entropy (), the same for all.
        """
        observations, actions = observations.to(self.log_std), actions.to(self.log_std)
        values = self.critic.forward(observations)
        self.inverse_std = (-self.log_std).exp()
        self.deviations = (actions - self.actor.forward(observations)) * self.inverse_std
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        half_squares = 0.5 * self.deviations.square().sum(dim=1)
        log_probability = 0.5 * self.log_std.numel() - entropy - half_squares
        return values, log_probability, entropy

    def backward(self, values: Tensor, log_probability: Tensor, entropy: float) -> None:
        """Set the parameters' gradients of a loss.

        Args:
            values: the loss's derivatives by the values (n, 1) that were evaluated last.
            log_probability: by the log-probabilities (n,).
            entropy: by the entropy.
        """
        by_mean = log_probability[:, None] * self.deviations
        self.log_std.grad = (by_mean * self.deviations).sum(dim=0) + (
            entropy - log_probability.sum()
        )
        self.actor.backward(by_mean * self.inverse_std)
        self.critic.backward(values)
