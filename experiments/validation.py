"""The checks of a configuration, made before any time is spent."""

import difflib
import importlib
import inspect
import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Never

import gymnasium as gym
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper
from torch.optim import Optimizer

from alphagrad import AlphaGrad
from experiments.config import (
    SCHEDULED,
    Count,
    EnvironmentConfig,
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
from experiments.endings import one_line
from experiments.mistakes import ConfigurationError
from experiments.optimizers import set_mode, without_compiler
from experiments.origin import name_of
from experiments.signatures import init_parameters
from experiments.updates import require_updates


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

PACKAGES = {
    "lion_pytorch": "lion-pytorch",
    "pytorch_optimizer": "pytorch_optimizer",
    "sb3_contrib": "sb3-contrib",
    "schedulefree": "schedulefree",
}
"""What is to be installed for modules that groups of configs/ name, or their documentation."""


def validate(composed: DictConfig) -> TrainConfig:
    """Check a composed configuration and bring its values to their declared types.

    Raises:
        ConfigurationError: for the first setting that is missing, unknown, of a wrong type or out
            of its range.
    """
    return validate_settings(plain(composed))


def plain(composed: DictConfig) -> Any:
    """Return a composed configuration as plain mappings, lists and values.

    Raises:
        ConfigurationError: if a setting is missing.
    """
    try:
        return OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigurationError(f"{error.full_key} is not set: it has no default") from error


def validate_settings(settings: Any) -> TrainConfig:
    """Do as `validate` does, for a configuration of plain mappings, lists and values."""
    config: TrainConfig = typed("", TrainConfig, settings)
    for argument, setting in ELSEWHERE.items():
        if argument in config.algorithm:
            hint = f": it is {setting}" if setting else ""
            raise ConfigurationError(f"algorithm.{argument} is not a setting{hint}")
    check_environment(config.environment)
    algorithm_class = check_target("algorithm", BaseAlgorithm, config.algorithm, HYPERPARAMETERS)
    require_updates(config, algorithm_class)
    optimizer_class = check_target("optimizer", Optimizer, config.optimizer, {})
    if "lr" in config.optimizer:
        raise ConfigurationError(
            "optimizer.lr is not a setting: the learning rate is algorithm.learning_rate"
        )
    if config.optimizer.get("alpha_end") is not None and not issubclass(optimizer_class, AlphaGrad):
        raise ConfigurationError(
            f"optimizer.alpha_end = {config.optimizer['alpha_end']}: {optimizer_class.__name__} "
            "has no alpha that could follow a schedule, AlphaGrad has"
        )
    check_schedule("algorithm", config.algorithm, NonNegative)
    check_schedule("optimizer", config.optimizer, Positive)
    try_optimizer(optimizer_class, arguments(config.optimizer), config.checkpoint.points)
    if config.origin is not None and config.origin_name is None:
        config.origin_name = name_of(config.origin)
    if config.objective == "evaluation" and not config.evaluation.points:
        raise ConfigurationError(
            "objective = 'evaluation': evaluation.points = 0 should be at least 1"
        )
    return config


def check_environment(environment: EnvironmentConfig) -> None:
    """Check what is put around an environment.

    Raises:
        ConfigurationError: for the first setting that is wrong, or does not go with another.
    """
    for index, wrapper in enumerate(environment.wrappers):
        group = f"environment.wrappers.{index}"
        wrapped = import_class(f"{group}._target_", gym.Wrapper, wrapper.get("_target_"))
        check_arguments(group, wrapped, gym.Wrapper, wrapper, {"env": Never})
    if environment.vec_normalize is not None:
        check_arguments(
            "environment.vec_normalize",
            VecNormalize,
            VecEnvWrapper,
            environment.vec_normalize,
            {"venv": Never, "training": Never, "gamma": Fraction},
        )
        if environment.normalize:
            raise ConfigurationError(
                "environment.vec_normalize is given: environment.normalize = True should be false"
            )
    if environment.vectorization == "subproc" and environment.normalize:
        raise ConfigurationError(
            "environment.vectorization = 'subproc': environment.normalize = True should be false, "
            "since evaluations read its statistics in this process; environment.vec_normalize={} "
            "keeps them here"
        )


def check_schedule(group: str, settings: dict[str, Any], annotation: Any) -> None:
    """Check the setting of a group that makes another one go somewhere, if it is given.

    Raises:
        ConfigurationError: if it is out of its range, or there is no number to begin with.
    """
    argument = SCHEDULED[group]
    name = f"{argument}_end"
    if settings.get(name) is None:
        return
    settings[name] = typed(f"{group}.{name}", annotation, settings[name])
    if not isinstance(settings.get(argument), int | float):
        raise ConfigurationError(
            f"{group}.{name} = {settings[name]:g}: {group}.{argument} = "
            f"{settings.get(argument)!r} should be the number from which it goes there"
        )


def try_optimizer(optimizer_class: type[Any], settings: dict[str, Any], checkpoints: int) -> None:
    """Ask of an optimizer what SB3 will: steps on dense gradients, and to go on from its state.

    Raises:
        ConfigurationError: if it cannot do so.
    """
    name = optimizer_class.__name__
    shown = f"optimizer ({', '.join([name, *(f'{k}={v}' for k, v in settings.items())])})"
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ConfigurationError(
            f"{shown}: its step needs a closure, and SB3's algorithms have none to give"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            faithful = _goes_on(lambda parameters: optimizer_class(parameters, lr=1e-3, **settings))
    except Exception as error:  # whatever a user's class raises
        for setting, value in settings.items():
            if str(error).startswith(f"Invalid {setting} "):  # in torch's words
                shown = f"optimizer.{setting} = {value}"
        raise ConfigurationError(one_line(f"{shown}: {error}")) from error
    if checkpoints and not faithful:
        raise ConfigurationError(
            f"checkpoint.points = {checkpoints}: {name} cannot go on from a checkpoint, since its "
            "state_dict does not hold all that its steps depend on; checkpoint.points=0 trains "
            "without"
        )


def _goes_on(make: Callable[[list[torch.Tensor]], Optimizer]) -> bool:
    """Return whether an optimizer that is saved and loaded goes on as one that is not."""

    def step(optimizer: Optimizer, parameters: list[torch.Tensor], count: int) -> None:
        set_mode(optimizer, "train")
        torch.manual_seed(count)
        for _ in range(count):
            for parameter in parameters:
                parameter.grad = parameter.detach() + 1
            with torch.no_grad():
                without_compiler(type(optimizer).step)(optimizer)
        set_mode(optimizer, "eval")

    parameters = [torch.ones(2, 3).requires_grad_(), torch.ones(3).requires_grad_()]
    optimizer = make(parameters)
    step(optimizer, parameters, 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    copies = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    step(optimizer, parameters, 3)
    try:
        again = make(copies)
        again.load_state_dict(torch.load(file, weights_only=True))
        step(again, copies, 3)
    except Exception:  # whatever a user's class raises when it is loaded
        return False
    return all(torch.equal(copy, old) for copy, old in zip(copies, parameters, strict=True))


def typed(setting: str, annotation: Any, value: Any) -> Any:
    """Return ``value`` as ``annotation``.

    Raises:
        ConfigurationError: for the first error.
    """
    # A dataclass brings its own configuration; a signature may name any type, such as a tensor.
    config = None if is_dataclass(annotation) else ConfigDict(arbitrary_types_allowed=True)
    try:
        adapter = TypeAdapter(annotation, config=config)
    except PydanticUserError:  # an annotation that is no type: the class itself may know
        return value
    try:
        return adapter.validate_python(value)
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
    check_arguments(group, cls, base, settings, ranges)
    if settings.get("name") is None:
        settings["name"] = cls.__name__.lower()
    typed(f"{group}.name", Name, settings["name"])
    return cls


def check_arguments(
    group: str, cls: type, base: type, settings: dict[str, Any], ranges: dict[str, Any]
) -> None:
    """Check keyword arguments by a class's signature, and bring them to their types.

    Raises:
        ConfigurationError: for the first that is wrong.
    """
    parameters, others = init_parameters(cls, base)
    for key, value in arguments(settings).items():
        setting = f"{group}.{key}"
        if (key not in parameters and not others) or ranges.get(key) is Never:
            near = difflib.get_close_matches(key, parameters, n=1)
            hint = f"; did you mean {group}.{near[0]}?" if near else ""
            raise ConfigurationError(
                f"{setting} = {value!r}: {cls.__name__} has no such argument{hint}"
            )
        if not (isinstance(value, dict) and "_target_" in value):
            annotation = ranges.get(key, parameters[key].annotation if key in parameters else Any)
            if annotation in (int, float):
                annotation = Annotated[annotation, BeforeValidator(refuse_bool)]
            checked = typed(setting, annotation, value)
            settings[key] = list(checked) if isinstance(checked, tuple) else checked


def import_class(setting: str, base: type, path: Any) -> type[Any]:
    """Return the class with a dotted path.

    Raises:
        ConfigurationError: if there is none, it cannot be imported, or it is no subclass of
            ``base``.
    """
    module, _, name = str(path).rpartition(".")
    if not module:
        raise ConfigurationError(f"{setting} = {path!r}: should be a class with its module: a.B")
    try:
        cls = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a user's module raises
        missing = PACKAGES.get(getattr(error, "name", None) or "")
        hint = f"; pip install {missing!r} brings it" if missing else ""
        reason = one_line(f"{setting} = {path!r}: cannot be imported: {error}{hint}")
        raise ConfigurationError(reason) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigurationError(f"{setting} = {path!r}: should be a subclass of {base.__name__}")
    return cls
