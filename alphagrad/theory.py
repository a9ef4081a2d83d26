"""What can be proved about AlphaGrad: sizes of updates, descent, and gradient norms after T steps.

The statements hold without momentum and weight decay, for exact gradients of a function whose
gradient is L-Lipschitz and that is bounded from below. Derivations: docs/theory.md.

Symbols, here and there: a tensor's gradient g of n elements has the shrinkage
r = |g| / (|g| + eps), and its update is u = tanh(alpha r g / |g|). K bounds the sum over tensors of
|u|^2. Arguments are numbers with alpha > 0, eps >= 0, and all others > 0 unless said.
"""

import math
from collections.abc import Sequence

__all__ = [
    "alignment_bounds",
    "best_gradient_norm_bound",
    "best_lr",
    "decrease_bound",
    "gradient_norm_bound",
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
    where the update is long it is also well aligned. Derivation: docs/theory.md, "One tensor".

    Args:
        size: n.
        alpha: steepness.
    """
    return min(float(size), alpha * math.tanh(alpha))


def gradient_norm_bound(
    gap: float,
    smoothness: float,
    lr: float,
    steps: int,
    alpha: float,
    constant: float,
    eps: float = 0.0,
) -> float:
    """Return what the smallest gradient norm of T steps with one learning rate is at most.

    For eps -> 0: min |g| <= gap / (lr T tanh(alpha)) + L lr K / (2 tanh(alpha)) = B. For eps > 0:
    (B + sqrt(B^2 + 4 B eps)) / 2, which is at most B + eps. With lr = c / sqrt(T), B is
    (gap / c + L c K / 2) / (sqrt(T) tanh(alpha)). With many tensors it bounds the smallest sum of
    the tensors' norms, which is no less than the norm of all elements together.
    Derivation: docs/theory.md, "Constant step" and "Many tensors".

    Args:
        gap: f at the start less a lower bound of f, >= 0.
        smoothness: L.
        lr: learning rate.
        steps: T; the gradients are those at the start and after the first T - 1 steps.
        alpha: steepness.
        constant: K, from `update_constant` or `single_tensor_constant`, or n as in the paper.
        eps: added to the norm; for m tensors, m times that.
    """
    bound = (gap / (lr * steps) + smoothness * lr * constant / 2) / math.tanh(alpha)
    return _with_eps(bound, eps)


def best_lr(gap: float, smoothness: float, steps: int, constant: float) -> float:
    """Return sqrt(2 gap / (L K T)), the learning rate of the smallest `gradient_norm_bound`.

    Derivation: docs/theory.md, "Step of 1 / sqrt(T)".

    Args:
        gap: f at the start less a lower bound of f.
        smoothness: L.
        steps: T.
        constant: K.
    """
    return math.sqrt(2 * gap / (smoothness * constant * steps))


def best_gradient_norm_bound(
    gap: float, smoothness: float, steps: int, alpha: float, constant: float, eps: float = 0.0
) -> float:
    """Return `gradient_norm_bound` at `best_lr`: sqrt(2 L K gap / T) / tanh(alpha) if eps = 0.

    With K = n, the form of the paper's non-convex rate. For alpha -> 0 the bound is sqrt(2 L gap /
    T), that of gradient descent with step 1 / L. Derivation: docs/theory.md, "Step of
    1 / sqrt(T)".

    Args:
        gap: f at the start less a lower bound of f, >= 0.
        smoothness: L.
        steps: T.
        alpha: steepness.
        constant: K.
        eps: added to the norm; for m tensors, m times that.
    """
    return _with_eps(math.sqrt(2 * smoothness * constant * gap / steps) / math.tanh(alpha), eps)


def _with_eps(bound: float, eps: float) -> float:
    """Return the s >= 0 with s^2 / (s + eps) = bound."""
    return (bound + math.sqrt(bound**2 + 4 * bound * eps)) / 2
