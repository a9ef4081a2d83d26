"""The settings of a group of parameters: what each may be."""

import math
from numbers import Real
from typing import Any

from torch import Tensor

__all__ = ["checked"]

ALPHA_SCALINGS = ("none", "sqrt")
# Name, name in messages, smallest value, the first that is too large, and the range in words.
NUMBERS = (
    ("lr", "learning rate", 0, math.inf, ">= 0"),
    ("alpha", "alpha value", math.ulp(0), math.inf, "> 0"),
    ("eps", "epsilon value", 0, math.inf, ">= 0"),
    ("momentum", "momentum value", 0, 1, "in [0, 1)"),
    ("dampening", "dampening value", 0, math.nextafter(1, 2), "in [0, 1]"),
    ("weight_decay", "weight_decay value", 0, math.inf, ">= 0"),
)
FLAGS = ("nesterov", "coupled_weight_decay", "maximize", "capturable", "differentiable")
PATHS = ("foreach", "fused")


def checked(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group with its numbers as Python's own, which ``torch.load`` takes, unlike NumPy's.

    Raises:
        ValueError: for a setting that is outside of its range, in torch's words.
    """
    numbers = {row[0]: _number(group[row[0]], *row[1:]) for row in NUMBERS}
    if group["alpha_scaling"] not in ALPHA_SCALINGS:
        raise ValueError(
            f"Invalid alpha_scaling value: {group['alpha_scaling']}, not in {ALPHA_SCALINGS}"
        )
    for name in FLAGS + PATHS:
        if not (isinstance(group[name], bool) or (name in PATHS and group[name] is None)):
            raise ValueError(f"Invalid {name} value: {group[name]}")
    if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
        raise ValueError("Nesterov momentum requires a momentum and zero dampening")
    if group["foreach"] and group["fused"]:
        raise ValueError("foreach and fused cannot both be True")
    for name in PATHS:
        if group[name] and group["differentiable"]:
            raise ValueError(f"{name} does not support differentiable")
    return group | numbers


def _number(value: Any, label: str, low: float, high: float, words: str) -> float | Tensor:
    number = value
    if isinstance(value, Tensor) and label == "learning rate":
        if value.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        number = value.item()
    if not isinstance(number, Real) or isinstance(number, bool) or not low <= float(number) < high:
        raise ValueError(f"Invalid {label}: {number}, must be finite and {words}")
    return value if isinstance(value, Tensor) else float(number)
