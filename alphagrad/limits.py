"""The two limits of AlphaGrad, as optimizers of their own and baselines for it.

Each is ``torch.optim.SGD`` on a transformed gradient: momentum, dampening, Nesterov and weight
decay (added to the direction, so coupled) are SGD's.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor
from torch.optim import SGD
from torch.optim.optimizer import ParamsT

from alphagrad.normalization import normalized

__all__ = ["NormalizedSGD", "SignSGD"]


class _DirectionSGD(SGD, ABC):
    """SGD on ``_direction(gradient)`` instead of the gradient, which it leaves as it is."""

    @abstractmethod
    def _direction(self, grad: Tensor, group: dict[str, Any]) -> Tensor:
        """Return what SGD takes for the gradient."""

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        momentum_buffer_list: list[Tensor | None],
    ) -> bool:
        """Collect what SGD's step works on, with directions for gradients.

        Raises:
            RuntimeError: for a sparse or a complex gradient.
        """
        super()._init_group(group, params, grads, momentum_buffer_list)  # type: ignore[no-untyped-call]
        if any(grad.is_sparse or grad.is_complex() for grad in grads):
            raise RuntimeError(
                f"{type(self).__name__} does not support sparse or complex gradients"
            )
        grads[:] = [self._direction(grad, group) for grad in grads]
        return False


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
        _check_eps(eps)
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov)
        self.defaults["eps"] = eps
        for group in self.param_groups:
            group.setdefault("eps", eps)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group, as ``torch.optim.Optimizer`` does.

        Raises:
            ValueError: if its ``eps`` is outside of its range.
        """
        _check_eps(param_group.get("eps", 0.0))
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a state; of SGD, too, which has no ``eps``.

        Raises:
            ValueError: if an ``eps`` is outside of its range; nothing has been changed then.
        """
        eps = (state.get("defaults") or self.defaults)["eps"]
        for group in state["param_groups"]:
            _check_eps(group.setdefault("eps", eps))
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def _direction(self, grad: Tensor, group: dict[str, Any]) -> Tensor:
        return normalized(grad, 1.0, group["eps"]).to(grad.dtype)


def _check_eps(eps: float) -> None:
    if not 0 <= eps < math.inf:
        raise ValueError(f"Invalid epsilon value: {eps}")


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
