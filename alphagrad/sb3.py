"""Stable-Baselines3: AlphaGrad, or any torch optimizer, in its algorithms, and two callbacks."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from alphagrad.normalization import direction
from alphagrad.optimizer import AlphaGrad

try:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.callbacks import BaseCallback
except ModuleNotFoundError as error:
    if error.name != "stable_baselines3":
        raise
    message = "alphagrad.sb3 needs Stable-Baselines3: pip install 'alphagrad[sb3]'"
    raise ModuleNotFoundError(message, name=error.name) from None

__all__ = ["AlphaSchedule", "UpdateDiagnostics", "optimizers", "policy_kwargs"]

SATURATION = 0.99
"""An element of g' = tanh(...) counts as saturated from here: |x| >= 2.65, slope below 0.02."""


def policy_kwargs(
    optimizer: type[Optimizer] = AlphaGrad,
    *,
    alpha: float | None = None,
    momentum: float | None = None,
    actor: dict[str, Any] | None = None,
    critic: dict[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Return what DQN, TD3, DDPG, SAC, PPO and A2C take as ``policy_kwargs``.

    ``eps`` is always passed on, the optimizer's own default if not given: without
    ``optimizer_kwargs``, SB3's ``ActorCriticPolicy`` would set Adam's to 1e-5.

    SAC's entropy coefficient is out of reach: ``SAC._setup_model`` gives it an Adam of its own.

    Args:
        optimizer: any class of optimizers that SB3 can drive, ``torch.optim.Adam`` for example.
        alpha: the optimizer's ``alpha``; None for its default. AlphaGrad's is a number > 0.
        momentum: the optimizer's ``momentum``; None for its default. AlphaGrad's is >= 0.
        actor: arguments that differ for the actor's optimizer, where an algorithm has two (TD3,
            DDPG, SAC): ``actor=dict(alpha=1.0)``.
        critic: the same for the critic's.
        kwargs: those that the optimizer's constructor knows (``eps``, ``weight_decay``, ...) go to
            the optimizer, all others (``net_arch``, ...) to SB3's policy.

    Raises:
        TypeError: if the optimizer does not take an argument, or SB3 sets it itself (``lr``).
        ValueError: if the optimizer refuses a value; later, when the algorithm is made, if
            ``actor`` or ``critic`` is given and the algorithm has only one optimizer.
    """
    if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer)):
        raise TypeError(f"optimizer must be a class of torch optimizers, not {optimizer!r}")
    signature = inspect.signature(optimizer).parameters
    common = {name: kwargs.pop(name) for name in signature if name in kwargs}
    if "eps" in signature:
        common.setdefault("eps", signature["eps"].default)
    given = {"alpha": alpha, "momentum": momentum}
    common |= {name: value for name, value in given.items() if value is not None}

    for own in ({}, actor or {}, critic or {}):
        _check_arguments(optimizer, common | own)
    if actor is None and critic is None:
        return dict(optimizer_class=optimizer, optimizer_kwargs=common, **kwargs)
    apart = ActorCriticOptimizer(optimizer, actor or {}, critic or {})
    return dict(optimizer_class=apart, optimizer_kwargs=common, **kwargs)


def _check_arguments(optimizer: type[Optimizer], arguments: dict[str, Any]) -> None:
    """Refuse what the optimizer refuses, before SB3 has built anything."""
    for name, setter in (("lr", "the algorithm's learning_rate"), ("params", "SB3")):
        if name in arguments:
            raise TypeError(f"{name} is set by {setter}, not in policy_kwargs")
    optimizer([torch.nn.Parameter(torch.zeros(1))], lr=1.0, **arguments)  # type: ignore[call-arg]


@dataclass(frozen=True)
class ActorCriticOptimizer:
    """An ``optimizer_class`` that gives actor and critic arguments of their own.

    SB3 passes both the same arguments and says nothing of whose they are. The parameters do not
    tell either, and a count of the calls would be wrong after one failed construction. So this
    looks at the caller: in SB3 a policy's ``_build``, whose ``self`` gets ``actor``, the actor's
    optimizer, ``critic`` and the critic's optimizer in this order (``TD3Policy``, ``SACPolicy``).
    It has no state, so copies, pickles and ``load`` are safe.

    Attributes:
        optimizer: the class of both.
        actor: arguments for the actor's alone.
        critic: arguments for the critic's alone.
    """

    optimizer: type[Optimizer]
    actor: dict[str, Any]
    critic: dict[str, Any]

    def __call__(self, params: Iterable[torch.Tensor], **common: Any) -> Optimizer:
        """Build the optimizer of the network that the calling policy has made last.

        Raises:
            ValueError: if the caller is no policy with an actor and a critic.
        """
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        policy = frame.f_back.f_locals.get("self")
        if not hasattr(policy, "actor"):
            raise ValueError(
                "actor= and critic= are for algorithms with two optimizers (TD3, DDPG, SAC); "
                f"{type(policy).__name__} has one"
            )
        own = self.critic if hasattr(policy, "critic") else self.actor
        return self.optimizer(params, **common | own)


def optimizers(model: BaseAlgorithm) -> dict[str, Optimizer]:
    """Return a model's optimizers, by the names of SB3's ``BaseAlgorithm.get_parameters``.

    ``policy.optimizer`` (DQN, PPO, A2C), or ``actor.optimizer`` and ``critic.optimizer`` (TD3,
    DDPG, SAC), and ``ent_coef_optimizer``, the Adam of a SAC that learns its entropy coefficient.
    """
    saved = {name: attrgetter(name)(model) for name in model.get_parameters()}
    return {name: value for name, value in saved.items() if isinstance(value, Optimizer)}


class AlphaSchedule(BaseCallback):
    """Set alpha in every AlphaGrad optimizer of a model, when SB3 sets the learning rate.

    Each update uses ``schedule(progress)`` with the progress that the learning rate's schedule gets
    for it. It overrides ``actor=`` and ``critic=`` of `policy_kwargs`. Alpha is logged as
    ``train/alpha``, beside the losses of the updates made with it, and saved with the model.

    Args:
        schedule: alpha, > 0 and finite, as a function of the remaining progress, which falls from
            1 to 0. SB3's own falls below 0 in the last rollout of PPO and A2C where the total is
            not a multiple of the rollout; here it stops at 0.

    Raises:
        TypeError: if ``schedule`` is not callable; when training starts, if the model has no
            AlphaGrad optimizer.
        ValueError: during training, if ``schedule`` returns what is not a positive finite number.
    """

    def __init__(self, schedule: Callable[[float], float]) -> None:
        super().__init__()
        if not callable(schedule):
            raise TypeError(f"schedule must be a function of the progress, not {schedule!r}")
        self.schedule = schedule

    def _on_training_start(self) -> None:
        every = optimizers(self.model).values()
        self.optimizers = [optimizer for optimizer in every if isinstance(optimizer, AlphaGrad)]
        if not self.optimizers:
            raise TypeError("AlphaSchedule needs a model with an AlphaGrad optimizer")

    def _on_rollout_start(self) -> None:
        # Not where it is set: PPO and A2C write their log between that and the update.
        self.logger.record("train/alpha", self.optimizers[0].param_groups[0]["alpha"])

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        # SB3's on-policy algorithms would do this just after, between rollout and update.
        self.model._update_current_progress_remaining(
            self.model.num_timesteps, self.model._total_timesteps
        )
        progress = max(self.model._current_progress_remaining, 0.0)
        alpha = float(self.schedule(progress))  # a NumPy number would not load again
        if not 0 < alpha < math.inf:
            raise ValueError(f"schedule({progress:g}) = {alpha}: alpha must be > 0 and finite")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["alpha"] = alpha


class UpdateDiagnostics(BaseCallback):
    """Log, for each tensor of the policy, what an optimizer step was given and what it did.

    ===================================== ==========================================================
    ``diagnostics/grad_norm/<tensor>``    L2 norm of the gradient given to the step, so after
                                          clipping
    ``diagnostics/update_rms/<tensor>``   root mean square of the change of the parameter, by any
                                          optimizer
    ``diagnostics/saturated_share/<...>`` AlphaGrad only: share of elements with |g'| >=
                                          `SATURATION`
    ===================================== ==========================================================

    Tensors have their names in ``model.policy.named_parameters()``, and are left out while they
    have no gradient. SB3 writes the last values at its own log interval, to all outputs but the
    console, whose columns are too narrow for the names. Training is not changed in any bit.

    Args:
        every: optimizer steps from one measurement to the next, >= 1, counted for each optimizer
            from its first. A measured update of a small network takes a fifth to a third longer, so
            the default adds about 0.3%.

    Raises:
        ValueError: if ``every`` is below 1.
    """

    def __init__(self, every: int = 100) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every = {every}: must be at least 1")
        self.every = every
        self.steps: Counter[Optimizer] = Counter()
        self.names: dict[torch.Tensor, str] = {}
        self.before: dict[torch.Tensor, torch.Tensor] = {}
        self.hooks: list[RemovableHandle] = []

    def _on_training_start(self) -> None:
        self._on_training_end()  # a training that ended in an exception left its hooks
        self.steps.clear()
        self.names = {tensor: name for name, tensor in self.model.policy.named_parameters()}
        for optimizer in optimizers(self.model).values():
            self.hooks.append(optimizer.register_step_pre_hook(self._before_step))
            self.hooks.append(optimizer.register_step_post_hook(self._after_step))

    def _on_training_end(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()

    def _on_step(self) -> bool:
        return True

    def _is_due(self, optimizer: Optimizer) -> bool:
        """Return whether the step that begins is measured; asked once for each."""
        earlier = self.steps[optimizer]
        self.steps[optimizer] += 1
        return earlier % self.every == 0

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.before = {}
        if self._is_due(optimizer):
            for group in optimizer.param_groups:
                for tensor in group["params"]:
                    if tensor.grad is not None and tensor in self.names:
                        self.before[tensor] = tensor.clone()
                        self._record_gradient(optimizer, group, tensor)

    def _record_gradient(
        self, optimizer: Optimizer, group: dict[str, Any], tensor: torch.Tensor
    ) -> None:
        assert tensor.grad is not None
        norm = tensor.grad.norm()
        self._record("grad_norm", self.names[tensor], norm.item())
        if isinstance(optimizer, AlphaGrad):
            update = direction(tensor.grad, group["alpha"], group["eps"], group["alpha_scaling"])
            share = (update.abs() >= SATURATION).float().mean()
            self._record("saturated_share", self.names[tensor], share.item())

    @torch.no_grad()
    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for tensor, before in self.before.items():
            rms = (tensor - before).square().mean().sqrt()
            self._record("update_rms", self.names[tensor], rms.item())

    def _record(self, quantity: str, tensor: str, value: float) -> None:
        # SB3's console shortens a name to 36 characters and raises where two become the same.
        self.logger.record(f"diagnostics/{quantity}/{tensor}", value, exclude="stdout")
