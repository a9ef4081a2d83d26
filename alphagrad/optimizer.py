r"""AlphaGrad: per-tensor L2 normalisation of the gradient, then a smooth clipping by tanh.

Source: Sane, "AlphaGrad: Non-Linear Gradient Normalization Optimizer", arXiv 2504.16020. Laid
out as ``torch.optim.SGD``: `AlphaGrad` keeps the state, `alphagrad` is the functional form, and
behind it stand a readable loop over single tensors, a faster one over lists of tensors, and faster
still ``kernel.cpp`` for the CPU and ``compiled.py`` for CUDA.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, overload

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from alphagrad import compiled, kernel
from alphagrad.loops import multi_tensor, single_tensor
from alphagrad.memory import Choice, Memory
from alphagrad.settings import checked

__all__ = ["AlphaGrad", "alphagrad"]

SPARSE = {
    torch.sparse_coo,
    torch.sparse_csr,
    torch.sparse_csc,
    torch.sparse_bsr,
    torch.sparse_bsc,
}

# What no other optimizer has among its settings, all together.
SIGNATURE = ("alpha", "eps", "momentum", "dampening", "nesterov")


class AlphaGrad(Optimizer):
    r"""The AlphaGrad optimizer.

    For each tensor :math:`\theta` of :math:`n` elements with gradient :math:`g`

    .. math::
        \begin{aligned}
            \tilde g &= g \,/\, (\lVert g \rVert_2 + \epsilon) \\
            g'       &= \tanh(\alpha \, \tilde g) \\
            v        &\leftarrow \mu \, v + (1 - \tau) \, g' \qquad
                        \text{(first step: } v = g' \text{; without momentum } v = g' \text{)} \\
            \theta   &\leftarrow (1 - \gamma \lambda) \, \theta - \gamma \, v
        \end{aligned}

    with learning rate :math:`\gamma`, momentum :math:`\mu`, dampening :math:`\tau` and weight decay
    :math:`\lambda`. Without momentum the optimizer keeps no state at all; with it, one tensor like
    each parameter.

    A step's size hardly depends on the gradient's: each element moves by at most
    :math:`\gamma \tanh(\alpha) / (1 - \mu)`. Small :math:`\alpha` gives normalised SGD with step
    :math:`\gamma \alpha`, large :math:`\alpha` sign SGD; the effect of :math:`\alpha` depends on
    the tensor's size unless ``alpha_scaling="sqrt"``.

    Gradients of any finite size get the exact norm, also where its fp32 sum of squares overflows.
    A NaN or infinite element makes its whole tensor NaN, as the rule has it; nothing hides it. A
    zero gradient gives :math:`g' = 0`, but the momentum moves on; a gradient of None skips the
    tensor. A step in fp16 or bf16 is computed in fp32, and rounded when it is stored. Of a complex
    tensor, real and imaginary parts are elements of their own.

    Args:
        params: parameters, named parameters, or dicts of parameter groups, each of which may set
            every argument below for itself.
        lr: learning rate, >= 0, a number or a tensor of one element.
        alpha: steepness of the clipping, > 0 and finite.
        eps: added to the norm, >= 0.
        momentum: in [0, 1).
        dampening: of the momentum, in [0, 1].
        nesterov: Nesterov's momentum; needs a momentum and no dampening.
        weight_decay: >= 0; the parameter shrinks by ``lr * weight_decay``, apart from the momentum.
        coupled_weight_decay: add ``weight_decay * parameter`` to :math:`g'` before the momentum
            instead, as the author's code does.
        alpha_scaling: ``"none"``, or ``"sqrt"`` for :math:`\alpha \sqrt n`, by which the effect of
            ``alpha`` no longer depends on a tensor's size.
        maximize: go up the gradient.
        foreach: whether to go through lists of tensors or one tensor at a time. If neither this
            nor ``fused`` is set: the CPU's kernel for what it takes, else lists on CPU and CUDA.
        fused: whether to take a step by one kernel. On the CPU, in C++, for dense fp32 tensors;
            others go through lists, as all do, with one warning, if it was not compiled at
            installation. On CUDA, by ``torch.compile``, once for each set of shapes and of settings
            other than ``lr``, ``alpha`` and ``momentum``, which takes seconds to minutes; with a
            momentum, from the second step on. Without a compiler there is one warning, and lists.
        capturable: allow a step to be captured in a CUDA graph. The gradient scaler's check for
            infinities needs the host, so captured steps cannot use it.
        differentiable: let autograd run through the step.

    Raises:
        TypeError, ValueError: for an argument outside of its range.
        RuntimeError: in `step`, for a sparse gradient.
    """

    _step_supports_amp_scaling = True  # GradScaler hands over grad_scale and found_inf

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        alpha: float = 1.0,
        *,
        eps: float = 1e-5,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        coupled_weight_decay: bool = False,
        alpha_scaling: str = "none",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "momentum": momentum,
            "dampening": dampening,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "coupled_weight_decay": coupled_weight_decay,
            "alpha_scaling": alpha_scaling,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, checked(defaults))
        self._memories = defaultdict[int, Memory](Memory)  # of the groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as ``torch.optim.Optimizer`` does.

        Raises:
            ValueError: if one of its settings is outside of its range.
        """
        super().add_param_group(checked(self.defaults | param_group))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state: a loaded, an unpickled or a copied one.

        Raises:
            ValueError: if it is another optimizer's, or a setting is outside of its range; nothing
                has been changed then.
        """
        defaults = state.get("defaults") or self.defaults
        for group in state["param_groups"]:
            if missing := [name for name in SIGNATURE if name not in group]:
                raise ValueError(f"not a state of AlphaGrad: its groups have no {missing[0]}")
            group.update(checked(defaults | group))  # may be from before a setting existed
        super().__setstate__(state)
        self._memories = defaultdict(Memory)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @_use_grad_for_differentiable
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: reevaluates the model and returns the loss.

        Returns:
            The closure's loss.
        """
        self._check_capture()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        for index, group in enumerate(self.param_groups):
            params, grads = [], []
            for param in group["params"]:
                grad = param.grad
                if grad is not None:
                    params.append(param)
                    grads.append(grad)
            buffers = self._momentum_buffers(params, group)
            missing = [i for i, buffer in enumerate(buffers) if buffer is None]
            alphagrad(
                params,
                grads,
                buffers,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=getattr(self, "found_inf", None),
                memory=self._memories[index],
                **{name: group[name] for name in self.defaults},
            )
            for i in missing:
                if buffers[i] is not None:
                    self.state[params[i]]["momentum_buffer"] = buffers[i]
        return loss

    def _check_capture(self) -> None:
        if torch.compiler.is_compiling() or not torch.cuda.is_available():
            return
        if torch.cuda.is_current_stream_capturing():
            for group in self.param_groups:
                if not group["capturable"]:
                    raise RuntimeError("Capturing AlphaGrad in a CUDA graph needs capturable=True")

    def _momentum_buffers(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor | None]:
        """Return the buffer of each parameter; None before its first step, and without momentum."""
        if group["momentum"] != 0:
            return [self.state.get(param, {}).get("momentum_buffer") for param in params]
        for param in params if self.state else ():
            state = self.state.get(param, {})
            if state.pop("momentum_buffer", None) is not None and not state:
                del self.state[param]  # the momentum has been turned off
        return [None] * len(params)


