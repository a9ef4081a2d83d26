"""The direction ``tanh(alpha * g / (norm(g) + eps))``, exact for gradients of any finite size.

No value is looked at on the way, which would wait for a device, break a graph, and fail for tensors
without values (fake ones, those of ``torch.func``). So everything here works for all of them.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class _Safe(NamedTuple):
    """Norms from 1 / ``limit`` to ``limit`` are safe; ``power`` brings all others there, exactly.

    Not safe is where squares overflow or vanish in their sum, or the factor in the gradient's type.
    """

    limit: float
    power: float


def direction(grad: Tensor, alpha: float | Tensor, eps: float | Tensor, scaling: str) -> Tensor:
    """Return what AlphaGrad moves against, before momentum and weight decay.

    Args:
        grad: real, of any shape.
        alpha: steepness; negative to go up the gradient.
        eps: added to the norm.
        scaling: ``"none"``, or ``"sqrt"`` to multiply alpha by the root of the number of elements.

    Returns:
        A tensor of the gradient's shape, in [-1, 1]; of its type, or fp32 for half precision.
    """
    return normalized(grad, alpha * _size_factor(grad, scaling), eps).tanh_()


def directions(
    grads: list[Tensor], alpha: float, eps: float | Tensor, scaling: str
) -> list[Tensor]:
    """Return the `direction` of each gradient; all are on one device and of one type."""
    grads = [widened(grad) for grad in grads]
    alphas = [alpha * _size_factor(grad, scaling) for grad in grads]
    sums, safe = _precision(grads[0])
    norms = torch.stack(torch._foreach_norm(grads, 2, sums))
    powers = _powers(norms, safe)
    results = list(torch._foreach_mul(grads, list(powers.to(grads[0].dtype).unbind())))
    if sums == grads[0].dtype:
        norms = torch.stack(torch._foreach_norm(results, 2))
    else:
        norms = norms * powers
    steepness: float | Tensor = alphas[0]
    if any(other != steepness for other in alphas):
        # Numbers reach a device as arguments of a kernel, where torch.tensor(alphas) would wait.
        steepness = torch.stack(torch._foreach_mul([norms.new_ones(())] * len(alphas), alphas))
    factors = _factors(norms, steepness, eps * powers, grads[0].dtype)
    torch._foreach_mul_(results, list(factors.unbind()))
    torch._foreach_tanh_(results)
    return results


def normalized(grad: Tensor, alpha: float | Tensor, eps: float | Tensor) -> Tensor:
    """Return ``alpha * grad / (norm + eps)``, in fp32 for a gradient in half precision.

    It is zero for a zero gradient, and NaN in all elements if one of the gradient's is not finite.
    """
    grad = widened(grad)
    sums, safe = _precision(grad)
    norm = torch.linalg.vector_norm(grad, dtype=sums)
    power = _powers(norm, safe)
    scaled = grad * power.to(grad.dtype)
    norm = torch.linalg.vector_norm(scaled) if sums == grad.dtype else norm * power
    return scaled * _factors(norm, alpha, eps * power, grad.dtype)


def _size_factor(grad: Tensor, scaling: str) -> float:
    return math.sqrt(grad.numel()) if scaling == "sqrt" else 1.0


def widened(grad: Tensor) -> Tensor:
    """Return half precision as fp32: neither its norm nor 1 / norm would fit."""
    return grad.float() if grad.dtype in (torch.float16, torch.bfloat16) else grad


def _precision(grad: Tensor) -> tuple[torch.dtype, _Safe]:
    """Return the type in which a gradient's squares are summed, and which norms are safe in it."""
    if grad.dtype == torch.float64:
        return torch.float64, _Safe(1e150, 2.0**600)
    if grad.device.type == "mps":  # has no fp64
        return torch.float32, _Safe(1e16, 2.0**80)
    return torch.float64, _Safe(1e30, 2.0**64)


def _powers(norms: Tensor, safe: _Safe) -> Tensor:
    up = torch.where(norms < 1 / safe.limit, safe.power, 1.0)
    return torch.where(norms > safe.limit, 1 / safe.power, up).to(norms.dtype)


def _factors(
    norms: Tensor, alpha: float | Tensor, eps: float | Tensor, dtype: torch.dtype
) -> Tensor:
    """Return ``alpha / (norm + eps)``, finite for a zero gradient and NaN for an infinite one."""
    largest = torch.finfo(dtype).max
    factors = (alpha / (norms + eps)).clamp(-largest, largest)
    return factors.masked_fill(norms.isinf(), math.nan).to(dtype)
