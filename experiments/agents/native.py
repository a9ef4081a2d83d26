"""Networks, losses and Adam's step by ``native.cpp``, where that was compiled; else by torch.

It is called with addresses, and takes fp32 tensors on the CPU only.
"""

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ctypes import CDLL, Structure, byref, c_bool, c_double, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from alphagrad.kernel import check_that_it_is_whole
from experiments.agents import mlp

SOURCES = (
    Path(__file__).with_suffix(".cpp"),
    Path(__file__).parents[2] / "alphagrad" / "vectors.h",
)
MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # of torch.optim.Adam's state
ACTIVATIONS: dict[type[nn.Module] | None, int] = {None: 0, nn.ReLU: 1, nn.Tanh: 2}


def fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    """Return fields of a structure, all of one kind."""
    return [(name, kind) for name in names.split()]


class Layer(Structure):
    """``Layer`` of native.cpp."""

    _fields_ = [
        *fields(c_int64, "inputs outputs activation"),
        *fields(c_void_p, "weight bias weight_gradient bias_gradient values derivatives"),
    ]


class Minibatch(Structure):
    """``Minibatch`` of native.cpp."""

    _fields_ = [
        *fields(c_int64, "rows dimensions"),
        *fields(c_void_p, "means values log_std"),
        *fields(c_void_p, "actions old_values old_log_probability advantages returns"),
        *fields(c_void_p, "by_means by_values by_log_std statistics"),
    ]


class Moments(Structure):
    """``Moments`` of native.cpp."""

    _fields_ = [
        ("size", c_int64),
        *fields(c_void_p, "parameter gradient mean mean_square steps"),
    ]


@cache
def say(reason: str) -> None:
    """Say once for what torch is taken."""
    print(f"torch in place of native.cpp: {reason}", file=sys.stderr, flush=True)


def load(built: Path) -> CDLL | None:
    """Return a compiled ``native.cpp``; where there is none that can be used, say so."""
    try:
        if built.stat().st_mtime < max(source.stat().st_mtime for source in SOURCES):
            raise OSError("it is older than its sources: make setup")
        check_that_it_is_whole(built)
        native = CDLL(str(built))
        native.use_sgemm(CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).sgemm_)
    except (OSError, AttributeError) as error:
        say(f"{built} cannot be used: {error}")
        return None
    array: list[Any] = [c_void_p, c_int64]
    native.forward.argtypes = [*array, c_int64, c_void_p]
    native.backward.argtypes = [*array, c_int64, c_void_p, c_void_p, c_bool, c_void_p]
    native.ppo_gradients.argtypes = [c_void_p, c_bool, *[c_double] * 4]
    native.clip_gradients.argtypes = [*array, c_double]
    native.adam_step.argtypes = [*array, *[c_double] * 4]
    for name in ("forward", "backward", "ppo_gradients", "clip_gradients", "adam_step"):
        getattr(native, name).restype = None
    return native


@cache
def compiled() -> CDLL | None:
    """Return the compiled ``native.cpp``, or None."""
    return load(SOURCES[0].with_name("_native.so"))


_left_out = ContextVar("left_out", default=False)


@contextmanager
def left_out() -> Iterator[None]:
    """Let torch compute, for a comparison."""
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)


def library() -> CDLL | None:
    """Return the compiled ``native.cpp``, or None where torch is to compute."""
    if _left_out.get():
        return None
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        say(f"products are of {precision} precision")
        return None
    return compiled()


def supports(*tensors: Tensor) -> bool:
    """Return whether the library is there and takes these tensors; if not, say why, once."""
    if library() is None:
        return False
    for tensor in tensors:
        if tensor.dtype != torch.float32 or not tensor.is_cpu:
            say(f"{tensor.dtype} on {tensor.device.type} is not fp32 on the CPU")
            return False
    return all(map(Tensor.is_contiguous, tensors))


