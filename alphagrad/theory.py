"""What can be proved about AlphaGrad: sizes of updates, descent, and gradient norms after T steps.

The statements are about a function that is bounded from below and whose gradient is L-Lipschitz,
and an optimizer without weight decay, dampening and Nesterov's momentum. Bounds of gradient norms
hold with momentum and for noisy gradients; what is said of a single step holds without momentum,
for exact ones. Derivations: docs/theory.md.

Symbols, here and there: a tensor's gradient g of n elements has the shrinkage
r = |g| / (|g| + eps), and its update is u = tanh(alpha r g / |g|). K bounds the sum over tensors of
|u|^2. Arguments are numbers with alpha > 0, eps >= 0, 0 <= momentum < 1, and all others > 0 unless
said.
"""

import math
from collections.abc import Sequence

__all__ = [
    "alignment_bounds",
    "best_gradient_norm_bound",
    "best_lr",
    "decrease_bound",
    "gradient_norm_bound",
    "momentum_factor",
    "noise_floor",
    "shrinkage",
    "single_tensor_constant",
    "update_constant",
    "update_norm_bounds",
]


def shrinkage(norm: float, eps: float) -> float:
    """Return r = |g| / (|g| + eps) of a gradient of norm >= 0; 0 for a zero gradient.

    Derivation: docs/theory.md, "The rule".
    """
    return norm / (norm + eps) if norm > 0 else 0.0


def update_norm_bounds(size: int, alpha: float, r: float = 1.0) -> tuple[float, float]:
    """Return the bounds tanh(alpha r) <= |u| <= sqrt(n) tanh(alpha r / sqrt(n)).

    Equal to the first for a gradient with one element that is not 0, to the second, which is at
    most min(sqrt(n), alpha r), for elements of one magnitude. Derivation: docs/theory.md, "Size of
    an update".

    Args:
        size: n.
        alpha: steepness.
        r: shrinkage, in (0, 1]; 1 stands for eps -> 0.

    Returns:
        The smallest and the largest possible |u|.
    """
    root = math.sqrt(size)
    return math.tanh(alpha * r), root * math.tanh(alpha * r / root)


def alignment_bounds(norm: float, size: int, alpha: float, eps: float = 0.0) -> tuple[float, float]:
    """Return the bounds |g| tanh(alpha r) <= <g, u> <= |g| sqrt(n) tanh(alpha r / sqrt(n)).

    The first is at least tanh(alpha) |g|^2 / (|g| + eps), the paper's alignment. Equality as in
    `update_norm_bounds`. Derivation: docs/theory.md, "Alignment".

    Args:
        norm: |g|, >= 0.
        size: n.
        alpha: steepness.
        eps: added to the norm.

    Returns:
        The smallest and the largest possible <g, u>.
    """
    low, high = update_norm_bounds(size, alpha, shrinkage(norm, eps))
    return norm * low, norm * high


def decrease_bound(
    norms: Sequence[float],
    sizes: Sequence[int],
    lr: float,
    alpha: float,
    smoothness: float,
    eps: float = 0.0,
) -> float:
    """Return the most by which one step can change f: the descent inequality.

    f(x - lr u) - f(x) <= -lr <g, u> + L lr^2 |u|^2 / 2, summed over tensors, with the smallest
    <g, u> and the largest |u|. Negative, thus a certain descent, once lr is small enough. Equality
    for f(x) = L x^2 / 2 of one variable. Derivation: docs/theory.md, "Descent".

    Args:
        norms: |g| of each tensor, >= 0.
        sizes: n of each tensor.
        lr: learning rate.
        alpha: steepness.
        smoothness: L.
        eps: added to each norm.
    """
    aligned = squared = 0.0
    for norm, size in zip(norms, sizes, strict=True):
        aligned += alignment_bounds(norm, size, alpha, eps)[0]
        squared += update_norm_bounds(size, alpha, shrinkage(norm, eps))[1] ** 2
    return -lr * aligned + smoothness * lr**2 * squared / 2


def update_constant(sizes: Sequence[int], alpha: float) -> float:
    """Return K, the sum of min(n, alpha^2) over tensors, an upper bound of the sum of |u|^2.

    The paper has n in its place. The exact bound, n tanh(alpha / sqrt(n))^2 for each tensor, is
    between 0.58 and 1 times this one. Derivation: docs/theory.md, "Size of an update".

    Args:
        sizes: n of each tensor.
        alpha: steepness.
    """
    return sum(min(float(size), alpha**2) for size in sizes)


def single_tensor_constant(size: int, alpha: float) -> float:
    """Return K = min(n, alpha tanh(alpha)), for one tensor in place of `update_constant`.

    It bounds no |u|^2, but gives a valid `gradient_norm_bound`, as |u|^2 <= alpha r <g, u> / |g|:
    where the update is long it is also well aligned. It holds with momentum, for exact gradients.
    Derivation: docs/theory.md, "One tensor" and "Momentum".

    Args:
        size: n.
        alpha: steepness.
    """
    return min(float(size), alpha * math.tanh(alpha))


