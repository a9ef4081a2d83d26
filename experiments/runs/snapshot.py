"""The state of a training between two rollouts, as plain data that goes back in bit by bit.

A snapshot is nested dicts, lists and tuples of numbers, strings and tensors: `torch.load` reads it
with ``weights_only=True``, which runs no code. One exception: an environment whose attributes are
not all plain data is pickled, into bytes within the snapshot, and unpickled when it is put back.
MuJoCo's and the classic control environments never are.

Everything that changes is in it: the policy, the optimizers, the replay buffer, SB3's counters, the
environments with their wrappers and simulators, and all random generators.
"""

import pickle
import random
from collections import deque
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.wrappers.utils import RunningMeanStd
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

Environment = gym.Env[Any, Any]
Snapshot = dict[str, Any]

# Attributes of environments that are no state: how they were made, and how they are drawn.
FIXED = ("spec", "_cached_spec", "mujoco_renderer", "screen", "clock", "surf", "func", "dtype")


class NoSnapshotError(TypeError):
    """A value has no form as plain data."""


def encode(value: Any) -> Any:
    """A value as plain data.

    Raises:
        NoSnapshotError: if it contains what `decode` could not make again.
    """
    match value:
        case None | bool() | int() | float() | str() if not isinstance(value, np.generic):
            return value
        case torch.Tensor():
            return value.detach().clone()
        case np.ndarray() | np.generic() if np.asarray(value).dtype.kind in "biuf":
            return {"array": torch.from_numpy(np.array(value)), "scalar": np.isscalar(value)}
        case np.random.Generator():
            return {"generator": value.bit_generator.state}
        case RunningMeanStd():
            return {"statistics": encode(vars(value))}
        case deque():
            return {"deque": [encode(item) for item in value], "maxlen": value.maxlen}
        case list():
            return [encode(item) for item in value]
        case tuple():
            return tuple(encode(item) for item in value)
        case dict() if all(isinstance(key, str | int) for key in value):
            return {"dict": {key: encode(item) for key, item in value.items()}}
    raise NoSnapshotError(type(value).__name__)


def decode(data: Any) -> Any:
    """The value that `encode` was given."""
    match data:
        case {"array": tensor, "scalar": scalar}:
            array = tensor.numpy().copy()
            return array[()] if scalar else array
        case {"generator": state}:
            generator = np.random.Generator(getattr(np.random, state["bit_generator"])())
            generator.bit_generator.state = state
            return generator
        case {"statistics": attributes}:
            statistics = RunningMeanStd()
            vars(statistics).update(decode(attributes))
            return statistics
        case {"deque": items, "maxlen": maxlen}:
            return deque(map(decode, items), maxlen=maxlen)
        case {"dict": items}:
            return {key: decode(item) for key, item in items.items()}
        case list():
            return [decode(item) for item in data]
        case tuple():
            return tuple(decode(item) for item in data)
    return data


def take(model: BaseAlgorithm) -> Snapshot:
    """The state of a model in training and of its environments, between two rollouts."""
    environment = model.get_env()
    assert isinstance(environment, DummyVecEnv)
    return {
        "parameters": model.get_parameters(),
        "attributes": _plain_attributes(model),
        "replay_buffer": _take_replay_buffer(model),
        "environments": [_take_environment(env) for env in environment.envs],
        "action_space": encode(model.action_space.np_random),
        "python": random.getstate(),
        "numpy": encode(np.random.get_state(legacy=False)),  # noqa: NPY002, the one that SB3 uses
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(model.device)] if model.device.type == "cuda" else [],
    }


