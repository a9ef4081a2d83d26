"""The loop over single tensors, compiled by torch.compile where a compiler is to be had."""

import warnings
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from alphagrad.normalization import is_safe, sum_of_squares, widened

__all__ = ["step"]

Loop = Callable[..., None]

_without_compiler = False


def step(
    loop: Loop,
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float | Tensor,
    alpha: float,
    eps: float | Tensor,
    momentum: float,
    **settings: Any,
) -> bool:
    """A step of the loop; whether it was taken.

    It is not where the momentum has no buffer yet, within another compilation, and without a
    compiler: then nothing has been changed, and for the last a warning says why, once.
    """
    global _without_compiler
    first_step = momentum != 0 and any(buffer is None for buffer in momentum_buffers)
    if _without_compiler or first_step or torch.compiler.is_compiling():
        return False
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    settings["momentum"] = momentum
    device = params[0].device
    compiled = _compiled(loop, device.type == "cpu", *settings.items())
    # What schedules change enters as a tensor, since other numbers are compiled in.
    lr_tensor = lr if isinstance(lr, Tensor) else _constant(lr, device)
    try:
        done = compiled(params, grads, momentum_buffers, lr_tensor, _constant(alpha, device), eps)
    except TorchDynamoException as error:
        _without_compiler = True
        reason = str(error).strip().partition("\n")[0]
        message = f"fused=True goes on without torch.compile, which failed: {reason}"
        warnings.warn(message, stacklevel=2)
        return False
    if done is not None and not all(flags := done.tolist()):
        for index, flag in enumerate(flags):
            if not flag:
                one = slice(index, index + 1)
                lists = params[one], grads[one], momentum_buffers[one]
                loop(*lists, lr=lr, alpha=alpha, eps=eps, **settings)
    return True


@cache
def _compiled(loop: Loop, on_cpu: bool, *settings: tuple[str, Any]) -> Callable[..., Tensor | None]:
    function = partial(_step_where_safe if on_cpu else _step, loop, **dict(settings))
    compiled: Callable[..., Tensor | None] = torch.compile(  # type: ignore[call-overload]
        function,
        dynamic=False,
        recompile_limit=64,  # sets of shapes
        isolate_recompiles=True,
        options={"size_asserts": False},  # of what the guards have seen, at a third of a step
    )
    return compiled


@lru_cache(maxsize=64)
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=torch.float64, device=device)


def _step(
    loop: Loop,
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    lr: Tensor,
    alpha: Tensor,
    eps: float | Tensor,
    **settings: Any,
) -> None:
    loop(params, grads, momentum_buffers, lr=lr, alpha=alpha, eps=eps, **settings)


def _step_where_safe(
    loop: Loop,
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    lr: Tensor,
    alpha: Tensor,
    eps: float | Tensor,
    **settings: Any,
) -> Tensor:
    """Change what has a norm that fp32 sums give exactly; returns a flag for each tensor."""
    norms = [sum_of_squares(widened(grad)).sqrt() for grad in grads]
    flags = [is_safe(norm) for norm in norms]
    new_params = [param.clone() for param in params]
    new_buffers = [None if buffer is None else buffer.clone() for buffer in momentum_buffers]
    loop(new_params, grads, new_buffers, lr=lr, alpha=alpha, eps=eps, norms=norms, **settings)
    old, new = [*params, *momentum_buffers], [*new_params, *new_buffers]
    for old_tensor, new_tensor, flag in zip(old, new, 2 * flags, strict=True):
        if old_tensor is not None and new_tensor is not None:
            old_tensor.copy_(torch.where(flag, new_tensor, old_tensor))
    return torch.stack(flags)
