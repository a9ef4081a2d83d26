"""What optimizers need that SB3 does not know of: Muon's two parts, modes, and no compiler."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.optim import Optimizer

from alphagrad.sb3 import optimizers


class Muon(Optimizer):
    """Muon for matrices, and AdamW for all other tensors, at one learning rate.

    ``torch.optim.Muon`` takes matrices only. Its author leaves the rest to AdamW, and its updates
    are scaled here to the root mean square of AdamW's, so that one learning rate fits both.

    Args:
        params: tensors.
        lr: learning rate, >= 0.
        momentum: Muon's, in [0, 1).
        nesterov: whether Muon's momentum is Nesterov's.
        ns_steps: iterations, in [1, 100), that make an update orthogonal.
        betas: AdamW's, in [0, 1).
        eps: AdamW's, >= 0.
        weight_decay: of both, decoupled, >= 0.

    Raises:
        ValueError: for a setting that is outside of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        params = list(params)
        matrices = {"params": [p for p in params if p.ndim == 2]}
        others = {"params": [p for p in params if p.ndim != 2]}
        self.muon = torch.optim.Muon(
            [matrices],
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW(
            [others], lr=lr, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay
        )
        super().__init__([*self.muon.param_groups, *self.adamw.param_groups], {"lr": lr})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step both; return what the closure returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state puts new groups and a new state in the place of the old.
        for part, groups in (
            (self.muon, self.param_groups[:1]),
            (self.adamw, self.param_groups[1:]),
        ):
            part.param_groups, part.state = groups, self.state
            part.step()  # type: ignore[no-untyped-call]
        return loss


def without_compiler(method: Any) -> Any:
    """Return a method of an optimizer's without the wrappers that torch puts around it.

    They import torch's compiler, which takes a second, only to keep it from the method.
    """
    modules = ("torch._compile", "torch.optim.optimizer")
    return inspect.unwrap(
        method, stop=lambda f: getattr(f, "__globals__", {}).get("__name__") not in modules
    )


for _name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"):
    setattr(Optimizer, _name, without_compiler(getattr(Optimizer, _name)))


def set_mode(optimizer: Optimizer, mode: str) -> None:
    """Call an optimizer's ``train`` or ``eval``, if it has one.

    A schedule-free optimizer has other weights to learn with than to act with.
    """
    getattr(optimizer, mode, lambda: None)()


class OptimizerModes(BaseCallback):
    """Puts optimizers that have such modes into ``train`` for updates, into ``eval`` to act.

    It comes first among callbacks, so that others see the weights that act.
    """

    def _on_rollout_start(self) -> None:
        self._set("eval")

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._set("train")

    def _on_training_end(self) -> None:
        self._set("eval")

    def _set(self, mode: str) -> None:
        for optimizer in optimizers(self.model).values():
            set_mode(optimizer, mode)