def momentum_factor(momentum: float, steps: int) -> float:
    """Return R = 1 + 2 mu (1 - mu^((T - 1) / 2)) / (1 - mu), by which momentum raises L.

    The T steps with momentum mu are bounded as steps of lr / (1 - mu) without momentum are, on a
    function R times as curved. R is 1 without momentum and for T = 1, and at most
    (1 + mu) / (1 - mu). Derivation: docs/theory.md, "Momentum".

    Args:
        momentum: mu, in [0, 1).
        steps: T, >= 1.
    """
    return 1 + 2 * momentum * (1 - math.pow(momentum, (steps - 1) / 2)) / (1 - momentum)


def noise_floor(noises: Sequence[float], sizes: Sequence[int], alpha: float) -> float:
    """Return what noise adds to `gradient_norm_bound`, whatever the number of steps.

    That is the sum of sigma sqrt(min(n, alpha^2)) / tanh(alpha) over tensors, for gradients that
    are right in the mean; for others add the sum of sigma. Of one element each, at alpha -> 0 and
    alpha -> infinity, no smaller value will do. Derivation: docs/theory.md, "Stochastic gradients".

    Args:
        noises: sigma of each tensor, the mean distance of its gradient from the exact one, >= 0.
        sizes: n of each tensor.
        alpha: steepness.
    """
    return sum(
        noise * math.sqrt(update_constant([size], alpha)) / math.tanh(alpha)
        for noise, size in zip(noises, sizes, strict=True)
    )


def gradient_norm_bound(
    gap: float,
    smoothness: float,
    lr: float,
    steps: int,
    alpha: float,
    constant: float,
    eps: float = 0.0,
    *,
    momentum: float = 0.0,
    floor: float = 0.0,
) -> float:
    """Return a bound of the smallest gradient norm of T steps with one learning rate.

    With the effective learning rate h = lr / (1 - momentum) and R = `momentum_factor`, for
    eps -> 0: min |g| <= gap / (h T tanh(alpha)) + R L h K / (2 tanh(alpha)) + floor = B. For
    eps > 0: (B + sqrt(B^2 + 4 B eps)) / 2, which is at most B + eps. With h = c / sqrt(T), B is at
    most (gap / c + R L c K / 2) / (sqrt(T) tanh(alpha)) + floor. For noisy gradients it bounds the
    smallest mean of |g| of the exact ones. With many tensors it bounds the smallest sum of the
    tensors' norms, which is no less than the norm of all elements together.
    Derivation: docs/theory.md, "Constant step", "Many tensors", "Momentum" and "Stochastic
    gradients".

    Args:
        gap: f at the start less a lower bound of f, >= 0.
        smoothness: L.
        lr: learning rate.
        steps: T; the gradients are those at the start and after the first T - 1 steps.
        alpha: steepness.
        constant: K, from `update_constant` or `single_tensor_constant`, or n as in the paper.
        eps: added to the norm; for m tensors, m times that.
        momentum: of the optimizer.
        floor: of noisy gradients, from `noise_floor`.
    """
    effective = lr / (1 - momentum)
    curvature = momentum_factor(momentum, steps) * smoothness
    bound = (gap / (effective * steps) + curvature * effective * constant / 2) / math.tanh(alpha)
    return _with_eps(bound + floor, eps)


def best_lr(
    gap: float, smoothness: float, steps: int, constant: float, *, momentum: float = 0.0
) -> float:
    """Return (1 - momentum) sqrt(2 gap / (R L K T)), which makes `gradient_norm_bound` smallest.

    Derivation: docs/theory.md, "Step of 1 / sqrt(T)" and "Momentum".

    Args:
        gap: f at the start less a lower bound of f.
        smoothness: L.
        steps: T.
        constant: K.
        momentum: of the optimizer.
    """
    curvature = momentum_factor(momentum, steps) * smoothness
    return (1 - momentum) * math.sqrt(2 * gap / (curvature * constant * steps))


def best_gradient_norm_bound(
    gap: float,
    smoothness: float,
    steps: int,
    alpha: float,
    constant: float,
    eps: float = 0.0,
    *,
    momentum: float = 0.0,
    floor: float = 0.0,
) -> float:
    """Return `gradient_norm_bound` at `best_lr`.

    That is sqrt(2 R L K gap / T) / tanh(alpha) + floor for eps -> 0. With K = n and R = 1, the form
    of the paper's non-convex rate. For alpha -> 0 and without momentum it is sqrt(2 L gap / T), the
    bound of gradient descent with step 1 / L. Derivation: docs/theory.md, "Step of 1 / sqrt(T)" and
    "Momentum".

    Args:
        gap: f at the start less a lower bound of f, >= 0.
        smoothness: L.
        steps: T.
        alpha: steepness.
        constant: K.
        eps: added to the norm; for m tensors, m times that.
        momentum: of the optimizer.
        floor: of noisy gradients, from `noise_floor`.
    """
    curvature = momentum_factor(momentum, steps) * smoothness
    bound = math.sqrt(2 * curvature * constant * gap / steps) / math.tanh(alpha)
    return _with_eps(bound + floor, eps)


def _with_eps(bound: float, eps: float) -> float:
    """Return the s >= 0 with s^2 / (s + eps) = bound."""
    return (bound + math.sqrt(bound**2 + 4 * bound * eps)) / 2
