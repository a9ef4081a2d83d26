"""Multilayer perceptrons without modules and autograd, on the parameters of SB3's networks.

Of an update with small networks, a good part goes into what surrounds the matrix products: modules
and the graph of autograd. Here the products are called directly, and the gradients written out.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from gymnasium.spaces import Box
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn
from torch.nn.functional import linear


class Layer(NamedTuple):
    """A linear layer and the activation after it, if there is one."""

    weight: Tensor
    bias: Tensor
    activation: type[nn.Module] | None


class Mlp:
    """Linear layers with ReLU, tanh or nothing after each.

    Args:
        modules: ``torch.nn.Linear``, ``ReLU`` and ``Tanh`` in their order, or what has them.

    Raises:
        TypeError: for another module.
    """

    def __init__(self, modules: nn.Module | Iterable[nn.Module]) -> None:
        self.layers: list[Layer] = []
        for module in modules.children() if isinstance(modules, nn.Module) else modules:
            if type(module) is nn.Linear:
                self.layers.append(Layer(module.weight, module.bias, None))
            elif type(module) in (nn.ReLU, nn.Tanh):
                self.layers[-1] = self.layers[-1]._replace(activation=type(module))
            else:
                raise TypeError(f"{module} is no layer of an Mlp: Linear, ReLU and Tanh are")
        self.activations: list[Tensor] = []

    @staticmethod
    def supports(policy: BasePolicy) -> bool:
        """Return whether a policy's networks take vectors as they come, through these layers."""
        space = policy.observation_space
        return (
            isinstance(space, Box)
            and len(space.shape) == 1
            and policy.features_extractor_class is FlattenExtractor
            and policy.activation_fn in (nn.ReLU, nn.Tanh)
        )

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (n, out) for inputs (n, in).

        They are kept for `backward` and `input_gradient`.
        """
        self.activations = [inputs]
        for weight, bias, activation in self.layers:
            outputs = linear(self.activations[-1], weight, bias)
            if activation is nn.ReLU:
                outputs.relu_()
            elif activation is nn.Tanh:
                outputs.tanh_()
            self.activations.append(outputs)
        return outputs

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> None:
        """Set the parameters' gradients of a loss.

        Args:
            gradient: the loss's derivatives by the last outputs, (n, out).
        """
        for index in reversed(range(len(self.layers))):
            layer = self.layers[index]
            gradient = self._before_activation(index, gradient)
            layer.weight.grad = gradient.t() @ self.activations[index]
            layer.bias.grad = gradient.sum(dim=0)
            if index > 0:
                gradient = gradient @ layer.weight

    @torch.no_grad()
    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Return a loss's derivatives by the last inputs (n, in).

        Args:
            gradient: those by the last outputs, (n, out).
        """
        for index in reversed(range(len(self.layers))):
            gradient = self._before_activation(index, gradient) @ self.layers[index].weight
        return gradient

    def _before_activation(self, index: int, gradient: Tensor) -> Tensor:
        """Return the derivatives by a layer's values before the activation, from those after it."""
        activation, outputs = self.layers[index].activation, self.activations[index + 1]
        if activation is nn.ReLU:
            gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        if activation is nn.Tanh:
            gradient = torch.ops.aten.tanh_backward(gradient, outputs)
        return gradient