def alphagrad(
    params: list[Tensor],
    grads: list[Tensor],
    momentum_buffers: list[Tensor | None],
    *,
    lr: float | Tensor,
    alpha: float,
    eps: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    coupled_weight_decay: bool,
    alpha_scaling: str,
    maximize: bool,
    foreach: bool | None = None,
    fused: bool | None = None,
    capturable: bool = False,
    differentiable: bool = False,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    memory: Memory | None = None,
) -> None:
    r"""Take one step of AlphaGrad: its functional form. See `AlphaGrad` for the other arguments.

    Args:
        params: changed in place.
        grads: one for each parameter, of its shape.
        momentum_buffers: one for each parameter, changed in place; None stands for a first step,
            and is replaced in the list if there is a momentum.
        grad_scale: what the gradients have been multiplied by; ``eps`` is multiplied too, which
            gives the same step as unscaling them.
        found_inf: if not zero, the step is skipped.
        memory: of the same tensors' last step, which makes this one shorter.

    Raises:
        RuntimeError: for a sparse gradient, or ``capturable`` on a device without graphs.
    """
    if capturable and any(param.device.type != "cuda" for param in params):
        raise RuntimeError("If capturable=True, params must be on CUDA devices")
    if not params or (found_inf is not None and found_inf.item()):
        return

    settings: dict[str, Any] = {
        "lr": lr.reshape(()) if isinstance(lr, Tensor) else lr,
        "alpha": -alpha if maximize else alpha,
        "eps": eps if grad_scale is None else eps * grad_scale,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "coupled_weight_decay": coupled_weight_decay,
        "alpha_scaling": alpha_scaling,
    }
    buffers = momentum_buffers if momentum != 0 else None
    paths = (foreach, fused, differentiable)
    if memory is None or torch.is_grad_enabled() or kernel.is_watched():
        choice = _choose(params, grads, buffers, settings["lr"], *paths)
    else:
        tensors = (*params, *grads, *(buffers or ()))
        found = memory.recall(tensors, buffers is None, *paths)
        if found is None:
            found = _choose(params, grads, buffers, settings["lr"], *paths)
            memory.keep(found, tensors, buffers is None, *paths)
        choice = found
    _take(choice, params, grads, buffers, settings)


