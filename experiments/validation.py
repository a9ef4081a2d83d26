"""The checks of a configuration, made before any time is spent."""

import difflib
import importlib
import inspect
import os
import tempfile
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from stable_baselines3.common.base_class import BaseAlgorithm
from torch.optim import Optimizer

from experiments.config import (
    Count,
    Fraction,
    Index,
    Name,
    NonNegative,
    Positive,
    TrainConfig,
    Whole,
    arguments,
    refuse_bool,
)
from experiments.mistakes import ConfigurationError, one_line


def require_device(device: str) -> None:
    """Look for a device; apart from `validate`, since a cluster's GPUs are on other machines.

    Raises:
        ConfigurationError: if torch does not find it here.
    """
    kind, _, index = device.partition(":")
    available = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= available:
        raise ConfigurationError(
            f"device = {device!r}: torch finds {available} CUDA devices here; "
            "device=cpu always works"
        )


def require_folder(setting: str, folder: str) -> None:
    """Look whether files can be written in a folder, or where it will be; nothing is left there.

    Raises:
        ConfigurationError: if not.
    """
    if not folder:
        raise ConfigurationError(f"{setting} = '': should be a folder")
    path = Path(folder).absolute()
    try:
        nearest = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        line = one_line(f"{setting} = {folder!r}: should be a folder that can be written: {reason}")
        raise ConfigurationError(line) from error


# Ranges of the algorithms' hyperparameters, which SB3 itself does not check.
HYPERPARAMETERS: dict[str, Any] = {
    "learning_rate": Positive,
    "gamma": Fraction,
    "gae_lambda": Fraction,
    "tau": Fraction,
    "batch_size": Count,
    "buffer_size": Count,
    "learning_starts": Index,
    "train_freq": Count,
    "gradient_steps": Annotated[Whole, Field(ge=-1)],
    "n_steps": Count,
    "n_epochs": Count,
    "policy_delay": Count,
    "target_update_interval": Count,
    "clip_range": Positive,
    "clip_range_vf": Positive | None,
    "ent_coef": float | str,
    "vf_coef": NonNegative,
    "max_grad_norm": Positive | None,
    "exploration_fraction": Fraction,
    "exploration_initial_eps": Fraction,
    "exploration_final_eps": Fraction,
    "exploration_noise": NonNegative,
    "target_policy_noise": NonNegative,
    "target_noise_clip": NonNegative,
    "policy_kwargs": dict[str, Any],
}
ELSEWHERE = {
    "env": "environment",
    "seed": "seed",
    "device": "device",
    "tensorboard_log": "tracking.tensorboard",
    "_init_setup_model": None,
}
"""Arguments of SB3's algorithms that a run's other settings give."""


def validate(composed: DictConfig) -> TrainConfig:
    """Check a composed configuration and bring its values to their declared types.

    Raises:
        ConfigurationError: for the first setting that is missing, unknown, of a wrong type or out
            of its range.
    """
    try:
        container = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigurationError(f"{error.full_key} is not set: it has no default") from error
    return validate_settings(container)


def validate_settings(settings: Any) -> TrainConfig:
    """Do as `validate` does, for a configuration of plain mappings, lists and values."""
    config: TrainConfig = typed("", TrainConfig, settings)
    for argument, setting in ELSEWHERE.items():
        if argument in config.algorithm:
            hint = f": it is {setting}" if setting else ""
            raise ConfigurationError(f"algorithm.{argument} is not a setting{hint}")
    check_target("algorithm", BaseAlgorithm, config.algorithm, HYPERPARAMETERS)
    optimizer_class = check_target("optimizer", Optimizer, config.optimizer, {})
    if "lr" in config.optimizer:
        raise ConfigurationError(
            "optimizer.lr is not a setting: the learning rate is algorithm.learning_rate"
        )
    _try_step(optimizer_class, arguments(config.optimizer))
    return config


def _try_step(optimizer_class: type[Any], settings: dict[str, Any]) -> None:
    """Make a step, which an optimizer has to do on dense gradients and without a closure."""
    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.ones(1)
    try:
        optimizer_class([parameter], lr=1e-3, **settings).step()
    except Exception as error:  # whatever a user's class raises
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        name = optimizer_class.__name__
        raise ConfigurationError(one_line(f"optimizer ({name}, {shown}): {error}")) from error


def typed(setting: str, annotation: Any, value: Any) -> Any:
    """Return ``value`` as ``annotation``.

    Raises:
        ConfigurationError: for the first error.
    """
    # A dataclass brings its own configuration; a signature may name any type, such as a tensor.
    config = None if is_dataclass(annotation) else ConfigDict(arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=config).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        # A union's error path ends in the names of its members: keep the user's keys only.
        keys = [str(key) for key in first["loc"] if isinstance(key, str) and key.isidentifier()]
        path = ".".join([setting] if setting else keys)
        shown = f"{path} = {first['input']!r}" if path else repr(first["input"])
        if first["type"] == "unexpected_keyword_argument":
            raise ConfigurationError(one_line(f"{shown}: no such setting")) from error
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise ConfigurationError(one_line(f"{shown}: {message}")) from error


def check_target(
    group: str, base: type, settings: dict[str, Any], ranges: dict[str, Any]
) -> type[Any]:
    """Check the keyword arguments of ``_target_`` by its signature; return the class.

    Args:
        group: the settings' name.
        base: what the class should be a subclass of.
        settings: ``_target_``, ``name`` and the arguments, which are brought to their types.
        ranges: types of arguments that are narrower than those of the signature.

    Raises:
        ConfigurationError: for the first setting that is wrong.
    """
    cls = import_class(f"{group}._target_", base, settings.get("_target_"))
    hints = _init_hints(cls)
    for key, value in arguments(settings).items():
        setting = f"{group}.{key}"
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f"; did you mean {group}.{near[0]}?" if near else ""
            raise ConfigurationError(
                f"{setting} = {value!r}: {cls.__name__} has no such argument{hint}"
            )
        if not (isinstance(value, dict) and "_target_" in value):
            annotation = ranges.get(key, hints[key])
            if annotation in (int, float):
                annotation = Annotated[annotation, BeforeValidator(refuse_bool)]
            checked = typed(setting, annotation, value)
            settings[key] = list(checked) if isinstance(checked, tuple) else checked
    typed(f"{group}.name", Name, settings.get("name"))
    return cls


def import_class(setting: str, base: type, path: Any) -> type[Any]:
    """Return the class with a dotted path.

    Raises:
        ConfigurationError: if there is none, it cannot be imported, or it is no subclass of
            ``base``.
    """
    module, _, name = str(path).rpartition(".")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        reason = one_line(f"{setting} = {path!r}: cannot be imported: {error}")
        raise ConfigurationError(reason) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigurationError(f"{setting} = {path!r}: should be a subclass of {base.__name__}")
    return cls


def _init_hints(cls: type) -> dict[str, Any]:
    """Return annotations of a class's arguments, following ``**kwargs`` up to its bases."""
    hints: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = inspect.signature(vars(base)["__init__"], eval_str=True).parameters.values()
        for parameter in own:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                known = parameter.annotation is not parameter.empty
                hints.setdefault(parameter.name, parameter.annotation if known else Any)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
            break
    return hints