class Mlp(mlp.Mlp):
    """`experiments.agents.mlp.Mlp`, whose results are overwritten by the next ones of their kind.

    Args:
        modules: as there.

    Raises:
        TypeError: as there.
    """

    def __init__(self, modules: nn.Module | Iterable[nn.Module]) -> None:
        super().__init__(modules)
        self.parameters = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        self.addresses: list[int] = []
        self.capacity = 0  # rows
        self.is_native = False  # the last pass

    def __getstate__(self) -> dict[str, Any]:
        """Leave out addresses: a copy has its own."""
        own: dict[str, Any] = {"native": None, "addresses": [], "memory": [], "is_native": False}
        return vars(self) | own

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs (n, out) for inputs (n, in)."""
        rows = inputs.shape[0]
        self.is_native = self._prepare(inputs, rows)
        if not self.is_native:
            return super().forward(inputs)
        self.inputs = inputs
        native = library()
        assert native is not None
        native.forward(self.native, len(self.native), rows, inputs.data_ptr())
        return self.values[-1][:rows]

    def backward(self, gradient: Tensor) -> None:
        """Set the parameters' gradients of a loss, from its derivatives by the last outputs."""
        if not self.is_native:
            return super().backward(gradient)
        self._backward(gradient, None)
        for parameter, own in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = own

    def input_gradient(self, gradient: Tensor) -> Tensor:
        """Return a loss's derivatives by the last inputs (n, in)."""
        if not self.is_native:
            return super().input_gradient(gradient)
        self._backward(gradient, self.by_inputs.data_ptr())
        return self.by_inputs[: gradient.shape[0]]

    def _backward(self, gradient: Tensor, by_inputs: int | None) -> None:
        """Write the derivatives by the inputs there or, for None, those by the parameters."""
        native = library()
        assert native is not None
        gradient = gradient.contiguous()
        native.backward(
            self.native,
            len(self.native),
            self.inputs.shape[0],
            self.inputs.data_ptr(),
            gradient.data_ptr(),
            by_inputs is None,
            by_inputs,
        )

    def _prepare(self, inputs: Tensor, rows: int) -> bool:
        """Return whether the library can go on, having told it where the parameters are now."""
        addresses = [*map(Tensor.data_ptr, self.parameters)]
        if addresses != self.addresses or rows > self.capacity:
            if not supports(*self.parameters):
                return False
            self.addresses = addresses
            self.memory = [p.detach() for p in self.parameters]  # nothing else comes to lie there
            self.capacity = max(self.capacity, rows)
            self._allocate()
        # For other widths, torch has the words.
        return inputs.shape == (rows, self.by_inputs.shape[1]) and supports(inputs)

    def _allocate(self) -> None:
        widths = [layer.weight.shape[0] for layer in self.layers]
        self.values = [torch.empty(self.capacity, width) for width in widths]
        self.derivatives = [torch.empty(self.capacity, width) for width in widths]
        self.by_inputs = torch.empty(self.capacity, self.layers[0].weight.shape[1])
        self.gradients = [*map(torch.empty_like, self.parameters)]
        self.native = (Layer * len(self.layers))()
        for index, (native, layer) in enumerate(zip(self.native, self.layers, strict=True)):
            native.outputs, native.inputs = layer.weight.shape
            native.activation = ACTIVATIONS[layer.activation]
            native.weight, native.bias = layer.weight.data_ptr(), layer.bias.data_ptr()
            gradients = self.gradients[2 * index : 2 * index + 2]
            native.weight_gradient, native.bias_gradient = map(Tensor.data_ptr, gradients)
            native.values = self.values[index].data_ptr()
            native.derivatives = self.derivatives[index].data_ptr()


