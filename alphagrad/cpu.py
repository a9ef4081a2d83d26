"""AlphaGrad's step on the CPU, for fp32 and fp64, in pieces that fit a core's cache.

A large tensor goes through in pieces, and small tensors together: on lists of them, torch does the
products and tanh, and ``torch._fused_sgd_`` momentum and update in one pass. No temporary is larger
than two pieces, but the copy of a gradient that is not contiguous or needs rescaling.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Parameter

from alphagrad.normalization import is_safe, l2_norms, rescaled_tanh_argument, steepness

PIECE = 1 << 17  # elements


def supports(tensors: list[Tensor]) -> bool:
    """Whether `step` can change these tensors. Gradients may lie in memory as they like."""
    return all(
        tensor.is_cpu
        and tensor.dtype in (torch.float32, torch.float64)
        and type(tensor) in (Parameter, Tensor)
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
    groups: dict[tuple[torch.dtype, bool], list[int]] = defaultdict(list)
    for index, (param, buffer) in enumerate(zip(params, momentum_buffers, strict=True)):
        groups[param.dtype, buffer is None].append(index)
        if buffer is None and momentum != 0:
            momentum_buffers[index] = torch.empty_like(param)
    for (dtype, is_first_step), indices in groups.items():
        group_params = [params[index] for index in indices]
        if weight_decay != 0 and not coupled_weight_decay:
            torch._foreach_mul_(group_params, 1 - lr * weight_decay)
        group_grads = [grads[index] for index in indices]
        factors = _factors(group_grads, alpha, eps, alpha_scaling, torch.finfo(dtype).max)
        tensors = [group_params, group_grads]
        if momentum != 0:
            tensors.append([momentum_buffers[index] for index in indices])  # type: ignore[misc]
        for (some_params, some_grads, *some_buffers), some_factors in _batches(tensors, factors):
            updates = torch._foreach_mul(some_grads, some_factors)
            torch._foreach_tanh_(updates)
            torch._fused_sgd_(
                some_params,
                updates,
                some_buffers[0] if some_buffers else [],
                lr=lr,
                momentum=momentum,
                dampening=dampening,
                nesterov=nesterov,
                weight_decay=weight_decay if coupled_weight_decay else 0.0,
                maximize=maximize,
                is_first_step=is_first_step,
            )


def _factors(
    grads: list[Tensor], alpha: float, eps: float | Tensor, alpha_scaling: str, largest: float
) -> list[float]:
    """``alpha / (norm + eps)``; a gradient with no safe norm is replaced by tanh's argument."""
    factors = []
    for index, norm in enumerate(l2_norms(grads)):
        own_alpha = steepness(grads[index], alpha, alpha_scaling)
        if is_safe(norm):
            factors.append(min(own_alpha / (norm + float(eps)), largest))
        else:
            grads[index] = rescaled_tanh_argument(grads[index], own_alpha, eps)
            factors.append(1.0)
    return factors


def _batches(
    tensors: list[list[Tensor]], factors: list[float]
) -> Iterator[tuple[list[list[Tensor]], list[float]]]:
    """Lists of whole tensors and of pieces, of less than two pieces' elements in all."""
    if sum(tensor.numel() for tensor in tensors[0]) < 2 * PIECE:
        yield tensors, factors
        return
    batch: list[list[Tensor]] = [[] for _ in tensors]
    batch_factors: list[float] = []
    size = 0
    for *own, factor in zip(*tensors, factors, strict=True):
        numel = own[0].numel()
        whole_or_pieces = (
            zip(*(each.reshape(-1).split(PIECE) for each in own), strict=True)
            if numel > PIECE
            else [own]
        )
        for piece in whole_or_pieces:
            for target, tensor in zip(batch, piece, strict=True):
                target.append(tensor)
            batch_factors.append(factor)
            size += min(numel, PIECE)
            if size >= PIECE:
                yield batch, batch_factors
                batch, batch_factors, size = [[] for _ in tensors], [], 0
    if batch_factors:
        yield batch, batch_factors
