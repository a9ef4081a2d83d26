"""The loop over single tensors, compiled by torch.compile where a compiler is to be had."""

import warnings
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from alphagrad.loops import single_tensor

__all__ = ["step", "supports"]

_without_compiler = False


def supports(params: list[Tensor], buffers: list[Tensor | None] | None) -> bool:
    """Return whether `step` is of use: on CUDA, from the second step on, if there is a compiler.

    ``buffers`` are the momentum's, None without one.
    """
    return (
        all(param.is_cuda for param in params)
        and (buffers is None or all(buffer is not None for buffer in buffers))
        and not _without_compiler
        and not torch.compiler.is_compiling()
    )


def step(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
    *,
    lr: float | Tensor,
    alpha: float,
    momentum: float,
    eps: float | Tensor,
    **settings: Any,
) -> None:
    """Take a step of the loop, compiled. If that fails, warn once, and take the step as it is."""
    global _without_compiler
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    # What schedules change enters as a tensor, since other numbers are compiled in.
    device = params[0].device
    scheduled = {
        name: value if isinstance(value, Tensor) else _constant(value, device)
        for name, value in (("lr", lr), ("alpha", alpha), ("momentum", momentum))
    }
    try:
        _compiled(**settings)(params, grads, buffers, eps=eps, **scheduled)
    except TorchDynamoException as error:
        _without_compiler = True
        reason = str(error).strip().partition("\n")[0]
        message = f"fused=True goes on without torch.compile, which failed: {reason}"
        warnings.warn(message, stacklevel=2)
        single_tensor(
            params, grads, buffers, lr=lr, alpha=alpha, momentum=momentum, eps=eps, **settings
        )


@cache
def _compiled(**settings: Any) -> Callable[..., None]:
    compiled: Callable[..., None] = torch.compile(  # type: ignore[call-overload]
        partial(single_tensor, **settings),
        dynamic=False,
        recompile_limit=64,  # sets of shapes
        isolate_recompiles=True,
        options={"size_asserts": False},  # of what the guards have seen, at a third of a step
    )
    return compiled


@lru_cache(maxsize=64)
def _constant(value: float, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=torch.float64, device=device)