def put(snapshot: Snapshot, model: BaseAlgorithm) -> bool:
    """Bring a newly made model and its environments to the state of a snapshot.

    Returns:
        Whether the environments are in it too; if not, their episodes begin anew.
    """
    environment = model.get_env()
    assert isinstance(environment, DummyVecEnv)
    model.set_parameters(snapshot["parameters"], exact_match=True, device=model.device)
    vars(model).update(decode(snapshot["attributes"]))
    _put_replay_buffer(snapshot["replay_buffer"], model)
    complete = all(layers is not None for layers in snapshot["environments"])
    if complete:
        for layers, env in zip(snapshot["environments"], environment.envs, strict=True):
            _put_environment(layers, env)
    else:
        model._last_obs = None  # SB3 resets the environments when it has no observation
    model.action_space._np_random = decode(snapshot["action_space"])
    random.setstate(snapshot["python"])
    np.random.set_state(decode(snapshot["numpy"]))  # noqa: NPY002
    torch.set_rng_state(snapshot["torch"])
    for state in snapshot["cuda"]:  # none or one: the run may go on on another GPU
        torch.cuda.set_rng_state(state, model.device)
    return complete


def _plain_attributes(thing: object) -> Any:
    """Those attributes that are plain data."""
    plain = {}
    for name, value in vars(thing).items():
        try:
            plain[name] = encode(value)
        except NoSnapshotError:
            continue
    return {"dict": plain}


def _take_replay_buffer(model: BaseAlgorithm) -> Snapshot | None:
    """The filled rows of the arrays, and the counters."""
    if not isinstance(model, OffPolicyAlgorithm):
        return None
    buffer = model.replay_buffer
    assert buffer is not None
    filled = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {
        name: torch.from_numpy(value[:filled])
        for name, value in vars(buffer).items()
        if isinstance(value, np.ndarray)
    }
    return {"pos": buffer.pos, "full": buffer.full, "arrays": arrays}


def _put_replay_buffer(state: Snapshot | None, model: BaseAlgorithm) -> None:
    if state is None or not isinstance(model, OffPolicyAlgorithm):
        return
    buffer = model.replay_buffer
    assert buffer is not None
    buffer.pos, buffer.full = state["pos"], state["full"]
    for name, rows in state["arrays"].items():
        getattr(buffer, name)[: len(rows)] = rows.numpy()


def _take_environment(environment: Environment) -> list[Snapshot] | None:
    """The state of each wrapper, from the outermost to the environment itself.

    None if the environment can neither be written as plain data nor pickled: then its episode
    cannot be continued. A MuJoCo simulation is kept as its full integration state, since pickling
    it, as Gymnasium does, starts it anew.
    """
    layers: list[Snapshot] = []
    while isinstance(environment, gym.Wrapper):
        layers.append({"attributes": _plain_attributes(environment)})
        environment = environment.env
    layer: Snapshot = {}
    changing = {
        name: value
        for name, value in vars(environment).items()
        if name not in FIXED and not isinstance(value, gym.Space)
    }
    if isinstance(environment, MujocoEnv):
        layer["simulation"] = torch.from_numpy(_simulation(environment))
        del changing["model"], changing["data"]
    try:
        layer["attributes"] = encode(changing)
    except NoSnapshotError:
        try:
            layer["pickled"] = torch.tensor(list(pickle.dumps(changing)), dtype=torch.uint8)
        except Exception:  # whatever an attribute's own code raises: it cannot be kept
            return None
    return [*layers, layer]


def _put_environment(layers: list[Snapshot], environment: Environment) -> None:
    for layer in layers:
        if "pickled" in layer:
            attributes = pickle.loads(layer["pickled"].numpy().tobytes())
        else:
            attributes = decode(layer["attributes"])
        for name, value in attributes.items():
            if isinstance(value, RunningMeanStd):
                # In place: the evaluation's environment reads the same statistics.
                vars(getattr(environment, name)).update(vars(value))
            else:
                setattr(environment, name, value)
        if "simulation" in layer:
            assert isinstance(environment, MujocoEnv)
            kind = mujoco.mjtState.mjSTATE_INTEGRATION
            state = layer["simulation"].numpy()
            mujoco.mj_setState(environment.model, environment.data, state, kind)
        if isinstance(environment, gym.Wrapper):
            environment = environment.env


def _simulation(environment: MujocoEnv) -> np.ndarray:
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(environment.model, kind))
    mujoco.mj_getState(environment.model, environment.data, state, kind)
    return state
