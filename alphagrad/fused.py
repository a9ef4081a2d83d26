"""The loop over single tensors, compiled by torch.compile where a compiler is to be had."""

import warnings
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

__all__ = ["step"]

_without_compiler = False


def step(
    loop: Callable[..., None],
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

    compiled = _compiled(loop, momentum=momentum, **settings)
    # What schedules change enters as a tensor, since other numbers are compiled in.
    device = params[0].device
    lr_tensor = lr if isinstance(lr, Tensor) else _constant(lr, device)
    alpha_tensor = _constant(alpha, device)
    try:
        compiled(params, grads, momentum_buffers, lr=lr_tensor, alpha=alpha_tensor, eps=eps)
    except TorchDynamoException as error:
        _without_compiler = True
        reason = str(error).strip().partition("\n")[0]
        message = f"fused=True goes on without torch.compile, which failed: {reason}"
        warnings.warn(message, stacklevel=2)
        return False
    return True


@cache
def _compiled(loop: Callable[..., None], **settings: Any) -> Callable[..., None]:
    compiled: Callable[..., None] = torch.compile(  # type: ignore[call-overload]
        partial(loop, **settings),
        dynamic=False,
        recompile_limit=64,  # sets of shapes
        isolate_recompiles=True,
        options={"size_asserts": False},  # of what the guards have seen, at a third of a step
    )
    return compiled


@lru_cache(maxsize=64)
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=torch.float64, device=device)
