"""Where a run begins other than at random: at the end of another run, or with a model's networks.

``origin`` is the folder of a finished run with a checkpoint of its end (``checkpoint.keep=true``):
with the same settings the training goes on from there to more steps. Or it is a ``model.zip`` of
SB3's, from a run (``keep_model=true``) or from elsewhere: the policy's networks are those of the
model, and all else is new, but for the statistics that normalise observations, which lie beside it.
"""

import hashlib
from pathlib import Path

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file

from experiments import environments
from experiments.config import TrainConfig
from experiments.endings import one_line
from experiments.mistakes import ConfigurationError
from experiments.runs import snapshot
from experiments.runs.checkpoints import CheckpointFolder
from experiments.runs.reading import read_json

SAME = ("algorithm", "environment", "optimizer", "seed")
"""Settings that go on as they are in the origin."""


def name_of(origin: str) -> str:
    """Return what an origin is called in records: by its content, wherever it lies.

    Raises:
        ConfigurationError: if there is no such origin.
    """
    path = Path(origin)
    if path.is_dir():
        record = read_json(path / "record.json")
        if record is None or not CheckpointFolder(path / "checkpoints").paths():
            raise ConfigurationError(
                f"origin = {origin!r}: should be the folder of a finished run that was made with "
                "checkpoint.keep=true, or a model.zip"
            )
        return f"run {record['identity']} at step {record['steps']}"
    digest = hashlib.sha256()
    for name, tensor in sorted(_policy(path).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"model {digest.hexdigest()[:12]}"


def begin(config: TrainConfig, model: BaseAlgorithm) -> None:
    """Bring a new model to where the run's origin is; without one, leave it.

    Raises:
        ConfigurationError: if the origin is another one by now, or does not fit.
    """
    if config.origin is None:
        return
    where = f"origin = {config.origin!r}"
    if (found := name_of(config.origin)) != config.origin_name:
        raise ConfigurationError(f"{where}: is {found}, not {config.origin_name} any more")
    path = Path(config.origin)
    try:
        if path.is_dir():
            _go_on(config, model, path)
        else:
            model.policy.load_state_dict(_policy(path))
            environments.take_statistics(model.get_env(), config.environment, path.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except Exception as error:  # torch's for other shapes, a file's
        raise ConfigurationError(one_line(f"{where}: does not fit this run: {error}")) from error


def _go_on(config: TrainConfig, model: BaseAlgorithm, folder: Path) -> None:
    theirs = (read_json(folder / "record.json") or {})["configuration"]
    mine = config.identified()
    for setting in SAME:
        if mine[setting] != theirs[setting]:
            raise ConfigurationError(
                f"{setting} should be as there, {theirs[setting]!r}, and is {mine[setting]!r}; "
                "a model.zip leaves it free"
            )
    state = CheckpointFolder(folder / "checkpoints").load()
    if state is None:
        raise ConfigurationError("no checkpoint there can be read")
    snapshot.put(state["training"]["snapshot"], model)
    if model.num_timesteps >= config.total_steps:
        raise ConfigurationError(
            f"total_steps = {config.total_steps}: should be more than the {model.num_timesteps} "
            "that are done there"
        )


def _policy(path: Path) -> dict[str, torch.Tensor]:
    """Return the networks' parameters in a ``model.zip``, by name.

    Raises:
        ConfigurationError: if it is none.
    """
    try:
        _, parameters, _ = load_from_zip_file(path, load_data=False, device="cpu")
        policy: dict[str, torch.Tensor] = {**parameters["policy"]}  # type: ignore[dict-item]
    except Exception as error:  # zip's, torch's, or a file's
        line = f"origin = {str(path)!r}: should be a run's folder or a model.zip: {error}"
        raise ConfigurationError(one_line(line)) from error
    return policy