def ppo_gradients(
    batch: RolloutBufferSamples,
    means: Tensor,
    values: Tensor,
    log_std: Tensor,
    by_log_std: Tensor,
    *,
    normalize: bool,
    clip: float,
    clip_value: float,
    vf_coef: float,
    ent_coef: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Differentiate PPO's loss on n steps, which `supports` must accept.

    Args:
        batch: the steps.
        means: the actions' means (n, dimensions).
        values: (n, 1).
        log_std: of the actions, (dimensions,).
        by_log_std: the loss's derivatives by it, which are written here.
        normalize: whether to normalise advantages.
        clip: the policy's clip range.
        clip_value: the value's; infinity for none.
        vf_coef: coefficient of the value loss.
        ent_coef: coefficient of the entropy.

    Returns:
        The loss's derivatives by means and values; and, in one tensor, its policy, value and
        entropy part, the approximate KL divergence and the share of clipped steps.
    """
    native = library()
    assert native is not None
    by_means, by_values = torch.empty_like(means), torch.empty_like(values)
    statistics = torch.empty(5)
    tensors = (means, values, log_std, *batch[1:], by_means, by_values, by_log_std, statistics)
    minibatch = Minibatch(*means.shape, *map(Tensor.data_ptr, tensors))
    native.ppo_gradients(byref(minibatch), normalize, clip, clip_value, vf_coef, ent_coef)
    return by_means, by_values, statistics


def step(optimizer: Optimizer, max_norm: float = math.inf) -> bool:
    """Clip the gradients to a norm, > 0, and take Adam's step as torch does.

    It works on torch's own state, and runs the optimizer's hooks.

    Returns:
        Whether it did so: not for other optimizers, and other tensors than `supports` accepts.
        Adam's first step is not taken either: torch's makes the state.
    """
    native, moments = library(), _moments(optimizer)
    if native is None or moments is None:
        kind = type(optimizer)
        if kind is not torch.optim.Adam and kind.__module__.startswith("torch."):
            say(f"steps of {kind.__name__}")
        return False
    [group] = optimizer.param_groups
    if max_norm < math.inf:
        native.clip_gradients(moments, len(moments), max_norm)
    hooks = [*optimizer._optimizer_step_pre_hooks.values()]
    for before in hooks:
        before(optimizer, (), {})
    if hooks:  # which may have put other tensors in place
        moments = _moments(optimizer)
    if moments is None:
        torch.optim.Adam.step.__wrapped__(optimizer)  # type: ignore[attr-defined]  # no hooks
    else:
        native.adam_step(moments, len(moments), group["lr"], *group["betas"], group["eps"])
        increment_version(group["params"])
    for after in [*optimizer._optimizer_step_post_hooks.values()]:
        after(optimizer, (), {})
    return True


class Known(NamedTuple):
    """An optimizer's tensors at its last step."""

    addresses: list[int]
    memory: list[Tensor]  # kept, so that nothing else comes to lie there
    moments: Any


_known: WeakKeyDictionary[Optimizer, Known] = WeakKeyDictionary()


def _moments(optimizer: Optimizer) -> Any:
    """Return what the library's Adam takes, or None where the step is not for it."""
    if type(optimizer) is not torch.optim.Adam or len(optimizer.param_groups) > 1:
        return None
    [group] = optimizer.param_groups
    others = [group[name] for name in ("weight_decay", "amsgrad", "maximize", "differentiable")]
    if any(others) or any(isinstance(number, Tensor) for number in (group["lr"], *group["betas"])):
        return None
    if "step" in vars(optimizer) or _global_optimizer_pre_hooks or _global_optimizer_post_hooks:
        return None  # someone has to hear of each step
    tensors: list[Tensor] = []
    for parameter in group["params"]:
        state = optimizer.state.get(parameter)
        if not state or parameter.grad is None:
            return None
        tensors += (parameter, parameter.grad, *map(state.__getitem__, MOMENTS))
    addresses = [*map(Tensor.data_ptr, tensors)]
    known = _known.get(optimizer)
    if known is None or addresses != known.addresses:
        sizes = [*map(Tensor.numel, tensors)]
        expected = [size for p in group["params"] for size in (*[p.numel()] * 4, 1)]
        if sizes != expected or not supports(*tensors):
            return None
        moments = (Moments * len(group["params"]))()
        for index in range(len(moments)):
            moments[index] = Moments(sizes[5 * index], *addresses[5 * index : 5 * index + 5])
        known = _known[optimizer] = Known(addresses, [t.detach() for t in tensors], moments)
    return known.moments
