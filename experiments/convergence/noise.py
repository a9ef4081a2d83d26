"""Measures how noisy the gradients of a training are, in the terms of docs/theory.md.

python -m experiments.convergence.noise protocol=ppo_cleanrl optimizer=alphagrad total_steps=100_000

It trains as `experiments.train` would with the same settings, leaves no record, and prints a table
with a row for each optimizer and point of measurement.
"""

import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import hydra
import torch
from omegaconf import DictConfig
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor
from torch.optim import Optimizer

from alphagrad.sb3 import optimizers
from alphagrad.theory import noise_floor
from experiments.config import TrainConfig
from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.training import Training
from experiments.validation import require_device, validate

POINTS = 5
"""How often a training is measured, evenly spaced."""

BATCHES = 300
"""How many minibatches of an off-policy algorithm are drawn for a measurement."""


@dataclass(frozen=True)
class Noise:
    """Gradients of many minibatches for the same parameters, as the optimizer gets them.

    Attributes:
        step: environment steps before.
        optimizer: its name, as `alphagrad.sb3.optimizers` has it.
        batch: samples in a minibatch.
        norm: of the mean gradient; like those below, a sum over tensors.
        sigma: the mean distance of a minibatch's gradient from the mean one.
        floor: what the noise adds to the bound, from `noise_floor`.
    """

    step: int
    optimizer: str
    batch: int
    norm: float
    sigma: float
    floor: float


class NoiseMeter(BaseCallback):
    """Measures the noise of the gradients at evenly spaced steps of a training.

    The algorithm's own ``train`` is called with parameters that are put back after each step of an
    optimizer, so that all minibatches are for the same parameters. On-policy they are those of all
    epochs on one rollout, off-policy `BATCHES` from the replay buffer. The training goes on as from
    a checkpoint, but with other random numbers.

    Args:
        total_steps: length of the training in environment steps.
    """

    def __init__(self, total_steps: int) -> None:
        super().__init__()
        self.interval = total_steps // POINTS
        self.found: list[Noise] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        ready = self.num_timesteps > getattr(self.model, "learning_starts", 0)
        point = len({noise.step for noise in self.found}) + 1
        if ready and point <= POINTS and self.num_timesteps >= point * self.interval:
            self.measure()

    def measure(self) -> None:
        """Add a `Noise` for each optimizer."""
        model = cast(Any, self.model)
        named = optimizers(self.model)
        parameters = copy.deepcopy(model.policy.state_dict())
        states = {name: copy.deepcopy(one.state_dict()) for name, one in named.items()}
        updates = model._n_updates
        gradients: dict[str, list[list[Tensor]]] = {name: [] for name in named}
        handles = []
        for name, optimizer in named.items():
            kept = [param.detach().clone() for param in trained(optimizer)]

            def record(
                optimizer: Optimizer, *_: Any, to: list[list[Tensor]] = gradients[name]
            ) -> None:
                to.append(
                    [
                        torch.zeros_like(param) if param.grad is None else param.grad.clone()
                        for param in trained(optimizer)
                    ]
                )

            def put_back(optimizer: Optimizer, *_: Any, kept: list[Tensor] = kept) -> None:
                with torch.no_grad():
                    torch._foreach_copy_(trained(optimizer), kept)

            handles += [
                optimizer.register_step_pre_hook(record),
                optimizer.register_step_post_hook(put_back),
            ]
        try:
            if isinstance(self.model, OffPolicyAlgorithm):
                self.model.train(gradient_steps=BATCHES, batch_size=model.batch_size)
            else:
                model.train()
        finally:
            for handle in handles:
                handle.remove()
        model.policy.load_state_dict(parameters)  # target networks too
        for name, optimizer in named.items():
            optimizer.load_state_dict(states[name])
            norms, sigmas = zip(*map(spread, zip(*gradients[name], strict=True)), strict=True)
            sizes = [param.numel() for param in trained(optimizer)]
            floor = noise_floor(sigmas, sizes, optimizer.param_groups[0]["alpha"])
            self.found.append(
                Noise(self.num_timesteps, name, model.batch_size, sum(norms), sum(sigmas), floor)
            )
        model._n_updates = updates


def trained(optimizer: Optimizer) -> list[Tensor]:
    """Return the parameters of all of an optimizer's groups."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def spread(gradients: Sequence[Tensor]) -> tuple[float, float]:
    """Return the norm of the mean of a tensor's gradients, and their mean distance from it."""
    stacked = torch.stack(list(gradients)).flatten(start_dim=1).double()
    mean = stacked.mean(dim=0)
    return mean.norm().item(), (stacked - mean).norm(dim=1).mean().item()


def measure(config: TrainConfig) -> list[Noise]:
    """Train, and measure the noise of the gradients on the way.

    Raises:
        ConfigurationError: if the algorithm has no minibatches or the optimizer no alpha, or
            Gymnasium or SB3 refuses the settings.
    """
    training = Training(config)
    if not hasattr(training.model, "batch_size"):
        raise ConfigurationError(f"algorithm: {type(training.model).__name__} has no minibatches")
    for name, optimizer in optimizers(training.model).items():
        if "alpha" not in optimizer.defaults:
            raise ConfigurationError(f"optimizer: {name} has no alpha; should be AlphaGrad")
    meter = NoiseMeter(config.total_steps)
    if diverged := training.learn(meter):
        print(f"diverged: {diverged}", file=sys.stderr)
    return meter.found


def table(found: Sequence[Noise]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = [
        # The last: for this batch the floor is the gradient, as sigma is as 1 / sqrt(batch).
        "| steps | optimizer | batch | gradient | sigma | sigma / gradient | floor / gradient | "
        "batch that is needed |",
        "|" + "---|" * 8,
    ]
    for row in found:
        sigma, floor = (
            part / row.norm if row.norm else math.inf for part in (row.sigma, row.floor)
        )
        lines.append(
            f"| {row.step:,} | {row.optimizer} | {row.batch:,} | {row.norm:.3g} | {row.sigma:.3g} "
            f"| {sigma:.2f} | {floor:.2f} | {row.batch * floor**2:,.0f} |"
        )
    return "\n".join(lines)


@hydra.main(version_base="1.3", config_path="../../configs", config_name="train")
def main(composed: DictConfig) -> None:
    """Measure what Hydra has composed, and print the table."""
    with exit_on_mistake():
        config = validate(composed)
        require_device(config.device)
        print(table(measure(config)))


if __name__ == "__main__":
    with exit_on_mistake():
        main()
