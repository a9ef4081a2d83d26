r"""AlphaGrad: per-tensor L2 normalisation of the gradient, then a smooth clipping by tanh.

Source: Sane, "AlphaGrad: Non-Linear Gradient Normalization Optimizer", arXiv 2504.16020. Laid
out as ``torch.optim.SGD``: `AlphaGrad` keeps the state, `alphagrad` is the functional form, and
behind it stand a readable loop over single tensors, a faster one over lists of tensors, and faster
still ``kernel.cpp`` for the CPU and ``fused.py`` for CUDA.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from numbers import Real
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer, ParamsT, _use_grad_for_differentiable

from alphagrad import fused as compiled
from alphagrad import kernel
from alphagrad.normalization import steepness, tanh_argument, tanh_arguments, widened

__all__ = ["AlphaGrad", "alphagrad"]

ALPHA_SCALINGS = ("none", "sqrt")


class AlphaGrad(Optimizer):
    r"""Implements AlphaGrad.

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
    tensor. Gradients in fp16 or bf16 are normalised in fp32. Of a complex tensor, real and
    imaginary parts are elements of their own.

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
        foreach: whether to go through lists of tensors or one tensor at a time. If neither this nor
            ``fused`` is set: the CPU's kernel where it can be, else lists on CPU and CUDA.
        fused: whether to take a step by one kernel. On the CPU, in C++, for contiguous fp32
            tensors; others go through lists, as all do, with one warning, if it was not compiled at
            installation. On CUDA, by ``torch.compile``, once for each set of shapes and of settings
            other than ``lr`` and ``alpha``, which takes seconds to minutes; with a momentum, from
            the second step on. Without a compiler there is one warning, and lists.
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
        _validate(defaults)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as ``torch.optim.Optimizer`` does.

        Raises:
            ValueError: if one of its settings is outside of its range.
        """
        _validate(self.defaults | param_group)
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)  # a state from before this setting existed

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

        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            old_buffers = self._momentum_buffers(params, group)
            buffers = old_buffers.copy()
            settings = {name: group[name] for name in self.defaults}
            alphagrad(
                params,
                [param.grad for param in params],
                buffers,
                grad_scale=getattr(self, "grad_scale", None),
                found_inf=getattr(self, "found_inf", None),
                **settings,
            )
            for param, old_buffer, buffer in zip(params, old_buffers, buffers, strict=True):
                if buffer is not old_buffer:
                    self.state[param]["momentum_buffer"] = buffer
        return loss

    def _check_capture(self) -> None:
        if torch.compiler.is_compiling() or not torch.cuda.is_available():
            return
        if torch.cuda.is_current_stream_capturing():
            for group in self.param_groups:
                if not group["capturable"]:
                    raise RuntimeError("Capturing AlphaGrad in a CUDA graph needs capturable=True")

    def _momentum_buffers(self, params: list[Tensor], group: dict[str, Any]) -> list[Tensor | None]:
        """The buffer of each parameter; None before its first step, and without momentum."""
        if group["momentum"] != 0:
            return [self.state.get(param, {}).get("momentum_buffer") for param in params]
        if self.state:
            for param in params:
                self.state.pop(param, None)  # the momentum has been turned off
        return [None] * len(params)


def _validate(group: dict[str, Any]) -> None:
    """Refuse what is outside of its range, in torch's words."""
    lr = group["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        lr = lr.item()
    if not _in_range(lr, 0, math.inf):
        raise ValueError(f"Invalid learning rate: {lr}")
    for name, label, low, high in (
        ("alpha", "alpha", math.ulp(0), math.inf),
        ("eps", "epsilon", 0, math.inf),
        ("momentum", "momentum", 0, 1),
        ("dampening", "dampening", 0, math.nextafter(1, 2)),
        ("weight_decay", "weight_decay", 0, math.inf),
    ):
        if not _in_range(group[name], low, high):
            raise ValueError(f"Invalid {label} value: {group[name]}")
    if group["alpha_scaling"] not in ALPHA_SCALINGS:
        raise ValueError(
            f"Invalid alpha_scaling value: {group['alpha_scaling']}, not in {ALPHA_SCALINGS}"
        )
    flags = ("nesterov", "coupled_weight_decay", "maximize", "capturable", "differentiable")
    for name in flags:
        if not isinstance(group[name], bool):
            raise ValueError(f"Invalid {name} value: {group[name]}")
    for name in ("foreach", "fused"):
        if not (group[name] is None or isinstance(group[name], bool)):
            raise ValueError(f"Invalid {name} value: {group[name]}")
    if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach and fused cannot both be True")
    for name in ("foreach", "fused"):
        if group[name] and group["differentiable"]:
            raise ValueError(f"{name} does not support differentiable")


def _in_range(value: object, low: float, high: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < high


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
) -> None:
    r"""Functional API that performs one AlphaGrad step. See `AlphaGrad` for the arguments.

    Args:
        params: changed in place.
        grads: one for each parameter, of its shape.
        momentum_buffers: one for each parameter, changed in place; None stands for a first step,
            and is replaced in the list if there is a momentum.
        grad_scale: what the gradients have been multiplied by; ``eps`` is multiplied too, which
            gives the same step as unscaling them.
        found_inf: if not zero, the step is skipped.

    Raises:
        RuntimeError: for a sparse gradient, or ``capturable`` on a device without graphs.
    """
    if any(grad.is_sparse for grad in grads):
        raise RuntimeError("AlphaGrad does not support sparse gradients")
    if capturable and any(param.device.type != "cuda" for param in params):
        raise RuntimeError("If capturable=True, params must be on CUDA devices")
    if not params or (found_inf is not None and found_inf.item()):
        return

    settings: dict[str, Any] = {
        "lr": lr.reshape(()) if isinstance(lr, Tensor) else lr,
        "alpha": alpha,
        "eps": eps if grad_scale is None else eps * grad_scale,
        "momentum": momentum,
        "dampening": dampening,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "coupled_weight_decay": coupled_weight_decay,
        "alpha_scaling": alpha_scaling,
        "maximize": maximize,
    }
    if fused or (fused is None and foreach is None and not differentiable):
        if kernel.supports(params, grads, momentum_buffers):
            kernel.step(params, grads, momentum_buffers, **settings)
            return
        if fused and params[0].is_cpu and not kernel.is_built():
            kernel.warn_that_it_is_missing()

    has_complex = any(map(torch.is_complex, params))
    real_params, real_grads, real_buffers = params, grads, momentum_buffers
    if has_complex:
        real_params, real_grads = [*map(_as_real, params)], [*map(_as_real, grads)]
        real_buffers = [None if buffer is None else _as_real(buffer) for buffer in momentum_buffers]
    tensors = real_params, real_grads, real_buffers
    on_cuda = all(param.is_cuda for param in params)
    if not (fused and on_cuda and compiled.step(_single_tensor_alphagrad, *tensors, **settings)):
        if foreach is None and not differentiable:
            devices = all(param.is_cpu or param.is_cuda for param in params)
            foreach = devices and {*map(type, params)} <= {Tensor, Parameter}
        step = _multi_tensor_alphagrad if foreach else _single_tensor_alphagrad
        step(*tensors, **settings)
    if has_complex:
        for index, buffer in enumerate(real_buffers):
            if buffer is not None and params[index].is_complex():
                buffer = torch.view_as_complex(buffer)
            momentum_buffers[index] = buffer


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _single_tensor_alphagrad(
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
    """The rule, tensor by tensor, as it reads."""
    for index, param in enumerate(params):
        grad = -grads[index] if maximize else grads[index]
        own_alpha = steepness(grad, alpha, alpha_scaling)
        update = torch.tanh(tanh_argument(widened(grad), own_alpha, eps)).to(param.dtype)

        if coupled_weight_decay and weight_decay != 0:
            update = update.add(param, alpha=weight_decay)
        elif weight_decay != 0:
            param.mul_(1 - lr * weight_decay)

        if momentum != 0:
            buffer = momentum_buffers[index]
            if buffer is None:
                buffer = update.clone()
            else:
                buffer.mul_(momentum).add_(update, alpha=1 - dampening)
            momentum_buffers[index] = buffer
            velocity = buffer.clone() if torch.is_grad_enabled() else buffer  # autograd saves it
            update = update.add(velocity, alpha=momentum) if nesterov else velocity

        param.add_(update * -lr)


def _multi_tensor_alphagrad(
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
    """The same on lists of tensors, one list for each device and type."""
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for index, param in enumerate(params):
        groups[param.device, param.dtype].append(index)
    for (_, dtype), indices in groups.items():
        group_params = [params[index] for index in indices]
        group_grads = [widened(grads[index]) for index in indices]
        if maximize:
            group_grads = list(torch._foreach_neg(group_grads))
        alphas = [steepness(grad, alpha, alpha_scaling) for grad in group_grads]
        updates = tanh_arguments(group_grads, alphas, eps)
        torch._foreach_tanh_(updates)
        if updates[0].dtype != dtype:
            updates = [update.to(dtype) for update in updates]

        if coupled_weight_decay and weight_decay != 0:
            torch._foreach_add_(updates, group_params, alpha=weight_decay)
        elif weight_decay != 0:
            torch._foreach_mul_(group_params, 1 - lr * weight_decay)

        if momentum != 0:
            pairs = [(updates[i], momentum_buffers[index]) for i, index in enumerate(indices)]
            old_buffers = [buffer for _, buffer in pairs if buffer is not None]
            old_updates = [update for update, buffer in pairs if buffer is not None]
            if old_buffers:
                torch._foreach_mul_(old_buffers, momentum)
                torch._foreach_add_(old_buffers, old_updates, alpha=1 - dampening)
            buffers = [update.clone() if buffer is None else buffer for update, buffer in pairs]
            for index, buffer in zip(indices, buffers, strict=True):
                momentum_buffers[index] = buffer
            if nesterov:
                torch._foreach_add_(updates, buffers, alpha=momentum)
            else:
                updates = buffers

        if isinstance(lr, Tensor):
            torch._foreach_add_(group_params, list(torch._foreach_mul(updates, -lr)))
        else:
            torch._foreach_add_(group_params, updates, alpha=-lr)
