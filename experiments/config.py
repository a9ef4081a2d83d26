"""Every setting of a run, its type and its range, checked before any time is spent."""

import difflib
import hashlib
import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Annotated, Any

import gymnasium as gym
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ImportString,
    TypeAdapter,
    ValidationError,
)

STRICT = ConfigDict(extra="forbid")
LABELS = ("protocol", "optimizer_settings")
"""Settings that a record shows, though they do not take part in its identity."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class ConfigurationError(ValueError):
    """A user's mistake: one line that names the setting, its value and what is allowed."""


def check_device(device: str) -> str:
    """Accept ``auto``, ``cpu``, ``cuda`` and ``cuda:<index>``."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("must be auto, cpu, cuda or cuda:<index>")
    return device


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


def check_environment_id(environment_id: str) -> str:
    """Accept every id that Gymnasium has registered (or ``module:id``)."""
    module, _, registered = environment_id.rpartition(":")
    try:
        if module:  # as gym.make does
            importlib.import_module(module)
        gym.spec(registered)
    except (gym.error.Error, ImportError) as error:
        near = difflib.get_close_matches(environment_id, gym.registry, n=3)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else "python -c 'import gymnasium; gymnasium.pprint_registry()' lists them"
        )
        raise ValueError(f"not a registered Gymnasium environment; {hint}") from error
    return environment_id


@dataclass
class EnvironmentConfig:
    """One Gymnasium environment and the wrappers that a protocol puts around it.

    Attributes:
        id: any registered Gymnasium id.
        n_envs: copies stepped together in one process.
        normalize: CleanRL's continuous-control wrappers: running normalisation of observations and
            of rewards by the discounted return, both clipped to [-10, 10].
        time_limit_is_terminal: show a time limit as a termination, so that nothing is bootstrapped.
        observation_dtype: cast observations, as to ``float32``; null leaves them as they are.
        reset_transitions: after each episode, a transition from its last observation to the first
            one of the next; see `experiments.environments.ResetTransitions`.
        kwargs: keyword arguments of ``gymnasium.make``.
    """

    __pydantic_config__ = STRICT
    id: Annotated[str, AfterValidator(check_environment_id)] = "???"
    n_envs: Count = 1
    normalize: bool = False
    time_limit_is_terminal: bool = False
    observation_dtype: Annotated[str | None, Field(pattern="^float(32|64)$")] = None
    reset_transitions: bool = False
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class EvaluationConfig:
    """Deterministic evaluation on an environment of its own, which cannot change the training.

    Attributes:
        points: how often, evenly spaced over the run; 0 turns evaluation off.
        episodes: episodes at each point.
    """

    __pydantic_config__ = STRICT
    points: Index = 20
    episodes: Count = 5


@dataclass
class CheckpointConfig:
    """When a run saves what it needs to go on after an interruption; no part of its identity.

    Attributes:
        points: how often, evenly spaced over the run; 0 turns checkpoints off.
        minutes: save at least this often.
        keep: leave the last checkpoints, and one of the end, when the record has been written.
    """

    __pydantic_config__ = STRICT
    points: Index = 20
    minutes: Positive = 10.0
    keep: bool = False


@dataclass
class TrackingConfig:
    """Where a run's metrics go beside its ``progress.csv``; no part of its identity.

    Attributes:
        wandb: to Weights & Biases; online if there is a key, else offline.
        tensorboard: to TensorBoard.
        project: wandb's project.
        entity: wandb's user or team; null is the key's own.
        group: the study; null is the protocol, or algorithm and environment.
    """

    __pydantic_config__ = STRICT
    wandb: bool = True
    tensorboard: bool = False
    project: str = "alphagrad"
    entity: str | None = None
    group: str | None = None


@dataclass
class TrainConfig:
    """One run.

    Attributes:
        algorithm: ``name``, ``_target_`` (an SB3 algorithm class) and its keyword arguments.
        environment: see `EnvironmentConfig`.
        optimizer: ``name`` (the arm's label), ``_target_`` (a torch optimizer class) and its
            keyword arguments, less the learning rate, which is the algorithm's.
        evaluation: see `EvaluationConfig`.
        checkpoint: see `CheckpointConfig`.
        tracking: see `TrackingConfig`.
        protocol: the protocol's name, or null.
        optimizer_settings: what the algorithm sets for this optimizer only, and why, in words; null
            if it has nothing to say on it (configs/algorithm_optimizer).
        total_steps: environment steps.
        seed: seeds everything random in the run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.
        keep_model: leave the final model in the run's folder, for ``experiments.views.video``.
        runs: the folder that holds the runs' folders.
    """

    __pydantic_config__ = STRICT
    algorithm: dict[str, Any] = field(default_factory=dict)
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    optimizer: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    protocol: str | None = None
    optimizer_settings: str | None = None
    total_steps: Count = 1_000_000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Annotated[str, AfterValidator(check_device)] = "cpu"
    keep_model: bool = False
    runs: str = "runs"

    def identified(self) -> dict[str, Any]:
        """What determines the result: all but labels, paths and the GPU's index."""
        configuration = asdict(self)
        for setting in (*LABELS, "runs", "checkpoint", "tracking", "keep_model"):
            del configuration[setting]
        for group in ("algorithm", "optimizer"):
            del configuration[group]["name"]
        if not self.environment.reset_transitions:  # younger than the first records, which lack it
            del configuration["environment"]["reset_transitions"]
        configuration["device"] = resolve_device(self.device).type
        return configuration

    def identity(self) -> str:
        """Twelve hexadecimal digits that two runs share exactly if they are the same run."""
        canonical = json.dumps(self.identified(), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def resolve_device(device: str) -> torch.device:
    """The device that ``device`` stands for on this machine."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments for a group's ``_target_``."""
    return {key: value for key, value in settings.items() if key not in ("_target_", "name")}


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
    "gradient_steps": Annotated[int, Field(ge=-1)],
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
    config: TrainConfig = typed("", TrainConfig, container)
    check_target("algorithm", config.algorithm, HYPERPARAMETERS)
    optimizer_class = check_target("optimizer", config.optimizer, {})
    if "lr" in config.optimizer:
        raise ConfigurationError(
            "optimizer.lr is not a setting: the learning rate is algorithm.learning_rate"
        )
    try:
        optimizer_class(
            [torch.zeros(1, requires_grad=True)], lr=1e-3, **arguments(config.optimizer)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        shown = ", ".join(f"{key}={value}" for key, value in arguments(config.optimizer).items())
        raise ConfigurationError(f"optimizer ({shown}): {error}") from error
    return config


def typed(setting: str, annotation: Any, value: Any) -> Any:
    """``value`` as ``annotation``, or the first error of it as one line."""
    # A dataclass brings its own configuration; a signature may name any type, such as a tensor.
    config = None if is_dataclass(annotation) else ConfigDict(arbitrary_types_allowed=True)
    try:
        return TypeAdapter(annotation, config=config).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        # A union's error path ends in the names of its members: keep the user's keys only.
        keys = [str(key) for key in first["loc"] if isinstance(key, str) and key.isidentifier()]
        path = ".".join([setting] if setting else keys)
        if first["type"] == "unexpected_keyword_argument":
            raise ConfigurationError(f"{path} = {first['input']!r}: no such setting") from error
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
        raise ConfigurationError(f"{path} = {first['input']!r}: {message}") from error


def check_target(group: str, settings: dict[str, Any], ranges: dict[str, Any]) -> type:
    """Check the keyword arguments of ``_target_`` by its signature; returns the class.

    Raises:
        ConfigurationError: for the first setting that is wrong.
    """
    cls: type = typed(f"{group}._target_", ImportString, settings.get("_target_"))
    if not isinstance(settings.get("name"), str):
        raise ConfigurationError(f"{group}.name = {settings.get('name')!r}: should be a label")
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
            checked = typed(setting, ranges.get(key, hints[key]), value)
            settings[key] = list(checked) if isinstance(checked, tuple) else checked
    return cls


def _init_hints(cls: type) -> dict[str, Any]:
    """Annotations of a class's arguments, following ``**kwargs`` up to its bases."""
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


@contextmanager
def exit_on_mistake() -> Iterator[None]:
    """Turn a user's mistake, ours to find or Hydra's, into one line and the exit code 2."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let Hydra raise rather than print
    try:
        yield
    except (ConfigurationError, HydraException, OmegaConfBaseException) as error:
        print(_one_line(error), file=sys.stderr)
        sys.exit(2)


def _one_line(error: Exception) -> str:
    """What Hydra says, and OmegaConf behind it, without their internals and a hint wrong here."""
    texts = [str(error)]
    if isinstance(error.__cause__, OmegaConfBaseException):
        texts.append(str(error.__cause__))
    lines: list[str] = []
    for text in texts:
        for line in re.split(r"\s*full_key:|Config search path:", text)[0].splitlines():
            if not line.startswith("To append to your config") and line.strip() not in lines:
                lines.append(line.strip())
    return " ".join(lines).strip()


ConfigStore.instance().store(name="train_schema", node=TrainConfig)
