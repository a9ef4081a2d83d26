"""AlphaGrad's step on the CPU by ``kernel.cpp``, where that was compiled when installing."""

import warnings
from ctypes import CDLL, Array, c_bool, c_double, c_int64, c_void_p
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

__all__ = ["is_built", "step", "supports", "warn_that_it_is_missing"]


def _load() -> CDLL | None:
    path = Path(__file__).with_name(f"_kernel{EXTENSION_SUFFIXES[0]}")
    if not path.exists():
        return None
    library = CDLL(str(path))
    types: list[Any] = [c_int64, *5 * [c_void_p], *6 * [c_double], *3 * [c_bool], c_int64]
    library.alphagrad_step.argtypes = types
    library.alphagrad_step.restype = None
    return library


_library = _load()


def is_built() -> bool:
    """Whether there was a C++ compiler when this package was installed."""
    return _library is not None


@cache
def warn_that_it_is_missing() -> None:
    """Say so, once."""
    message = "fused=True goes on without a kernel: no C++ compiler was found at installation"
    warnings.warn(message, stacklevel=6)  # of the call of the optimizer's step


def supports(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None]) -> bool:
    """Whether `step` can take these tensors: fp32 on the CPU, of torch's own types.

    Gradients may lie in memory as they like; parameters and buffers must be contiguous.
    """
    if _library is None or torch.compiler.is_compiling():
        return False
    old_buffers = [buffer for buffer in buffers if buffer is not None]
    written = params + old_buffers
    tensors = written + grads
    sizes = [*map(Tensor.numel, params)]
    return (
        {*map(attrgetter("dtype"), tensors)} == {torch.float32}
        and {*map(type, tensors)} <= {Parameter, Tensor}
        and all(map(attrgetter("is_cpu"), tensors))
        and all(map(Tensor.is_contiguous, written))
        and not any(map(Tensor.is_neg, tensors))
        # The kernel goes by address. For what does not fit, torch has the words.
        and [*map(Tensor.numel, grads)] == sizes
        and all(
            buffer is None or buffer.numel() == size
            for buffer, size in zip(buffers, sizes, strict=True)
        )
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
    """The step of `alphagrad.optimizer._single_tensor_alphagrad`, for what `supports` allows.

    The same bits for any number of threads, of which torch's setting is the most that there are.
    """
    assert _library is not None
    lr = float(lr)
    grads = [grad.contiguous() for grad in grads]
    buffers = added = None
    if momentum != 0:
        added = (c_double * len(params))(
            *[1 if b is None else 1 - dampening for b in momentum_buffers]
        )
        for index, buffer in enumerate(momentum_buffers):
            if buffer is None:
                momentum_buffers[index] = torch.zeros_like(params[index])
        buffers = _pointers(momentum_buffers)
        increment_version(momentum_buffers)  # type: ignore[arg-type]
    increment_version(params)
    _library.alphagrad_step(
        len(params),
        (c_int64 * len(params))(*map(Tensor.numel, params)),
        _pointers(params),
        _pointers(grads),
        buffers,
        added,
        lr,
        alpha,
        float(eps),
        momentum,
        1.0 if coupled_weight_decay else 1 - lr * weight_decay,
        weight_decay if coupled_weight_decay else 0.0,
        nesterov,
        alpha_scaling == "sqrt",
        maximize,
        torch.get_num_threads(),
    )


def _pointers(tensors: list[Any]) -> Array[c_void_p]:
    return (c_void_p * len(tensors))(*map(Tensor.data_ptr, tensors))
