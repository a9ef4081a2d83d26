"""Every setting of a run: its type, its range and what it stands for."""

import difflib
import importlib
import re
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import gymnasium as gym
import torch
import yaml
from gymnasium.envs.registration import EnvSpec
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from experiments.runs.records import digest

STRICT = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
LABELS = ("protocol", "optimizer_settings")
"""Settings that a record shows, though they do not take part in its identity."""
YOUNGER = (
    ("environment", "reset_transitions"),
    ("environment", "contact_margins"),
    ("environment", "wrappers"),
    ("environment", "vec_normalize"),
    ("environment", "vectorization"),
    ("evaluation", "at_start"),
)
"""Settings that the first records lack: at its default, one takes no part in the identity."""

SCHEDULED = {"algorithm": "learning_rate", "optimizer": "alpha"}
"""By group, the argument that goes linearly to ``<argument>_end``, if that is given."""
NO_ARGUMENTS = ("_target_", "name", "learning_rate_end", "alpha_end")
"""Settings of a group that its ``_target_`` does not take."""

RESERVED = {
    *("true", "false", "yes", "no", "on", "off", "null", "none", "na", "nan", "inf", "infinity"),
}
"""Names that YAML or pandas takes for something else."""


def check_name(name: str) -> str:
    """Accept what a path, a shell, Hydra, HTML, CSV and mathtext take as it is."""
    if not re.fullmatch(r"[A-Za-z]([\w.+-]{0,78}[A-Za-z0-9])?", name, re.ASCII):
        raise ValueError(
            "should be a name: up to 80 letters, digits, '.', '_', '+' and '-', "
            "the first a letter, the last a letter or a digit"
        )
    if name.lower() in RESERVED:
        raise ValueError("should be a name, not a word of YAML's or of a table's")
    return name


def check_names(path: str | None) -> str | None:
    """Accept names separated by slashes."""
    for name in path.split("/") if path else []:
        check_name(name)
    return path


