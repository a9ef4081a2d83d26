"""Smooth, non-convex functions with a known lower bound, for the checks of the theory."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """A function of one or more tensors that is nowhere below 0, its lower bound here.

    Attributes:
        name: of the function.
        start: where the runs start.
        value: the function; of tensors with a leading dimension, the sum of its values.
        smoothness: L; None where it has to be estimated.
    """

    name: str
    start: list[Tensor]
    value: Callable[[list[Tensor]], Tensor]
    smoothness: float | None

    @property
    def sizes(self) -> list[int]:
        """The elements of each tensor."""
        return [tensor.numel() for tensor in self.start]

    def gradient(self, params: list[Tensor]) -> Tensor:
        """Return the gradient of all tensors in one vector."""
        leaves = [param.detach().clone().requires_grad_() for param in params]
        return torch.cat([g.flatten() for g in torch.autograd.grad(self.value(leaves), leaves)])

    def hessian_norm(self, params: list[Tensor]) -> float:
        """Return the Hessian's largest absolute eigenvalue, over all tensors together."""

        def of_one_vector(flat: Tensor) -> Tensor:
            parts = flat.split(self.sizes)
            return self.value(
                [part.view_as(param) for part, param in zip(parts, params, strict=True)]
            )

        flat = torch.cat([param.detach().flatten() for param in params])
        hessian = torch.func.hessian(of_one_vector)(flat)
        return float(torch.linalg.matrix_norm(hessian, 2))


# Smooth, non-convex phi of one variable with minimum 0 and the largest |phi''|, which is at 0.
PROFILES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "well": (lambda x: 1 - torch.exp(-(x**2) / 2), 1.0),
    "fraction": (lambda x: x**2 / (1 + x**2), 2.0),
    "ripple": (lambda x: x**2 + 3 * torch.sin(x) ** 2, 8.0),
}


def profile_problem(name: str, sizes: list[int]) -> Problem:
    """Return the sum of phi over the elements of A x, with |A| = 1: L is the largest |phi''|.

    A has singular values from 1 down to 0.1 between two rotations, which couple the elements of x
    and its tensors: AlphaGrad works by element, so the axes matter to it.

    Args:
        name: of a profile.
        sizes: of the tensors that x is split into.
    """
    profile, smoothness = PROFILES[name]
    size = sum(sizes)
    generator = torch.Generator().manual_seed(size)
    left, right = (
        torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    matrix = left @ torch.diag(torch.logspace(0, -1, size, dtype=torch.float64)) @ right
    start = torch.randn(size, generator=generator, dtype=torch.float64)
    return Problem(
        name,
        list(start.split(sizes)),
        lambda params: profile(torch.cat(params, dim=-1) @ matrix.T).sum(),
        smoothness,
    )


def network_problem() -> Problem:
    """Return the mean squared error of a network with 16 tanh units on 64 points of a sine."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.linspace(-1, 1, 64, dtype=torch.float64).unsqueeze(1)
    targets = torch.sin(3 * inputs)
    start = [
        torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        for shape, scale in (((1, 16), 1.0), ((16,), 1.0), ((16, 1), 0.25), ((1,), 0.25))
    ]

    def value(params: list[Tensor]) -> Tensor:
        weight, bias, output_weight, output_bias = params
        hidden = torch.tanh(inputs @ weight + bias.unsqueeze(-2))
        outputs = hidden @ output_weight + output_bias.unsqueeze(-2)
        return ((outputs - targets) ** 2).mean(dim=(-2, -1)).sum()

    return Problem("network", start, value, None)
