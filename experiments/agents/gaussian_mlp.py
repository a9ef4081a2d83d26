"""The networks of SB3's ``MlpPolicy`` for continuous actions, without its modules and autograd."""

import math

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy

from experiments.agents.mlp import Mlp


class GaussianMlp:
    """Separate networks for the mean action and the value, on a policy's own parameters.

    It must not outlive a change of the policy's modules, so it is made anew where it is used.

    Args:
        policy: one that `supports` accepts.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.log_std = policy.log_std
        self.actor = Mlp([*policy.mlp_extractor.policy_net, policy.action_net])
        self.critic = Mlp([*policy.mlp_extractor.value_net, policy.value_net])

    @staticmethod
    def supports(policy: ActorCriticPolicy) -> bool:
        """Whether ``policy`` is SB3's own, from vectors to vectors with a Gaussian."""
        return (
            type(policy) is ActorCriticPolicy
            and Mlp.supports(policy)
            and type(policy.action_dist) is DiagGaussianDistribution
            and len(policy.action_space.shape or ()) == 1
        )

    def mean(self, observations: torch.Tensor) -> torch.Tensor:
        """The mean actions (n, actions) for observations (n, features)."""
        return self.actor.forward(observations.to(self.log_std))

    def evaluate_actions(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What SB3's ``evaluate_actions`` returns, but for the shape of the entropy.

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

    def backward(self, values: torch.Tensor, log_probability: torch.Tensor, entropy: float) -> None:
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
