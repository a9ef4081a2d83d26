"""AlphaGrad's step on the CPU by ``kernel.cpp``, where that was compiled when installing."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CDLL, c_bool, c_double, c_int64, c_void_p
from functools import cache, partial
from importlib.machinery import EXTENSION_SUFFIXES
from operator import attrgetter
from pathlib import Path
from struct import pack, unpack_from

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd.graph import increment_version
from torch.nn import Parameter

__all__ = ["is_built", "is_watched", "prepared", "step", "supported", "warn_that_it_is_missing"]

PATH = Path(__file__).with_name(f"_kernel{EXTENSION_SUFFIXES[0]}")


def load(path: Path) -> CDLL | None:
    """Return the compiled kernel; None if there is none, or, with a warning, if it is damaged."""
    if not path.exists():
        return None
    try:
        check_that_it_is_whole(path)
        library = CDLL(str(path))
        step = library.alphagrad_step_3  # the number changes with the arguments
    except (OSError, AttributeError) as error:
        message = f"{path} is damaged or of another version, steps go without it: {error}"
        warnings.warn(f"{message}; reinstall alphagrad", stacklevel=2)
        return None
    step.argtypes = [c_int64, *3 * [c_void_p], *6 * [c_double], *2 * [c_bool], c_int64]
    step.restype = c_bool
    with suppress(OSError, AttributeError):  # without torch's threads, it goes on in one
        library.alphagrad_use_threads(CDLL(torch._C.__file__).GOMP_parallel)
    return library


def check_that_it_is_whole(path: Path) -> None:
    """Raise an OSError for a truncated file on Linux, where loading it may end the process."""
    with path.open("rb") as file:
        header = file.read(64)
        size = file.seek(0, 2)
    if header.startswith(b"\x7fELF\x02\x01") and len(header) == 64:  # 64 bits, little-endian
        (sections,) = unpack_from("<Q", header, 40)  # the table at the file's end
        entry_size, entries = unpack_from("<HH", header, 58)
        if sections + entry_size * entries > size:
            raise OSError("file is truncated")


_library = load(PATH)


def is_built() -> bool:
    """Return whether the kernel was compiled when this package was installed, and is sound."""
    return _library is not None


@cache
def warn_that_it_is_missing() -> None:
    """Say so, once."""
    reason = "cannot be used" if PATH.exists() else "was not built at installation"
    message = f"fused=True goes on without AlphaGrad's kernel, which {reason}"
    warnings.warn(f"{message}; pip install -v shows why", stacklevel=7)  # of the call of step()


def is_watched() -> bool:
    """Return whether somebody goes by torch's operations, which a step by address does without."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or peek_interpreter_stack() is not None
        or torch.is_inference_mode_enabled()
    )


def supported(
    params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None] | None
) -> Sequence[int]:
    """Return the indices of what the kernel can take: fp32 on the CPU, of torch's own types.

    Gradients may lie in memory as they like. A parameter must be dense (contiguous, transposed or
    channels_last, for example), and its buffer must lie as it does.
    """
    if _library is None or is_watched():
        return ()
    everything = range(len(params))
    if _fit(params, grads, buffers):
        return everything
    return [
        index
        for index in everything
        if _fit([params[index]], [grads[index]], buffers and [buffers[index]])
    ]


def _fit(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor | None] | None) -> bool:
    old_buffers, old_params = [], params
    if buffers is not None:
        old_buffers = [buffer for buffer in buffers if buffer is not None]
        if len(old_buffers) < len(params):
            old_params = [p for p, b in zip(params, buffers, strict=True) if b is not None]
    tensors = params + old_buffers + grads
    return (
        {*map(attrgetter("dtype"), tensors)} == {torch.float32}
        and {*map(type, tensors)} <= {Parameter, Tensor}
        and all(map(attrgetter("is_cpu"), tensors))
        and not any(map(Tensor.is_neg, tensors))
        # For shapes that do not fit, torch has the words.
        and all(map(Tensor.is_same_size, params, grads))
        and all(map(Tensor.is_same_size, old_buffers, old_params))
        and all(map(_is_dense, params))
        and all(map(_lies_as, old_buffers, old_params))
    )


def _is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor fills its memory, each element once, in whatever order."""
    return tensor.is_contiguous() or tensor.stride() == torch.empty_like(tensor).stride()


def _lies_as(one: Tensor, other: Tensor) -> bool:
    """Return whether the elements of two tensors of one shape follow each other alike."""
    if one.stride() == other.stride() or (one.is_contiguous() and other.is_contiguous()):
        return True
    sides = zip(one.shape, one.stride(), other.stride(), strict=True)
    return all(a == b for size, a, b in sides if size != 1)  # of one element, no stride counts


def prepared(
    params: list[Tensor], grads: list[Tensor], indices: Sequence[int]
) -> Callable[..., None]:
    """Return the step of the tensors at these indices, which are `supported`, and of any like them.

    It takes the arguments of `alphagrad.loops.single_tensor`.
    """
    sizes = pack(f"{len(indices)}q", *(params[index].numel() for index in indices))
    astray = [i for i, index in enumerate(indices) if not _lies_as(grads[index], params[index])]
    return partial(step, sizes, astray)


def step(
    sizes: bytes,
    astray: list[int],
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
    """Take the step of `alphagrad.loops.single_tensor`.

    It gives the same bits for any number of threads, of which torch's setting is the most that
    there are, and on CPUs of one kind: those with fused multiply-add round otherwise than those
    without, and so may other compilers. ``astray`` are the gradients that do not lie in memory as
    their parameters do, and so are copied.

    Raises:
        RuntimeError: if a tensor has elements and no memory; nothing has been changed then.
    """
    assert _library is not None
    lr = float(lr)
    if astray:
        grads = grads.copy()
        for index in astray:
            grads[index] = torch.empty_like(params[index]).copy_(grads[index])
    count = len(params)
    written, added = params, None
    if buffers is not None:
        added = pack(f"{count}d", *[1 if buffer is None else 1 - dampening for buffer in buffers])
        new_buffers = [
            torch.zeros_like(param) if buffer is None else buffer
            for param, buffer in zip(params, buffers, strict=True)
        ]
        written = params + new_buffers
    tensors = grads + written
    if not _library.alphagrad_step_3(
        count,
        sizes,
        pack(f"{len(tensors)}P", *map(Tensor.data_ptr, tensors)),
        added,
        lr,
        alpha,
        float(eps),
        momentum,
        1.0 if coupled_weight_decay else 1 - lr * weight_decay,
        weight_decay if coupled_weight_decay else 0.0,
        nesterov,
        alpha_scaling == "sqrt",
        torch.get_num_threads(),
    ):
        raise RuntimeError("a parameter, its gradient or its momentum has no memory (freed, zero)")
    increment_version(written)
    if buffers is not None:
        buffers[:] = new_buffers
