"""AlphaGrad's step in torch's own operations: the rule as it reads, and on lists of tensors."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from alphagrad.normalization import direction, directions, widened

__all__ = ["multi_tensor", "single_tensor"]


def single_tensor(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
    *,
    lr: float | Tensor,
    alpha: float | Tensor,
    eps: float | Tensor,
    momentum: float | Tensor,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    coupled_weight_decay: bool,
    alpha_scaling: str,
) -> None:
    """Take the rule's step, tensor by tensor, as it reads; ``buffers`` is None without momentum.

    Of tensors in half precision, all is computed in fp32, and rounded once, when it is stored.
    """
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        value = widened(param)  # itself, unless in half precision
        update = direction(grad, alpha, eps, alpha_scaling).to(value.dtype)

        if coupled_weight_decay and weight_decay != 0:
            update = update.add(value, alpha=weight_decay)
        elif weight_decay != 0:
            value.mul_(1 - lr * weight_decay)

        if buffers is not None:
            buffer = buffers[index]
            if buffer is None:
                velocity = update
                buffers[index] = update.to(param.dtype, copy=True)
            else:
                velocity = widened(buffer).mul_(momentum).add_(update, alpha=1 - dampening)
                if velocity is not buffer:
                    buffer.copy_(velocity)
                elif torch.is_grad_enabled():
                    velocity = velocity.clone()  # autograd saves it
            update = _add_(update.clone(), velocity, momentum) if nesterov else velocity

        _add_(value, update, -lr)
        if value is not param:
            param.copy_(value)


def _add_(tensor: Tensor, other: Tensor, factor: float | Tensor) -> Tensor:
    """Add ``factor * other`` to a tensor in place, and return it."""
    if isinstance(factor, Tensor):
        return tensor.add_(other * factor)
    return tensor.add_(other, alpha=factor)


def multi_tensor(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
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
) -> None:
    """Take the same step on lists of tensors, one list for each device, type and class."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        groups[param.device, param.dtype, grad.dtype, type(grad)].append(index)
    for indices in groups.values():
        group_params = [params[index] for index in indices]
        values = [widened(param) for param in group_params]
        updates = directions([grads[index] for index in indices], alpha, eps, alpha_scaling)

        if coupled_weight_decay and weight_decay != 0:
            torch._foreach_add_(updates, values, alpha=weight_decay)
        elif weight_decay != 0:
            torch._foreach_mul_(values, 1 - lr * weight_decay)

        if buffers is not None:
            old = [(i, buffers[index]) for i, index in enumerate(indices)]
            velocities = {i: widened(buffer) for i, buffer in old if buffer is not None}
            if velocities:
                old_velocities = list(velocities.values())
                torch._foreach_mul_(old_velocities, momentum)
                torch._foreach_add_(
                    old_velocities, [updates[i] for i in velocities], alpha=1 - dampening
                )
            for i, buffer in old:
                if buffer is None:
                    velocities[i] = updates[i]
                    buffers[indices[i]] = updates[i].to(group_params[i].dtype, copy=True)
                elif buffer is not velocities[i]:
                    buffer.copy_(velocities[i])
            own = [velocities[i] for i in range(len(indices))]
            if nesterov:
                torch._foreach_add_(updates, own, alpha=momentum)
            else:
                updates = own

        if isinstance(lr, Tensor):
            torch._foreach_add_(values, list(torch._foreach_mul(updates, -lr)))
        else:
            torch._foreach_add_(values, updates, alpha=-lr)
        if values[0] is not group_params[0]:
            torch._foreach_copy_(group_params, values)
