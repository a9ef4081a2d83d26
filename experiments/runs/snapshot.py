"""The state of a training between two rollouts, as plain data that goes back in bit by bit.

A snapshot is nested dicts, lists and tuples of numbers, strings and tensors: `torch.load` reads it
with ``weights_only=True``, which runs no code. One exception: an environment or a wrapper of
another origin than Gymnasium's, SB3's and this project's whose attributes are not all plain data is
pickled, into bytes within the snapshot, and unpickled when it is put back. MuJoCo's and the classic
control environments never are.

Everything that changes is in it: the policy, the optimizers, the replay buffer, SB3's counters, the
environments with their wrappers, spaces and simulators, and all random generators. What has no such
form is left out by its type (`EXCLUDED`), or refused.
"""

import hashlib
import io
import pickle
import random
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch.optim import Optimizer

from experiments.runs.plain_data import NoSnapshotError, decode, encode, require

Environment = gym.Env[Any, Any]
Snapshot = dict[str, Any]

FORMAT = 2
ORIGINS = ("gymnasium.", "stable_baselines3.", "experiments.")  # of what is never pickled
# Attributes of these types are no state of their owner: how it was made and how it is drawn, what
# is in the snapshot elsewhere.
EXCLUDED = (EnvSpec, MujocoRenderer, VecEnv, Optimizer)

NORMALIZATION = ("obs_rms", "ret_rms", "returns", "old_obs", "old_reward")  # of VecNormalize


def take(model: BaseAlgorithm) -> Snapshot:
    """Return the state of a model in training and of its environments, between two rollouts.

    Raises:
        NoSnapshotError: if the model or its replay buffer has something that cannot be kept.
    """
    return {
        "format": FORMAT,
        "parameters": model.get_parameters(),
        "attributes": _take_attributes(model),
        "replay_buffer": _take_replay_buffer(model),
        "environments": take_environments(model.get_env()),
        "normalization": _take_normalization(model),
        "action_space": encode(model.action_space),
        "python": random.getstate(),
        "numpy": encode(np.random.get_state(legacy=False)),  # noqa: NPY002, the one that SB3 uses
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(model.device)] if model.device.type == "cuda" else [],
    }


def put(snapshot: Snapshot, model: BaseAlgorithm) -> bool:
    """Bring a newly made model and its environments to the state of a snapshot.

    Returns:
        Whether the environments are in it too; if not, their episodes begin anew.

    Raises:
        ValueError: if the snapshot is of another version of this code.
        NoSnapshotError: if it does not fit the model.
    """
    if snapshot.get("format") != FORMAT:
        raise ValueError(
            "the checkpoint is of another version of this code; without the folder checkpoints "
            "the run begins anew"
        )
    model._setup_learn(1)  # as `learn` does, which makes a noise for each environment
    model.set_parameters(snapshot["parameters"], exact_match=True, device=model.device)
    for name, data in snapshot["attributes"].items():
        setattr(model, name, decode(data, getattr(model, name, None)))
    _put_replay_buffer(snapshot["replay_buffer"], model)
    complete = put_environments(snapshot["environments"], model.get_env())
    _put_normalization(snapshot.get("normalization"), model)
    if not complete:
        model._last_obs = None  # SB3 resets the environments when it has no observation
    decode(snapshot["action_space"], model.action_space)
    random.setstate(snapshot["python"])
    np.random.set_state(decode(snapshot["numpy"]))  # noqa: NPY002
    torch.set_rng_state(snapshot["torch"])
    for state in snapshot["cuda"]:  # none or one: the run may go on on another GPU
        torch.cuda.set_rng_state(state, model.device)
    return complete


def _take_attributes(model: BaseAlgorithm) -> Snapshot:
    """Return a model's attributes, but for its networks, environments and buffers.

    These are in the snapshot elsewhere, and are on SB3's own list of what is no data.
    """
    if getattr(model, "use_sde", False):  # its noise lies in the policy's distribution
        raise NoSnapshotError("use_sde = True draws noise for several rollouts")
    elsewhere = model._excluded_save_params()
    attributes: Snapshot = {}
    for name, value in vars(model).items():
        if not isinstance(value, (gym.Space, *EXCLUDED)):
            try:
                attributes |= _encode_attributes(model, {name: value})
            except NoSnapshotError:
                if name not in elsewhere:
                    raise
    return attributes