def _take(
    choice: Choice,
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
    settings: dict[str, Any],
) -> None:
    """Take a step by the implementations that were chosen."""
    for implementation, indices in choice:
        if len(indices) == len(params):
            implementation(params, grads, buffers, **settings)
            return
        own_buffers = None if buffers is None else [buffers[index] for index in indices]
        implementation(
            [params[index] for index in indices],
            [grads[index] for index in indices],
            own_buffers,
            **settings,
        )
        if buffers is not None and own_buffers is not None:
            for index, buffer in zip(indices, own_buffers, strict=True):
                buffers[index] = buffer


def _choose(
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
    lr: float | Tensor,
    foreach: bool | None,
    fused: bool | None,
    differentiable: bool,
) -> Choice:
    """Return the implementations to call, each with the indices of the tensors that it takes.

    The kernel takes what it can, unless ``foreach`` or ``fused`` forbids; one other takes the rest.
    Autograd and ``torch.func`` see all of the loop, and so are given nothing else.

    Raises:
        RuntimeError: for a sparse gradient.
    """
    if not SPARSE.isdisjoint(map(attrgetter("layout"), grads)):
        raise RuntimeError("AlphaGrad does not support sparse gradients")
    rest: Sequence[int] = range(len(params))
    if any(map(torch.is_complex, params)):
        return [(partial(_step_of_real_views, (foreach, fused, differentiable)), rest)]
    if differentiable or _is_differentiated([*params, *grads, *(buffers or ()), lr]):
        return [(single_tensor, rest)]

    chosen: Choice = []
    if fused or (fused is None and foreach is None):
        in_kernel = kernel.supported(params, grads, buffers)
        if in_kernel:
            chosen = [(kernel.prepared(params, grads, in_kernel), in_kernel)]
        if len(in_kernel) == len(params):
            return chosen
        if fused and params[0].is_cpu and not kernel.is_built():
            kernel.warn_that_it_is_missing()
        rest = sorted({*rest} - {*in_kernel})

    implementation: Callable[..., None] = single_tensor
    if fused and compiled.supports(params, buffers):
        implementation = compiled.step
    elif foreach or (
        foreach is None
        and len(rest) > 2  # one or two take longer by lists
        and all(_suits_lists(params[index]) for index in rest)
    ):
        implementation = multi_tensor
    return [*chosen, (implementation, rest)]


def _step_of_real_views(
    paths: tuple[bool | None, bool | None, bool],
    params: list[Tensor],
    grads: list[Tensor],
    buffers: list[Tensor | None] | None,
    **settings: Any,
) -> None:
    """Take a step of which some tensors are complex, on what is real of them."""
    real_params, real_grads = [*map(_as_real, params)], [*map(_as_real, grads)]
    real_buffers = None if buffers is None else [*map(_as_real, buffers)]
    choice = _choose(real_params, real_grads, real_buffers, settings["lr"], *paths)
    _take(choice, real_params, real_grads, real_buffers, settings)
    if buffers is not None and real_buffers is not None:
        for index, buffer in enumerate(real_buffers):
            if buffers[index] is None and buffer is not None:
                is_complex = params[index].is_complex()
                buffers[index] = torch.view_as_complex(buffer) if is_complex else buffer


def _as_real(tensor: Any) -> Any:
    return torch.view_as_real(tensor) if tensor is not None and tensor.is_complex() else tensor


def _suits_lists(param: Tensor) -> bool:
    return (param.is_cpu or param.is_cuda) and type(param) in (Tensor, Parameter)


def _is_differentiated(tensors: Sequence[Any]) -> bool:
    """Return whether somebody watches the step: autograd, or a transformation of ``torch.func``."""
    if torch.is_grad_enabled() and any(
        getattr(tensor, "requires_grad", False) for tensor in tensors
    ):
        return True
    return not torch.compiler.is_compiling() and peek_interpreter_stack() is not None
