"""Parameters, gradients and paths that the optimizer's tests share."""

from typing import Any

import numpy as np
import pytest
import torch
from support.optimizer_reference import reference_steps
from torch import Tensor, nn

SHAPES = [(7, 5), (5,), (), (0,), (1,), (3, 2, 4)]
# Single tensors, lists of tensors, and the default: in fp32, the kernel.
every_path = pytest.mark.parametrize("foreach", [False, True, None])


def make_parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in SHAPES]


def make_gradients(steps: int) -> list[list[Tensor | None]]:
    """Gradients in float64; the second parameter has none in the second step."""
    generator = torch.Generator().manual_seed(1)
    grads: list[list[Tensor | None]] = [
        [torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]
        for _ in range(steps)
    ]
    grads[1][1] = None
    return grads


def take_steps(
    optimizer: torch.optim.Optimizer, params: list[nn.Parameter], grads: list[list[Tensor | None]]
) -> None:
    for step in grads:
        for param, grad in zip(params, step, strict=True):
            param.grad = None if grad is None else grad.to(param.dtype)
        optimizer.step()


def reference(
    params: list[nn.Parameter], grads: list[list[Tensor | None]], **settings: Any
) -> list[np.ndarray]:
    return reference_steps(
        [param.detach().double().numpy() for param in params],
        [[None if g is None else g.numpy() for g in step] for step in grads],
        **settings,
    )