def _encode_attributes(owner: object, attributes: dict[str, Any]) -> Snapshot:
    encoded = {}
    for name, value in attributes.items():
        try:
            encoded[name] = encode(value)
        except (NoSnapshotError, RecursionError) as error:
            raise NoSnapshotError(f"{type(owner).__name__}.{name} is or has {error}") from error
    return encoded


def _take_replay_buffer(model: BaseAlgorithm) -> Snapshot | None:
    """Return the filled rows of the arrays, and whatever else there is."""
    buffer: ReplayBuffer | None = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    # One more: with optimize_memory_usage, the last next observation lies there.
    filled = buffer.buffer_size if buffer.full else min(buffer.pos + 1, buffer.buffer_size)
    arrays = _arrays(buffer)
    others = {
        name: value
        for name, value in vars(buffer).items()
        if name not in arrays and not isinstance(value, EXCLUDED)
    }
    rows = {
        name: {key: torch.from_numpy(array[:filled]) for key, array in columns.items()}
        for name, columns in arrays.items()
    }
    return {"rows": rows, "attributes": _encode_attributes(buffer, others)}


def _put_replay_buffer(state: Snapshot | None, model: BaseAlgorithm) -> None:
    if state is None:
        return
    buffer: ReplayBuffer = model.replay_buffer  # type: ignore[attr-defined]
    for name, columns in _arrays(buffer).items():
        for key, array in columns.items():
            rows = state["rows"][name][key].numpy()
            array[: len(rows)] = rows
    for name, data in state["attributes"].items():
        setattr(buffer, name, decode(data, getattr(buffer, name)))


def _arrays(buffer: ReplayBuffer) -> dict[str, dict[str, np.ndarray]]:
    """Return a buffer's numeric arrays of a row for each position, and its dictionaries of such."""
    found = {}
    for name, value in vars(buffer).items():
        columns = value if isinstance(value, dict) else {"": value}
        if columns and all(
            isinstance(array, np.ndarray)
            and len(array) == buffer.buffer_size
            and array.dtype.kind in "biuf"
            for array in columns.values()
        ):
            found[name] = columns
    return found


def _take_normalization(model: BaseAlgorithm) -> Snapshot | None:
    """Return the statistics of SB3's ``VecNormalize``, and what it has seen last."""
    normalizer = model.get_vec_normalize_env()
    if normalizer is None:
        return None
    found = {name: vars(normalizer)[name] for name in NORMALIZATION if name in vars(normalizer)}
    return _encode_attributes(normalizer, found)


def _put_normalization(state: Snapshot | None, model: BaseAlgorithm) -> None:
    normalizer = model.get_vec_normalize_env()
    for name, data in (state or {}).items():
        setattr(normalizer, name, decode(data, getattr(normalizer, name)))


def take_environments(environment: VecEnv | None) -> list[list[Snapshot] | None]:
    """Return the states of a vector's environments; None for one that cannot be kept."""
    copies = _copies(environment)
    if copies is None:
        return []
    return [_take_environment(env) for env in copies]


def put_environments(states: list[list[Snapshot] | None], environment: VecEnv | None) -> bool:
    """Bring a vector's environments to their states; return whether all could be."""
    copies = _copies(environment)
    if copies is None:
        return False
    try:
        for layers, env in zip(states, copies, strict=True):
            if layers is None:
                return False
            _put_environment(layers, env)
    except NoSnapshotError:
        return False
    return True


def _copies(environment: VecEnv | None) -> list[Environment] | None:
    """Return a vector's environments, also within what SB3 puts around a vector of images.

    None if they are in other processes.
    """
    vector = None if environment is None else environment.unwrapped
    return vector.envs if isinstance(vector, DummyVecEnv) else None


def _take_environment(environment: Environment) -> list[Snapshot] | None:
    """Return the state of each wrapper, from the outermost to the environment itself.

    A MuJoCo simulation has a form of its own, since pickling it, as Gymnasium does, starts it anew.
    """
    layers: list[Snapshot] = []
    for owner in _layers(environment):
        spaces, others = _split(owner)
        layer: Snapshot = {"spaces": _encode_attributes(owner, spaces)}
        if isinstance(owner, MujocoEnv):
            layer["simulation"] = _take_simulation(owner)
        try:
            layer["attributes"] = _encode_attributes(owner, others)
        except NoSnapshotError:
            if not _may_be_pickled(owner):
                return None
            try:
                layer["pickled"] = torch.frombuffer(_pickle(others, environment), dtype=torch.uint8)
            except Exception:  # whatever an attribute's own code raises: it cannot be kept
                return None
        layers.append(layer)
    return layers


