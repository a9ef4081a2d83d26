"""The rule of AlphaGrad in float64 NumPy, written from the paper, not from the code under test."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def reference_steps(
    params: list[Array],
    grads: list[list[Array | None]],
    *,
    lr: float = 1e-3,
    alpha: float = 1.0,
    eps: float = 1e-5,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    coupled_weight_decay: bool = False,
    alpha_scaling: str = "none",
    maximize: bool = False,
) -> list[Array]:
    """The parameters after a step for each entry of ``grads``."""
    params = [np.array(p, dtype=np.float64) for p in params]
    velocity: list[Array | None] = [None] * len(params)
    for step in grads:
        for i, g in enumerate(step):
            if g is None:
                continue
            g = -g if maximize else g
            steepness = alpha * np.sqrt(g.size) if alpha_scaling == "sqrt" else alpha
            g_prime = np.tanh(steepness * (g / (np.sqrt(np.sum(g**2)) + eps)))
            if coupled_weight_decay:
                g_prime = g_prime + weight_decay * params[i]
            else:
                params[i] = params[i] * (1 - lr * weight_decay)
            v = velocity[i]
            if momentum == 0:
                update = g_prime
            else:
                v = g_prime if v is None else momentum * v + (1 - dampening) * g_prime
                velocity[i] = v
                update = g_prime + momentum * v if nesterov else v
            params[i] = params[i] - lr * update
    return params
