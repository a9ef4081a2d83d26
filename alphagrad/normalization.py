"""The numerics of ``tanh(alpha * g / (norm(g) + eps))``, exact for any finite gradient."""

import math
from typing import Any

import torch
from torch import Tensor

# On the CPU a sum of squares in fp32 loses accuracy with its length (6e-4 at 16M elements): longer
# gradients take the norm of the norms of blocks.
NORM_BLOCK = 4096
LONG = 32 * NORM_BLOCK

# Beyond these, squares of fp32 elements may overflow, or vanish, before they are summed.
SAFE_NORMS = (1e-15, 1e18)

# Of x * P(x^2) / Q(x^2), the highest power first.
TANH_NUMERATOR = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
TANH_DENOMINATOR = (
    *(1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)


def steepness(grad: Tensor, alpha: float, alpha_scaling: str) -> float:
    """The alpha of one tensor."""
    return alpha * math.sqrt(grad.numel()) if alpha_scaling == "sqrt" else alpha


def widened(grad: Tensor) -> Tensor:
    """Half precision as fp32: neither its norm nor 1 / norm would fit."""
    return grad.float() if grad.dtype in (torch.float16, torch.bfloat16) else grad


def tanh_argument(
    grad: Tensor, alpha: float, eps: float | Tensor, norm: Tensor | None = None
) -> Tensor:
    """``alpha * grad / (norm + eps)``. A norm that is given is taken as it is."""
    if norm is not None:
        return grad * scale(norm, alpha, eps).to(grad.dtype)
    norm = l2_norm(grad)
    if _on_host(grad) and not is_safe(norm.item()):
        return rescaled_tanh_argument(grad, alpha, eps)
    return grad * scale(norm, alpha, eps).to(grad.dtype)


def tanh_arguments(grads: list[Tensor], alphas: list[float], eps: float | Tensor) -> list[Tensor]:
    """`tanh_argument` of gradients on one device and of one type."""
    stacked = _stacked_norms(grads)
    alpha: float | Tensor = alphas[0]
    if any(other != alpha for other in alphas):
        # Numbers reach a device as arguments of a kernel, where torch.tensor(alphas) would wait.
        alpha = torch.stack(torch._foreach_mul([stacked.new_ones(())] * len(alphas), alphas))
    scales = scale(stacked, alpha, eps).to(grads[0].dtype)
    arguments = list(torch._foreach_mul(grads, list(scales.unbind())))
    if _on_host(grads[0]):
        for index, norm in enumerate(stacked.tolist()):
            if not is_safe(norm):
                arguments[index] = rescaled_tanh_argument(grads[index], alphas[index], eps)
    return arguments


def l2_norms(grads: list[Tensor]) -> list[float]:
    """L2 norms of gradients on one device and of one type, as numbers."""
    norms: list[float] = _stacked_norms(grads).tolist()
    return norms


def _stacked_norms(grads: list[Tensor]) -> Tensor:
    if _on_host(grads[0]) and max(grad.numel() for grad in grads) >= LONG:
        return torch.stack([l2_norm(grad) for grad in grads])
    dtype = None if _on_host(grads[0]) else torch.float64
    return torch.stack(torch._foreach_norm(grads, 2, dtype))


def is_safe(norm: Any) -> Any:
    """Whether no square overflowed, and none that counts vanished, on the way to an fp32 norm."""
    return (norm >= SAFE_NORMS[0]) & (norm <= SAFE_NORMS[1])


def _on_host(tensor: Tensor) -> bool:
    """Whether looking at a value is cheap: neither waits for a device nor breaks a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def l2_norm(grad: Tensor) -> Tensor:
    """L2 norm as a tensor without dimensions.

    Accumulated in fp64 where values cannot be looked at, so that it cannot overflow; on the CPU,
    where that takes 30 times as long, by blocks.
    """
    if not _on_host(grad):
        norm: Tensor = torch.linalg.vector_norm(grad, dtype=torch.float64)
    elif grad.numel() < LONG:
        norm = torch.linalg.vector_norm(grad)
    else:
        flat = grad.reshape(-1)
        whole = flat.numel() // NORM_BLOCK * NORM_BLOCK
        blocks = torch.linalg.vector_norm(flat[:whole].view(-1, NORM_BLOCK), dim=1)
        if whole < len(flat):
            blocks = torch.cat([blocks, flat[whole:]])
        norm = torch.linalg.vector_norm(blocks)
    return norm


def sum_of_squares(grad: Tensor) -> Tensor:
    """By blocks, for a compiler that sums in the gradient's type."""
    flat = grad.reshape(-1)
    whole = len(flat) // NORM_BLOCK * NORM_BLOCK
    total = flat[whole:].square().sum()
    if whole:
        total = total + flat[:whole].view(-1, NORM_BLOCK).square().sum(1).sum()
    return total


def scale(norm: Tensor, alpha: float | Tensor, eps: float | Tensor) -> Tensor:
    """``alpha / (norm + eps)``, finite for a zero gradient and NaN for an infinite one.

    On the CPU an infinite norm never counts: `SAFE_NORMS` excludes it.
    """
    factor = (alpha / (norm + eps)).clamp(max=torch.finfo(torch.float32).max)
    return factor if _on_host(norm) else factor.masked_fill(norm.isinf(), math.nan)


def rescaled_tanh_argument(grad: Tensor, alpha: float, eps: float | Tensor) -> Tensor:
    """`tanh_argument` for a gradient whose squares overflow or vanish."""
    if not grad.any():
        return torch.zeros_like(grad)
    largest = torch.linalg.vector_norm(grad, math.inf)
    unit = grad / largest
    # A number divided by a tensor is its reciprocal's multiple, and that may be infinite.
    unit_eps = torch.as_tensor(eps, dtype=grad.dtype, device=grad.device) / largest
    factor: Tensor = alpha / (l2_norm(unit) + unit_eps)
    argument: Tensor = unit * factor.masked_fill(largest.isinf(), math.nan)
    return argument


def bounded(argument: Tensor) -> Tensor:
    """``tanh``, within 4e-7 of it where it is compiled for the CPU in fp32.

    There the compiler's own takes longer than all the rest of a step. The rational approximation is
    Eigen's (``generic_fast_tanh_float``); beyond its range, tanh is 1 to fp32's last two bits.
    """
    compiled_for_host = torch.compiler.is_compiling() and argument.device.type == "cpu"
    if not compiled_for_host or argument.dtype != torch.float32:
        return torch.tanh(argument)
    x = argument.clamp(-7.90531110763549805, 7.90531110763549805)
    square = x * x
    return x * _polynomial(square, TANH_NUMERATOR) / _polynomial(square, TANH_DENOMINATOR)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """By Horner's rule, the highest power's coefficient first."""
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
