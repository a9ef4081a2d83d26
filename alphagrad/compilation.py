"""A function by torch.compile, where a compiler is to be had."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

__all__ = ["call_compiled"]

_failed: set[Callable[..., None]] = set()


def call_compiled(function: Callable[..., None], *args: Any, **kwargs: Any) -> bool:
    """Call a function, compiled at its first call for these arguments.

    Returns:
        Whether that could be done. If not, nothing has been changed, and a warning says why, once.
    """
    if function in _failed:
        return False
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    try:
        _compiled(function)(*args, **kwargs)
    except TorchDynamoException as error:
        _failed.add(function)
        reason = str(error).strip().partition("\n")[0]
        message = f"fused=True goes on without torch.compile, which failed: {reason}"
        warnings.warn(message, stacklevel=2)
        return False
    return True


@cache
def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    return torch.compile(function, dynamic=False)
