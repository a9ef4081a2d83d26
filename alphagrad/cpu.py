"""AlphaGrad's step on the CPU, for fp32 and fp64.

Small tensors cost kernel launches and large ones memory traffic. So small tensors are copied into
the rows of a scratch block, where each kernel serves all of them, and large ones pass through such
a block piece by piece: it stays in the cache, and no temporary is larger. ``torch._fused_sgd_``
does the rest, momentum and update, in one pass.
"""

from collections import defaultdict
from functools import lru_cache, partial
from threading import get_ident
from typing import NamedTuple

import torch
from torch import Size, Tensor
from torch.nn import Parameter

from alphagrad.normalization import is_safe, l2_norm, rescaled_tanh_argument, steepness

BLOCK = 1 << 16  # elements: 256 KB in fp32, which a core's cache holds beside what it works on
ROW = 128  # elements: each small tensor starts a row


def supports(tensors: list[Tensor]) -> bool:
    """Whether `step` can change these tensors. Gradients may lie in memory as they like."""
    return all(
        tensor.is_cpu
        and tensor.dtype in (torch.float32, torch.float64)
        and type(tensor) in (Tensor, Parameter)
        and tensor.is_contiguous()  # _fused_sgd_ goes by address, and would not notice
        for tensor in tensors
    )


def step(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float | Tensor,
    alpha: float,
    eps: float | Tensor,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    coupled_weight_decay: bool,
    alpha_scaling: str,
    maximize: bool,
) -> None:
    """The step of `alphagrad.optimizer._single_tensor_alphagrad`, for what `supports` allows."""
    descend = partial(
        _descend,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        nesterov=nesterov,
        weight_decay=weight_decay,
        coupled_weight_decay=coupled_weight_decay,
        maximize=maximize,
    )
    is_first = [buffer is None for buffer in momentum_buffers]
    if momentum != 0 and any(is_first):
        for index, param in enumerate(params):
            if is_first[index]:
                momentum_buffers[index] = torch.empty_like(param)
    buffers: list[Tensor] = momentum_buffers if momentum != 0 else []  # type: ignore[assignment]

    small, large, scratch = _plan(
        tuple([param.shape for param in params]),
        tuple([param.dtype for param in params]),
        tuple(is_first),
        get_ident(),  # a scratch block is one thread's own
    )
    for group in small:
        chosen = group.indices
        updates = _small_updates(group, [grads[i] for i in chosen], alpha, eps, alpha_scaling)
        descend(
            [params[i] for i in chosen],
            updates,
            [buffers[i] for i in chosen] if buffers else [],
            is_first_step=is_first[chosen[0]],
        )
    for index in large:
        grad, factor = _factors(grads[index], steepness(grads[index], alpha, alpha_scaling), eps)
        block = scratch[grad.dtype]
        whole = [params[index], grad, *buffers[index : index + 1]]
        for param, piece, *buffer in zip(*(_pieces(tensor) for tensor in whole), strict=True):
            update = torch.mul(piece, factor, out=block[: len(piece)]).tanh_()
            descend([param], [update], buffer, is_first_step=is_first[index])


def _descend(
    params: list[Tensor],
    updates: list[Tensor],
    momentum_buffers: list[Tensor],
    *,
    lr: float | Tensor,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    coupled_weight_decay: bool,
    maximize: bool,
    is_first_step: bool,
) -> None:
    """SGD along the updates, which are ``tanh``'s values."""
    if weight_decay != 0 and not coupled_weight_decay:
        torch._foreach_mul_(params, 1 - lr * weight_decay)
    torch._fused_sgd_(
        params,
        updates,
        momentum_buffers,
        lr=lr,
        momentum=momentum,
        dampening=dampening,
        nesterov=nesterov,
        weight_decay=weight_decay if coupled_weight_decay else 0.0,
        maximize=maximize,
        is_first_step=is_first_step,
    )


