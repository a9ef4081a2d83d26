"""The arguments that a class takes, its bases' included."""

import inspect
from collections.abc import Callable
from typing import Any


def init_parameters(cls: type, base: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return a class's arguments, following ``**kwargs`` up to its bases.

    Returns:
        The arguments by name, and whether the class takes others too: then its ``**kwargs`` go
        on to ``base``, or to nothing.
    """
    found: dict[str, inspect.Parameter] = {}
    others = False
    for owner in cls.__mro__:
        if owner is base:
            break
        if "__init__" not in vars(owner):
            continue
        own = _parameters(vars(owner)["__init__"])
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        others = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
        if not others:
            break
    return found, others


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return a function's parameters, of any type where none is given or it is not there."""
    try:
        found = inspect.signature(function, eval_str=True).parameters.values()
    except Exception:  # whatever the evaluation of an annotation raises
        found = inspect.signature(function).parameters.values()
        return [parameter.replace(annotation=Any) for parameter in found]
    return [p if p.annotation is not p.empty else p.replace(annotation=Any) for p in found]
