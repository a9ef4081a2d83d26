"""Runs of the optimizer on a problem, and the smoothness that they meet."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from alphagrad import AlphaGrad
from experiments.convergence.problems import Problem


class Setting(NamedTuple):
    """A setting of the optimizer, without its learning rate, and of its gradients.

    Attributes:
        alpha: steepness.
        eps: added to the norm.
        momentum: in [0, 1).
        noise: the mean norm of Gaussian noise in the gradient of all tensors, >= 0.
    """

    alpha: float
    eps: float
    momentum: float = 0.0
    noise: float = 0.0

    def noise_by_tensor(self, sizes: list[int]) -> list[float]:
        """Return the mean norm of the noise in tensors of so many elements."""
        whole = mean_norm(sum(sizes))
        return [self.noise * mean_norm(size) / whole for size in sizes]


@dataclass(frozen=True)
class Descent:
    """What the optimizer went through.

    Attributes:
        norms: for each step the sum over tensors of the exact gradient's norm before it, the mean
            of all runs.
        iterates: one run's parameters before each step and after the last; empty where L is known.
    """

    norms: list[float]
    iterates: list[list[Tensor]]


def descend(problem: Problem, lr: float, setting: Setting, steps: int, repeats: int = 1) -> Descent:
    """Minimize with AlphaGrad and one learning rate.

    Args:
        problem: what to minimize.
        lr: learning rate.
        setting: of the optimizer and its gradients.
        steps: how many.
        repeats: runs, which differ in their noise; the optimizer takes them as so many tensors.
    """
    stacks = [tensor.expand(repeats, *tensor.shape).clone() for tensor in problem.start]
    rows = [row for stack in stacks for row in stack]
    optimizer = AlphaGrad(
        rows, lr=lr, alpha=setting.alpha, eps=setting.eps, momentum=setting.momentum
    )
    generator = torch.Generator().manual_seed(0)
    scale = setting.noise / mean_norm(sum(problem.sizes))
    norms, iterates = [], [problem.start]
    for _ in range(steps):
        leaves = [stack.detach().requires_grad_() for stack in stacks]
        grads = torch.autograd.grad(problem.value(leaves), leaves)
        norms.append(sum(grad.norm().item() for stack in grads for grad in stack) / repeats)
        if scale:
            grads = tuple(
                grad + scale * torch.randn(grad.shape, generator=generator, dtype=grad.dtype)
                for grad in grads
            )
        for row, grad in zip(rows, (grad for stack in grads for grad in stack), strict=True):
            row.grad = grad
        optimizer.step()
        if problem.smoothness is None:
            iterates.append([stack[0].clone() for stack in stacks])
    return Descent(norms, iterates if problem.smoothness is None else [])


def mean_norm(size: int) -> float:
    """Return the mean Euclidean norm of so many independent standard Gaussian numbers."""
    return math.sqrt(2) * math.exp(math.lgamma((size + 1) / 2) - math.lgamma(size / 2))


def virtual_iterates(iterates: list[list[Tensor]], momentum: float) -> list[list[Tensor]]:
    """Return z = x - lr mu / (1 - mu) v for each iterate x, where v is the momentum that led to it.

    The derivation descends along them (docs/theory.md, "Momentum"); without momentum they are x.
    """
    ahead = momentum / (1 - momentum)
    return [
        [new + ahead * (new - old) for new, old in zip(after, before, strict=True)]
        for before, after in pairwise([iterates[0], *iterates])
    ]


HESSIANS = 20
"""At how many of a run's iterates the Hessian is looked at."""


def estimated_smoothness(problem: Problem, iterates: list[list[Tensor]]) -> float:
    """Return the largest norm of the Hessian at some of a run's iterates, evenly spaced."""
    return max(map(problem.hessian_norm, iterates[:: max(len(iterates) // HESSIANS, 1)]))


def needed_smoothness(problem: Problem, iterates: list[list[Tensor]], momentum: float) -> float:
    """Return the smallest L with which all of a run's steps obey what the derivation needs of it.

    That is f(z+) <= f(z) + <g(x), z+ - z> + L |z+ - z| (|z - x| + |z+ - z| / 2) for the virtual
    iterates z.
    """
    needed = 0.0
    virtual = virtual_iterates(iterates, momentum)
    for iterate, (before, after) in zip(iterates, pairwise(virtual), strict=False):
        move = flat(after) - flat(before)
        rise = problem.value(after) - problem.value(before)
        excess = rise - problem.gradient(iterate) @ move
        distance = (flat(before) - flat(iterate)).norm() + move.norm() / 2
        needed = max(needed, excess.item() / (move.norm() * distance).item())
    return needed


def flat(tensors: list[Tensor]) -> Tensor:
    """Return all elements in one vector."""
    return torch.cat([tensor.flatten() for tensor in tensors])