class _Small(NamedTuple):
    """Small tensors of one type, in rows of one scratch block."""

    indices: list[int]
    rows: Tensor  # (rows, ROW): each tensor from a row's beginning, then zeros
    views: list[Tensor]  # of the rows, in the tensors' shapes
    owners: Tensor  # (rows,): which tensor a row belongs to
    root_sizes: Tensor  # (tensors,)


@lru_cache(maxsize=16)
def _plan(
    shapes: tuple[Size, ...],
    dtypes: tuple[torch.dtype, ...],
    is_first: tuple[bool, ...],
    thread: int,
) -> tuple[list[_Small], list[int], dict[torch.dtype, Tensor]]:
    """Groups of small tensors, the indices of large ones, and a block of each type for those."""
    groups: dict[tuple[torch.dtype, bool], list[list[int]]] = defaultdict(lambda: [[]])
    large = []
    for index, (shape, dtype, first) in enumerate(zip(shapes, dtypes, is_first, strict=True)):
        if shape.numel() >= BLOCK:
            large.append(index)
            continue
        kind = groups[dtype, first]
        if sum(_row_count(shapes[i]) for i in [*kind[-1], index]) > BLOCK // ROW:
            kind.append([])
        kind[-1].append(index)
    small = [
        _in_rows(indices, [shapes[i] for i in indices], dtype)
        for (dtype, _), kind in groups.items()
        for indices in kind
    ]
    scratch = {
        dtype: torch.empty(BLOCK, dtype=dtype, device="cpu")
        for dtype in {dtypes[index] for index in large}
    }
    return small, large, scratch


def _in_rows(indices: list[int], shapes: list[Size], dtype: torch.dtype) -> _Small:
    counts = [_row_count(shape) for shape in shapes]
    rows = torch.empty(sum(counts), ROW, dtype=dtype, device="cpu")
    views = [
        own.view(-1)[: shape.numel()].view(shape)
        for own, shape in zip(rows.split(counts), shapes, strict=True)
    ]
    owners = torch.repeat_interleave(torch.tensor(counts, device="cpu"))
    sizes = torch.tensor([shape.numel() for shape in shapes], device="cpu")
    return _Small(indices, rows, views, owners, sizes.double().sqrt())


def _row_count(shape: Size) -> int:
    return -(-shape.numel() // ROW)


def _small_updates(
    group: _Small, grads: list[Tensor], alpha: float, eps: float | Tensor, alpha_scaling: str
) -> list[Tensor]:
    """``tanh(alpha * g / (norm + eps))``, in the group's views."""
    rows, views = group.rows, group.views
    rows.zero_()
    torch._foreach_copy_(views, grads)
    squares = torch.linalg.vector_norm(rows, dim=1).double().square_()
    norms = squares.new_zeros(len(grads)).index_add_(0, group.owners, squares).sqrt_()
    extreme = [index for index, norm in enumerate(norms.tolist()) if not is_safe(norm)]
    factors = norms.add_(eps).reciprocal_().mul_(alpha)
    if alpha_scaling == "sqrt":
        factors.mul_(group.root_sizes)
    factors = factors.clamp_(max=torch.finfo(rows.dtype).max).to(rows.dtype)
    rows.mul_(factors.index_select(0, group.owners).unsqueeze(1))
    for index in extreme:
        own_alpha = steepness(grads[index], alpha, alpha_scaling)
        views[index].copy_(rescaled_tanh_argument(grads[index], own_alpha, eps))
    rows.tanh_()
    return views


def _factors(grad: Tensor, alpha: float, eps: float | Tensor) -> tuple[Tensor, float]:
    """Two factors of ``alpha * grad / (norm + eps)``."""
    norm = l2_norm(grad).item()
    if is_safe(norm):
        return grad, min(alpha / (norm + float(eps)), torch.finfo(grad.dtype).max)
    return rescaled_tanh_argument(grad, alpha, eps), 1.0


def _pieces(tensor: Tensor) -> tuple[Tensor, ...]:
    pieces: tuple[Tensor, ...] = tensor.reshape(-1).split(BLOCK)
    return pieces
