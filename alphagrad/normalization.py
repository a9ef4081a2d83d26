"""The numerics of ``tanh(alpha * g / (norm(g) + eps))``, exact for any finite gradient."""

import math

import torch
from torch import Tensor

# On the CPU a sum of squares in fp32 loses accuracy with its length (6e-4 at 16M elements): longer
# gradients take the norm of the norms of blocks.
NORM_BLOCK = 4096
LONG = 32 * NORM_BLOCK

# Beyond these, squares of fp32 elements may overflow, or vanish, before they are summed.
SAFE_NORMS = (1e-15, 1e18)


def steepness(grad: Tensor, alpha: float, alpha_scaling: str) -> float:
    """The alpha of one tensor."""
    return alpha * math.sqrt(grad.numel()) if alpha_scaling == "sqrt" else alpha


def widened(grad: Tensor) -> Tensor:
    """Half precision as fp32: neither its norm nor 1 / norm would fit."""
    return grad.float() if grad.dtype in (torch.float16, torch.bfloat16) else grad


def tanh_argument(grad: Tensor, alpha: float, eps: float | Tensor) -> Tensor:
    """``alpha * grad / (norm + eps)``."""
    norm = _l2_norm(grad)
    if _on_host(grad) and not _is_safe(norm.item()):
        return _rescaled_tanh_argument(grad, alpha, eps)
    return grad * _scale(norm, alpha, eps).to(grad.dtype)


def tanh_arguments(grads: list[Tensor], alphas: list[float], eps: float | Tensor) -> list[Tensor]:
    """`tanh_argument` of gradients on one device and of one type."""
    stacked = _stacked_norms(grads)
    alpha: float | Tensor = alphas[0]
    if any(other != alpha for other in alphas):
        # Numbers reach a device as arguments of a kernel, where torch.tensor(alphas) would wait.
        alpha = torch.stack(torch._foreach_mul([stacked.new_ones(())] * len(alphas), alphas))
    scales = _scale(stacked, alpha, eps).to(grads[0].dtype)
    arguments = list(torch._foreach_mul(grads, list(scales.unbind())))
    if _on_host(grads[0]):
        for index, norm in enumerate(stacked.tolist()):
            if not _is_safe(norm):
                arguments[index] = _rescaled_tanh_argument(grads[index], alphas[index], eps)
    return arguments


def _stacked_norms(grads: list[Tensor]) -> Tensor:
    if _on_host(grads[0]) and max(grad.numel() for grad in grads) >= LONG:
        return torch.stack([_l2_norm(grad) for grad in grads])
    dtype = None if _on_host(grads[0]) else torch.float64
    return torch.stack(torch._foreach_norm(grads, 2, dtype))


def _is_safe(norm: float) -> bool:
    """Whether no square overflowed, and none that counts vanished, on the way to an fp32 norm."""
    return SAFE_NORMS[0] <= norm <= SAFE_NORMS[1]


def _on_host(tensor: Tensor) -> bool:
    """Whether looking at a value is cheap: neither waits for a device nor breaks a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _l2_norm(grad: Tensor) -> Tensor:
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


def _scale(norm: Tensor, alpha: float | Tensor, eps: float | Tensor) -> Tensor:
    """``alpha / (norm + eps)``, finite for a zero gradient and NaN for an infinite one.

    On the CPU an infinite norm never counts: `SAFE_NORMS` excludes it.
    """
    factor = (alpha / (norm + eps)).clamp(max=torch.finfo(torch.float32).max)
    return factor if _on_host(norm) else factor.masked_fill(norm.isinf(), math.nan)


def _rescaled_tanh_argument(grad: Tensor, alpha: float, eps: float | Tensor) -> Tensor:
    """`tanh_argument` for a gradient whose squares overflow or vanish."""
    if not grad.any():
        return torch.zeros_like(grad)
    largest = torch.linalg.vector_norm(grad, math.inf)
    unit = grad / largest
    # A number divided by a tensor is its reciprocal's multiple, and that may be infinite.
    unit_eps = torch.as_tensor(eps, dtype=grad.dtype, device=grad.device) / largest
    factor: Tensor = alpha / (_l2_norm(unit) + unit_eps)
    argument: Tensor = unit * factor.masked_fill(largest.isinf(), math.nan)
    return argument
