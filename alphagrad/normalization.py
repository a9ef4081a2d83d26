"""The direction ``tanh(alpha * g / (norm(g) + eps))``, exact for gradients of any finite size.

No value is looked at on the way, which would wait for a device, break a graph, and fail for tensors
without values (fake ones, those of ``torch.func``). So everything here works for all of them.
"""

import math

import torch
from torch import Tensor


def direction(grad: Tensor, alpha: float | Tensor, eps: float | Tensor, scaling: str) -> Tensor:
    """Return what AlphaGrad moves against, before momentum and weight decay.

    Args:
        grad: real, of any shape.
        alpha: steepness; negative to go up the gradient.
        eps: added to the norm, >= 0.
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
    steepness: float | Tensor = alpha
    if scaling != "none":
        # Numbers reach a device as arguments of a kernel, where torch.tensor would wait for it.
        one = torch.ones((), dtype=_type_of_sums(grads[0]), device=grads[0].device)
        steepness = torch.stack([one * (alpha * _size_factor(grad, scaling)) for grad in grads])

    norms = torch.stack(torch._foreach_norm(grads, 2, _type_of_sums(grads[0])))
    first = _first_factor(norms, eps, grads[0].dtype)
    scaled = list(torch._foreach_mul(grads, list(first.unbind())))
    if norms.dtype == first.dtype:
        norms = torch.stack(torch._foreach_norm(scaled, 2)) / first
    torch._foreach_mul_(scaled, list(_second_factor(norms, steepness, eps, first).unbind()))
    torch._foreach_tanh_(scaled)
    return scaled


def normalized(grad: Tensor, alpha: float | Tensor, eps: float | Tensor) -> Tensor:
    """Return ``alpha * grad / (norm + eps)``, in fp32 for a gradient in half precision.

    It is zero for a zero gradient, and NaN in all elements if one of the gradient's is not finite.
    """
    grad = widened(grad)
    norm = torch.linalg.vector_norm(grad, dtype=_type_of_sums(grad))
    first = _first_factor(norm, eps, grad.dtype)
    scaled = grad * first
    if norm.dtype == first.dtype:
        norm = torch.linalg.vector_norm(scaled) / first
    return scaled * _second_factor(norm, alpha, eps, first)


def widened(tensor: Tensor) -> Tensor:
    """Return half precision as fp32, all else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _size_factor(grad: Tensor, scaling: str) -> float:
    return math.sqrt(grad.numel()) if scaling == "sqrt" else 1.0


def _type_of_sums(grad: Tensor) -> torch.dtype:
    """Return what squares are summed in: if wider than the gradient, none overflows or vanishes."""
    return torch.float32 if grad.device.type == "mps" else torch.float64  # MPS has no fp64


def _first_factor(norm: Tensor, eps: float | Tensor, dtype: torch.dtype) -> Tensor:
    """Return about ``1 / (norm + eps)``, bounded so that it, and what is left, are in range.

    Where squares are summed in the gradient's own type, a norm may be infinite, or too small, by
    their overflow or vanishing. The norm of the gradient times this factor is exact.
    """
    limit = 1e30 if norm.dtype != dtype else 1e200 if dtype == torch.float64 else 1e25
    return (norm + eps).clamp(1 / limit, limit).reciprocal().to(dtype)


def _second_factor(
    norm: Tensor, alpha: float | Tensor, eps: float | Tensor, first: Tensor
) -> Tensor:
    """Return ``alpha / (norm + eps) / first``, finite for a zero gradient, NaN for an infinite."""
    largest = torch.finfo(first.dtype).max
    rest = (alpha / ((norm + eps) * first)).clamp(-largest, largest)
    return rest.masked_fill(norm.isinf(), math.nan).to(first.dtype)
