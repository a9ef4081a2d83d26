"""The two limits of AlphaGrad, as optimizers of their own and baselines for it.

Each is ``torch.optim.SGD`` on a transformed gradient: momentum, dampening, Nesterov and weight
decay (added to the direction, so coupled) are SGD's.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from torch.optim.optimizer import ParamsT

from alphagrad.normalization import tanh_argument, widened

__all__ = ["NormalizedSGD", "SignSGD"]


class _DirectionSGD(SGD, ABC):
    """SGD on ``_direction(gradient)`` instead of the gradient, which it leaves as it is."""

    @abstractmethod
    def _direction(self, grad: Tensor, group: dict[str, Any]) -> Tensor: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; returns the closure's loss.

        Raises:
            RuntimeError: for a sparse or a complex gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held = {}
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                if param.grad.is_sparse or param.grad.is_complex():
                    raise RuntimeError(
                        f"{type(self).__name__} does not support sparse or complex gradients"
                    )
                held[param] = param.grad
                param.grad = self._direction(param.grad, group)
        super().step()
        for param, grad in held.items():
            param.grad = grad
        return loss


class NormalizedSGD(_DirectionSGD):
    """SGD on ``g / (norm(g) + eps)``, tensor by tensor.

    AlphaGrad with a small alpha takes the same steps, times alpha.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, >= 0.
        eps: added to the L2 norm, >= 0.
        momentum: >= 0; this and the following as in ``torch.optim.SGD``.
        dampening: of the momentum.
        nesterov: Nesterov's momentum.
        weight_decay: added to the direction, times the parameter.

    Raises:
        ValueError: for a value outside of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        eps: float = 1e-5,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)
        self.defaults["eps"] = eps
        for group in self.param_groups:
            group.setdefault("eps", eps)

    def _direction(self, grad: Tensor, group: dict[str, Any]) -> Tensor:
        return tanh_argument(widened(grad), 1.0, group["eps"]).to(grad.dtype)


class SignSGD(_DirectionSGD):
    """SGD on the sign of the gradient: AlphaGrad's limit for an infinite alpha.

    Args:
        params: parameters or parameter groups.
        lr: learning rate, >= 0.
        momentum: >= 0; this and the following as in ``torch.optim.SGD``.
        dampening: of the momentum.
        nesterov: Nesterov's momentum.
        weight_decay: added to the sign, times the parameter.

    Raises:
        ValueError: for a value outside of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)

    def _direction(self, grad: Tensor, group: dict[str, Any]) -> Tensor:
        return grad.sign()
