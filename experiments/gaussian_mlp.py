"""The networks of SB3's ``MlpPolicy`` for continuous actions, without its modules and autograd.

With two networks of 64 units, most of the time of SB3's policy goes into what surrounds the matrix
products: modules, distributions and the graph of autograd. Here the products are called directly,
and the gradients written out.
"""

import math

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch.nn.functional import linear

Layers = list[tuple[torch.Tensor, torch.Tensor]]


class GaussianMlp:
    """Separate tanh networks for the mean action and the value, on a policy's own parameters.

    It must not outlive a change of the policy's modules, so it is made anew where it is used.

    Args:
        policy: one that `supports` accepts.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.log_std = policy.log_std
        self.actor = _layers(policy.mlp_extractor.policy_net, policy.action_net)
        self.critic = _layers(policy.mlp_extractor.value_net, policy.value_net)

    @staticmethod
    def supports(policy: ActorCriticPolicy) -> bool:
        """Whether ``policy`` is SB3's own, from vectors to vectors, with tanh and a Gaussian."""
        return (
            type(policy) is ActorCriticPolicy
            and type(policy.action_dist) is DiagGaussianDistribution
            and policy.features_extractor_class is FlattenExtractor
            and policy.activation_fn is torch.nn.Tanh
            and policy.observation_space.shape == (policy.features_dim,)
            and len(policy.action_space.shape or ()) == 1
        )

    def mean(self, observations: torch.Tensor) -> torch.Tensor:
        """The mean actions (n, actions) for observations (n, features)."""
        return _forward(self.actor, observations.to(self.log_std))[-1]

    def evaluate_actions(
        self, observations: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What SB3's ``evaluate_actions`` returns, but for the shape of the entropy.

        Returns:
            Values (n, 1), log-probabilities (n,) and the entropy (), the same for all.
        """
        observations, actions = observations.to(self.log_std), actions.to(self.log_std)
        self.actor_activations = _forward(self.actor, observations)
        self.critic_activations = _forward(self.critic, observations)
        self.inverse_std = (-self.log_std).exp()
        self.deviations = (actions - self.actor_activations[-1]) * self.inverse_std
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        half_squares = 0.5 * self.deviations.square().sum(dim=1)
        log_probability = 0.5 * self.log_std.numel() - entropy - half_squares
        return self.critic_activations[-1], log_probability, entropy

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
        _backward(self.actor, self.actor_activations, by_mean * self.inverse_std)
        _backward(self.critic, self.critic_activations, values)


def _layers(hidden: torch.nn.Module, output: torch.nn.Module) -> Layers:
    layers = [*hidden.children(), output]
    return [(layer.weight, layer.bias) for layer in layers if isinstance(layer, torch.nn.Linear)]


def _forward(layers: Layers, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The inputs of each layer, and the output of the last."""
    activations = [inputs]
    for weight, bias in layers[:-1]:
        activations.append(linear(activations[-1], weight, bias).tanh_())
    return [*activations, linear(activations[-1], *layers[-1])]


def _backward(layers: Layers, activations: list[torch.Tensor], gradient: torch.Tensor) -> None:
    """Set the gradients of the layers' parameters; ``gradient`` is that of the output."""
    for index in reversed(range(len(layers))):
        weight, bias = layers[index]
        inputs = activations[index]
        weight.grad = gradient.t() @ inputs
        bias.grad = gradient.sum(dim=0)
        if index > 0:
            gradient = torch.ops.aten.tanh_backward(gradient @ weight, inputs)
