"""Values as plain data, which `torch.load` reads with ``weights_only=True``, and back.

Plain data are nested dicts, lists and tuples of numbers, strings and tensors.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from enum import Enum
from types import FunctionType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.running_mean_std import RunningMeanStd as SB3RunningMeanStd
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

# What never changes; a snapshot has its name only, and is put back where the same is found.
CONSTANTS = (type, np.dtype, torch.dtype, torch.device, Enum)
SCHEDULES = (ConstantSchedule, FloatSchedule, LinearSchedule)
# What is put back attribute by attribute, so that whoever else holds it sees the same.
OBJECTS = (RunningMeanStd, SB3RunningMeanStd, NormalActionNoise, VectorizedActionNoise)


class NoSnapshotError(TypeError):
    """A value has no form as plain data, or its form does not fit where it should go."""


def encode(value: Any) -> Any:
    """Return a value as plain data.

    Raises:
        NoSnapshotError: if it contains what `decode` could not make again.
    """
    # By exact types: of a subclass, `decode` would make the base.
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (torch.Tensor, torch.nn.Parameter):
        return value.detach().clone()
    if kind is np.ndarray or isinstance(value, np.generic):
        return _encode_array(np.asarray(value)) | {"scalar": kind is not np.ndarray}
    if kind is np.random.Generator:
        return {"generator": value.bit_generator.state}
    if kind is np.random.RandomState:
        return {"random_state": encode(value.get_state(legacy=False))}
    if kind is random.Random:
        return {"random": value.getstate()}
    if kind is deque:
        return {"deque": [encode(item) for item in value], "maxlen": value.maxlen}
    if kind is list:
        return [encode(item) for item in value]
    if kind is tuple:
        return tuple(encode(item) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"named": _name(kind), "items": [encode(item) for item in value]}
    if kind in (dict, OrderedDict) and all(type(key) in (str, int) for key in value):
        return {"dict": {k: encode(v) for k, v in value.items()}, "ordered": kind is OrderedDict}
    if isinstance(value, gym.Space):
        return {"space": [encode(part._np_random) for part in _parts(value)]}
    if isinstance(value, FunctionType):
        cells = [encode(cell.cell_contents) for cell in value.__closure__ or ()]
        return {"function": _name(value), "cells": cells}
    if isinstance(value, OBJECTS):
        return {"object": _name(kind), "attributes": encode(vars(value))}
    if isinstance(value, CONSTANTS):
        return {"constant": str(value)}
    if isinstance(value, SCHEDULES):
        return {"constant": _name(kind)}
    raise NoSnapshotError(f"a {_name(kind)}")


def decode(data: Any, current: Any = None) -> Any:
    """Return the value that `encode` was given.

    Args:
        data: from `encode`.
        current: the value that stands where this one should go. What others may hold too is changed
            in place and returned, what never changes has to be there.

    Raises:
        NoSnapshotError: if ``current`` does not fit.
    """
    match data:
        case torch.Tensor():
            if not isinstance(current, torch.Tensor):
                return data.clone()
            with torch.no_grad():
                return current.copy_(data)
        case {"array": tensor, "dtype": dtype, "shape": shape, "scalar": scalar}:
            array = tensor.numpy().view(dtype).reshape(shape).copy()
            return array[()] if scalar else array
        case {"generator": state}:
            generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
            generator.bit_generator.state = state
            return generator
        case {"random_state": state}:
            legacy = np.random.RandomState()
            legacy.set_state(decode(state))
            return legacy
        case {"random": state}:
            plain = random.Random()
            plain.setstate(state)
            return plain
        case {"deque": items, "maxlen": maxlen}:
            return deque(map(decode, items), maxlen=maxlen)
        case {"named": name, "items": items}:
            require(name, _name(type(current)))
            return type(current)(*map(decode, items, current))
        case {"dict": items, "ordered": ordered}:
            known = current if isinstance(current, Mapping) else {}
            found = {key: decode(item, known.get(key)) for key, item in items.items()}
            return OrderedDict(found) if ordered else found
        case {"space": generators}:
            parts = _parts(current) if isinstance(current, gym.Space) else []
            require(len(generators), len(parts))
            for part, generator in zip(parts, generators, strict=True):
                part._np_random = decode(generator)
            return current
        case {"function": name, "cells": cells}:
            require(name, _name(current))
            for cell, item in zip(current.__closure__ or (), cells, strict=True):
                cell.cell_contents = decode(item, cell.cell_contents)
            return current
        case {"object": name, "attributes": attributes}:
            require(name, _name(type(current)))
            vars(current).update(decode(attributes, vars(current)))
            return current
        case {"constant": _}:
            require(data, encode(current))
            return current
        case list() | tuple():
            olds = [*current] if isinstance(current, list | tuple) else []
            pairs = zip(data, [*olds, *[None] * len(data)], strict=False)
            return type(data)(decode(item, old) for item, old in pairs)
    return data


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.names:
        raise NoSnapshotError(f"an array of {array.dtype}")
    content = torch.from_numpy(np.frombuffer(bytearray(array.tobytes()), dtype=np.uint8))
    return {"array": content, "dtype": array.dtype.str, "shape": list(array.shape)}


def _name(value: Any) -> str:
    """Return the name by which a class or a function is imported, roughly."""
    module, name = (getattr(value, key, None) for key in ("__module__", "__qualname__"))
    return f"{module}.{name}"


def require(expected: Any, found: Any) -> None:
    """Raise `NoSnapshotError` unless what was found is what was expected."""
    if found != expected:
        raise NoSnapshotError(f"{found} instead of {expected}")


def _parts(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    """Return a space and the spaces that it is made of, each of which has its own generator."""
    parts = [space]
    for value in vars(space).values():
        inner = value.values() if isinstance(value, Mapping) else value
        for part in [*inner] if isinstance(inner, Iterable) else [inner]:
            parts += _parts(part) if isinstance(part, gym.Space) else []
    return parts
