"""What was chosen for a group's tensors, remembered: to choose takes longer than a small step."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor
from torch.nn import Parameter

try:
    from torch._C._dynamo.guards import TensorGuards
except ImportError:  # it is torch's own; without it, each step chooses anew
    TensorGuards = None  # type: ignore[assignment, misc]

__all__ = ["Choice", "Memory"]

Choice: TypeAlias = list[tuple[Callable[..., None], Sequence[int]]]
"""Implementations, each with the indices of the tensors that it takes."""


class Memory:
    """The last choice, and what tells whether it holds for other tensors.

    It has neither tensors nor addresses, but of each tensor what ``torch.compile`` asks before its
    kernels go by the address: class, keys of dispatch, type, device, requires_grad, shape, strides.
    """

    def __init__(self) -> None:
        self._choice: Choice = []
        self._key: tuple[Any, ...] = ()
        self._guards: Any = None

    def recall(self, tensors: Sequence[Any], *key: Any) -> Choice | None:
        """Return what was chosen for tensors like these and the same key, if that was the last."""
        if self._guards is None or self._key != (len(tensors), *key):
            return None
        return self._choice if self._guards.check(*tensors) else None

    def keep(self, choice: Choice, tensors: Sequence[Any], *key: Any) -> None:
        """Remember a choice for tensors of torch's own types on the CPU; forget it for others."""
        self._guards = None
        if TensorGuards is not None and all(
            type(tensor) in (Tensor, Parameter) and tensor.is_cpu for tensor in tensors
        ):
            self._guards = TensorGuards(
                *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
            )
            self._choice = choice
            self._key = (len(tensors), *key)