def refuse_bool(value: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Number = Annotated[float, BeforeValidator(refuse_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Whole = Annotated[int, BeforeValidator(refuse_bool)]
"""A whole number, however it is written: also as 1e6."""
Count = Annotated[Whole, Field(ge=1)]
Index = Annotated[Whole, Field(ge=0)]
Name = Annotated[str, AfterValidator(check_name)]


def check_device(device: str) -> str:
    """Accept ``auto``, ``cpu``, ``cuda`` and ``cuda:<index>``."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ValueError("must be auto, cpu, cuda or cuda:<index>")
    return device


def environment_spec(environment_id: str) -> EnvSpec:
    """Return Gymnasium's entry of an id (or ``module:id``), after the import of its module.

    Raises:
        gymnasium.error.Error: if there is none.
        Exception: whatever a user's module raises.
    """
    module, _, registered = environment_id.rpartition(":")
    if module:  # as gym.make does
        importlib.import_module(module)
    return gym.spec(registered)


def check_environment_id(environment_id: str) -> str:
    """Accept every id that Gymnasium has registered (or ``module:id``)."""
    try:
        environment_spec(environment_id)
    except Exception as error:  # whatever a user's module raises
        if not isinstance(error, gym.error.Error):
            module = environment_id.rpartition(":")[0]
            if isinstance(error, ImportError):
                raise ValueError(f"{module} cannot be imported: {error}") from error
            raise ValueError(f"{module} raises {type(error).__name__}: {error}") from error
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
        n_envs: copies stepped together.
        normalize: CleanRL's continuous-control wrappers: running normalisation of observations and
            of rewards by the discounted return, both clipped to [-10, 10].
        time_limit_is_terminal: show a time limit as a termination, so that nothing is bootstrapped.
        observation_dtype: cast observations, as to ``float32``; null leaves them as they are.
        reset_transitions: after each episode, a transition from its last observation to the first
            one of the next; see `experiments.environments.ResetTransitions`.
        contact_margins: of MuJoCo. ``new`` is MuJoCo's way from 3.5 on: two geoms are in contact
            within the sum of their margins; ``old`` is within the larger one, as before.
        wrappers: Gymnasium's or others, by ``_target_`` and arguments, from the innermost. They are
            put around the raw environment, whose returns a record has, and within the wrappers
            above.
        vec_normalize: arguments of SB3's ``VecNormalize``, put around all copies; null is none.
        vectorization: ``dummy`` steps the copies in one process, ``subproc`` each in its own.
        kwargs: keyword arguments of ``gymnasium.make``.
    """

    __pydantic_config__ = STRICT
    id: Annotated[str, AfterValidator(check_environment_id)] = "???"
    n_envs: Count = 1
    normalize: bool = False
    time_limit_is_terminal: bool = False
    observation_dtype: Annotated[str | None, Field(pattern="^float(32|64)$")] = None
    reset_transitions: bool = False
    contact_margins: Annotated[str, Field(pattern="^(new|old)$")] = "new"
    wrappers: list[dict[str, Any]] = field(default_factory=list)
    vec_normalize: dict[str, Any] | None = None
    vectorization: Literal["dummy", "subproc"] = "dummy"
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass
class EvaluationConfig:
    """Deterministic evaluation on an environment of its own, which cannot change the training.

    Attributes:
        points: how often, evenly spaced over the run; 0 turns evaluation off.
        episodes: episodes at each point; without a time limit of the environment's, each ends after
            10,000 steps.
        at_start: before the first step as well, to know what an untrained policy gets.
    """

    __pydantic_config__ = STRICT
    points: Index = 20
    episodes: Count = 5
    at_start: bool = False


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
        group: the study and its task, as ``ppo/Hopper-v4``; null is the protocol, or algorithm, and
            environment.
        job_type: the family; null is the optimizer's label.
    """

    __pydantic_config__ = STRICT
    wandb: bool = True
    tensorboard: bool = False
    project: str = "alphagrad"
    entity: str | None = None
    group: Annotated[str | None, AfterValidator(check_names)] = None
    job_type: Name | None = None


@dataclass
class TrainConfig:
    """One run.

    Attributes:
        algorithm: ``name``, ``_target_`` (an SB3 algorithm class) and its keyword arguments; with
            ``learning_rate_end`` the learning rate goes there linearly, from the first step to the
            last.
        environment: see `EnvironmentConfig`.
        optimizer: ``name`` (the arm's label; null is the class's in lower case), ``_target_`` (a
            torch optimizer class) and its keyword arguments, without the learning rate, which is
            the algorithm's; with ``alpha_end`` AlphaGrad's alpha goes there linearly.
        evaluation: see `EvaluationConfig`.
        checkpoint: see `CheckpointConfig`.
        tracking: see `TrackingConfig`.
        protocol: the protocol's name, or null.
        optimizer_settings: what the algorithm sets for this optimizer only, and why, in words; null
            if it has nothing to say on it (configs/algorithm_optimizer).
        origin: where the run begins: the folder of a finished run, which goes on to more steps, or
            a ``model.zip``, which gives its networks (experiments/origin.py); null is at random.
        origin_name: what the origin is called in the record, by its content; null looks.
        total_steps: environment steps, those of a run that goes on included.
        seed: seeds everything random in the run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<index>``.
        matmul_precision: of fp32 products, ``highest``, ``high`` or ``medium``; see
            ``torch.set_float32_matmul_precision``.
        objective: the score of the run for Hydra's sweepers: the mean return in the last tenth of
            the steps, of the ``training`` episodes or of the ``evaluation``.
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
    protocol: Name | None = None
    optimizer_settings: str | None = None
    origin: str | None = None
    origin_name: str | None = None
    total_steps: Count = 1_000_000
    seed: Annotated[Index, Field(lt=2**31)] = 0
    device: Annotated[str, AfterValidator(check_device)] = "cpu"
    matmul_precision: Literal["highest", "high", "medium"] = "highest"
    objective: Literal["training", "evaluation"] = "training"
    keep_model: bool = False
    runs: str = "runs"

    def identified(self) -> dict[str, Any]:
        """Return what determines the result: all but labels, paths and the GPU's index."""
        configuration = asdict(self)
        for setting in (*LABELS, "runs", "checkpoint", "tracking", "keep_model", "objective"):
            del configuration[setting]
        for group in ("algorithm", "optimizer"):
            del configuration[group]["name"]
            if configuration[group].get(f"{SCHEDULED[group]}_end") is None:
                configuration[group].pop(f"{SCHEDULED[group]}_end", None)
        for group, setting in YOUNGER:
            config = getattr(self, group)
            if getattr(config, setting) == getattr(type(config)(), setting):
                del configuration[group][setting]
        if self.matmul_precision == type(self).matmul_precision:
            del configuration["matmul_precision"]
        del configuration["origin"]
        if self.origin is None:
            del configuration["origin_name"]
        configuration["device"] = resolve_device(self.device).type
        return configuration

    def identity(self) -> str:
        """Return twelve hexadecimal digits that two runs share exactly if they are the same run."""
        return digest(self.identified())[:12]


def resolve_device(device: str) -> torch.device:
    """Return the device that ``device`` stands for on this machine."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for a group's ``_target_``."""
    return {key: value for key, value in settings.items() if key not in NO_ARGUMENTS}


def override(setting: str, text: str) -> str:
    """Return Hydra's override that gives a setting a text, whatever the text holds."""
    if re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text:
        return f"{setting}={text}"
    quoted = re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), text)
    quoted = re.sub(r"(\\*)\$\{", r"\1\1\\${", quoted)
    return f"{setting}='{quoted}'"


# Plain data: OmegaConf would check types by rules of its own, and take no 1e6 for a whole number.
ConfigStore.instance().store(name="train_schema", node=asdict(TrainConfig()))
# In Python, since YAML cannot say that it takes further keys without Hydra's plus.
ConfigStore.instance().store(
    group="optimizer",
    name="custom",
    node=OmegaConf.create({"_target_": "???", "name": None}, flags={"struct": False}),
)