def _put_environment(layers: list[Snapshot], environment: Environment) -> None:
    owners = _layers(environment)
    require(len(layers), len(owners))
    for owner, layer in zip(owners, layers, strict=True):
        spaces, others = _split(owner)
        for name, data in layer["spaces"].items():
            decode(data, spaces.get(name))
        if "pickled" in layer:
            if not _may_be_pickled(owner):
                raise NoSnapshotError(f"pickled attributes of {type(owner).__name__}")
            attributes = pickle.loads(layer["pickled"].numpy().tobytes())
        else:
            attributes = {
                name: decode(data, others.get(name)) for name, data in layer["attributes"].items()
            }
        for name, value in attributes.items():
            setattr(owner, name, value)
        if isinstance(owner, MujocoEnv):
            _put_simulation(layer["simulation"], owner)


def _layers(environment: Environment) -> list[Environment]:
    """Return the wrappers of an environment, from the outermost, and the environment itself."""
    layers = [environment]
    while isinstance(layers[-1], gym.Wrapper):
        layers.append(layers[-1].env)
    return layers


def _split(owner: Environment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spaces among the attributes of a layer, its class's included, and the others."""
    of_classes = {
        name: value for cls in reversed(type(owner).__mro__) for name, value in vars(cls).items()
    }
    spaces = {
        name: value
        for name, value in (of_classes | vars(owner)).items()
        if isinstance(value, gym.Space)
    }
    inner = owner.env if isinstance(owner, gym.Wrapper) else None
    simulator = (mujoco.MjModel, mujoco.MjData) if isinstance(owner, MujocoEnv) else ()
    others = {
        name: value
        for name, value in vars(owner).items()
        if not isinstance(value, (gym.Space, *EXCLUDED, *simulator))
        and value is not inner
        and not type(value).__module__.startswith("pygame")
    }
    return spaces, others


def _may_be_pickled(owner: Environment) -> bool:
    return not type(owner).__module__.startswith(ORIGINS)


def _pickle(attributes: dict[str, Any], environment: Environment) -> bytearray:
    """Pickle attributes, but none that leads back to their environment: it would be a copy then."""
    owners = {id(layer) for layer in _layers(environment)}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> None:
            if id(value) in owners:
                raise pickle.PicklingError("the environment itself")

    buffer = io.BytesIO()
    Pickler(buffer).dump(attributes)
    return bytearray(buffer.getvalue())


def _take_simulation(environment: MujocoEnv) -> Snapshot:
    """Return MuJoCo's integration state, all that was computed from it, and the model's digest.

    Some rewards and observations read what was computed in the step before: Ant's and Humanoid's.
    """
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(environment.model, kind))
    mujoco.mj_getState(environment.model, environment.data, state, kind)
    computed = {name: torch.from_numpy(np.array(a)) for name, a in _fields(environment.data)}
    model = hashlib.sha256(b"".join(array.tobytes() for _, array in _fields(environment.model)))
    return {"state": torch.from_numpy(state), "computed": computed, "model": model.hexdigest()}


def _put_simulation(simulation: Snapshot, environment: MujocoEnv) -> None:
    """Put back what `_take_simulation` has taken, if the model has not been changed in training."""
    require(simulation["model"], _take_simulation(environment)["model"])
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = simulation["state"].numpy()
    mujoco.mj_setState(environment.model, environment.data, state, kind)
    for name, array in _fields(environment.data):
        value = simulation["computed"][name].numpy()
        if value.shape == array.shape:  # those of the contacts are of the next step's size
            array[...] = value


def _fields(structure: Any) -> list[tuple[str, np.ndarray]]:
    """Return the arrays of one of MuJoCo's structures, by name."""
    found = ((name, getattr(structure, name)) for name in dir(structure) if name[0] != "_")
    return [(name, value) for name, value in found if isinstance(value, np.ndarray)]
