"""A run's folder: what it holds and how it is written.

``runs/<algorithm>-<environment>-<optimizer>-seed<seed>-<identity>/`` holds

- ``config.yaml``, ``overrides.yaml``: the resolved configuration, and the Hydra overrides that
  made it; all that a process needs to do the run (`Run.open`);
- ``provenance.json``: versions, CPU, git commit and command;
- ``status.json``: ``pending`` (in Slurm's queue), ``running``, ``interrupted``, ``completed``,
  ``diverged`` or ``failed``, and how far;
- ``progress.csv``: SB3's training metrics, from a resumption on in ``progress-from-<step>.csv``;
- ``checkpoints/``: until the record is written;
- ``output.txt``: what a process that a launcher started has printed;
- ``traceback.txt``: of a failed run;
- ``wandb.id``: the run's id in Weights & Biases (experiments/views/tracking.py);
- ``model.zip``, ``normalization.npz``, ``vec_normalize.pkl``: the final model, if
  ``keep_model=true``, and the statistics that normalise its observations;
- ``record.json``: the outcome, written last (schema: docs/records.md).
"""

import hashlib
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from alphagrad import kernel
from experiments.config import LABELS, Count, TrainConfig, environment_spec
from experiments.endings import one_line
from experiments.mistakes import ConfigurationError, masked
from experiments.runs.checkpoints import CheckpointFolder
from experiments.runs.reading import read_json, read_yaml
from experiments.runs.writing import write_bytes, write_json, write_yaml
from experiments.validation import validate_settings

SCHEMA_VERSION = 1
CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
STATUS = "status.json"
PACKAGES = ("torch", "stable-baselines3", "gymnasium", "mujoco", "numpy", "hydra-core", "alphagrad")
OWN_VERSIONS = {"torch", "stable_baselines3", "gymnasium", "alphagrad", "experiments"}
"""Modules whose versions stand in every record."""
CODE = ("alphagrad", "experiments")
"""What determines a result beside the configuration, which stands in the record."""
REPOSITORY = Path(__file__).parents[2]


class RunBusyError(Exception):
    """Another process holds the run's lock; the text is one line that names the folder."""


class Run:
    """One run's folder and the files in it.

    Args:
        config: the validated configuration.
        overrides: the Hydra overrides that make this run.
    """

    def __init__(self, config: TrainConfig, overrides: Sequence[str]) -> None:
        self.config = config
        self.overrides = list(overrides)
        self.identity = config.identity()
        environment = re.sub(r"[^\w.-]", "_", config.environment.id, flags=re.ASCII)
        optimizer = config.optimizer["_target_"].rpartition(".")[2].lower()
        name = f"{config.algorithm['name']}-{environment}-{optimizer}-seed{config.seed}"
        self.folder = Path(config.runs) / f"{name}-{self.identity}"
        self.checkpoints = CheckpointFolder(self.folder / "checkpoints")
        self.started = now()
        self.first_step = 0

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """Return the run that a folder was prepared for.

        Raises:
            ConfigurationError: if the folder holds no run, or a damaged one, or that of another
                folder.
        """
        config = replace(read_config(folder), runs=str(folder.parent))
        run = cls(config, read_yaml(folder / OVERRIDES, list))
        if run.folder.name != folder.name:
            raise ConfigurationError(f"{folder / CONFIG}: is that of {run.folder.name}")
        return run

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What the record says of where it comes from; of a resumed run, where it began."""
        return self._here() | {"resumed": []}

    def _here(self) -> dict[str, Any]:
        here = provenance()
        here["versions"] |= third_party(self.config)
        command = f"python -m experiments.train {shlex.join(self.overrides)}"
        return {"started": self.started, "command": command, **here}

    @property
    def record(self) -> dict[str, Any] | None:
        """The run's record, if it has finished; see `read_record`."""
        return self.read_record(self.folder / "record.json")

    def read_record(self, path: Path) -> dict[str, Any] | None:
        """Return the record in a file, or None where there is none.

        Raises:
            ConfigurationError: if it is of another schema version, or of another run.
        """
        record = read_json(path)
        for field, expected in (("schema_version", SCHEMA_VERSION), ("identity", self.identity)):
            if record is not None and record.get(field) != expected:
                raise ConfigurationError(
                    f"{path}: {field} = {record.get(field)!r}: should be {expected!r}; "
                    "move the file away to make this run anew"
                )
        return record

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the run; the folder is made if there is none.

        The lock is a ``flock`` on a file in the folder, so it dies with its process, however that
        ends. Between machines it holds where the file system passes such locks on, as NFS 4 does.

        Raises:
            RunBusyError: if another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                yield
        except Timeout as error:
            raise RunBusyError(f"{self.folder}: another process is at work on it") from error

    def prepare(self, status: str) -> bool:
        """Write what a process needs to do the run, and report it, since a process starts slowly.

        Args:
            status: ``running``, or ``pending`` in a queue.

        Returns:
            Whether there is something to do: not if the run has a record.

        Raises:
            RunBusyError: if another process is at work on it.
        """
        with self.lock():
            if self.record is not None:
                return False
            self.started = now()
            self.first_step = self.checkpoints.step if self.config.checkpoint.points else 0
            self._write_settings()
            self.report(status, self.first_step)
            return True

    def start(
        self,
        interrupted: dict[str, Any] | None = None,
        resumption: dict[str, Any] | None = None,
        first_step: int = 0,
    ) -> None:
        """Write what is known before the first step.

        Args:
            interrupted: the provenance of the run that goes on here, if one does.
            resumption: the ``step`` from which it goes on, and whether with the ``same_episodes``.
            first_step: the steps that another run has done, from whose end this one begins.
        """
        (self.folder / "traceback.txt").unlink(missing_ok=True)
        self._write_settings()
        self.first_step = first_step
        if interrupted is not None:
            self.provenance = interrupted
        if resumption is not None:
            self.provenance["resumed"].append(resumption | self._here())
            self.first_step = resumption["step"]
        write_json(self.folder / "provenance.json", self.provenance)
        self.report("running", self.first_step)

    def _write_settings(self) -> None:
        write_yaml(self.folder / CONFIG, asdict(self.config))
        write_yaml(self.folder / OVERRIDES, self.overrides)

    def report(self, status: str, step: int, reason: str | None = None) -> None:
        """Write ``status.json``: the heartbeat, and at the end how the run ended."""
        content = {
            "status": status,
            "step": step,
            "first_step": self.first_step,
            "total_steps": self.config.total_steps,
            "started": self.started,
            "updated": now(),
            "reason": reason,
            "group": self.config.tracking.group,
        }
        write_json(self.folder / STATUS, content)

    @property
    def ended(self) -> bool:
        """Whether the run has a record or has failed."""
        return self.record is not None or self.status.get("status") == "failed"

    @property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; empty if the run was never started.

        Raises:
            ConfigurationError: if the file is damaged.
        """
        return read_status(self.folder) or {}

    def fail(self, reason: str, traceback: str = "") -> None:
        """Leave a failure's reason and traceback; a failed run has no record."""
        told = masked(traceback).encode(errors="backslashreplace")
        write_bytes(self.folder / "traceback.txt", told)
        try:
            step = self.status.get("step", 0)
        except ConfigurationError:  # which a new status mends
            step = 0
        self.report("failed", step, masked(one_line(reason)))

    def settle(self) -> None:
        """Finish the end of a run that was killed between its record and its end.

        Does nothing if the run has no record, or a process is still at work on it.
        """
        record = self.record
        if record is None:
            return
        kept = self.config.checkpoint.keep
        try:
            reported = self.status.get("status")
        except ConfigurationError:  # which a new status mends
            reported = None
        if reported == record["status"] and (kept or not self.checkpoints.paths()):
            return
        with suppress(RunBusyError), self.lock():
            self.report(record["status"], record["steps"], record["reason"])
            if not kept:
                self.checkpoints.delete()

    def finish(self, diverged: str | None, outcome: dict[str, Any]) -> dict[str, Any]:
        """Write and return the record.

        Args:
            diverged: what diverged, if something did.
            outcome: the record's fields from ``steps`` to ``timing``.
        """
        status = "diverged" if diverged else "completed"
        record = {
            "schema_version": SCHEMA_VERSION,
            "identity": self.identity,
            "status": status,
            "reason": diverged,
            "arm": self.config.optimizer["name"],
            "seed": self.config.seed,
            "configuration": self.config.identified()
            | {label: getattr(self.config, label) for label in LABELS},
            **outcome,
            "provenance": self.provenance | {"finished": now()},
        }
        write_json(self.folder / "record.json", record)
        self.report(status, outcome["steps"], diverged)
        return record


@dataclass
class _Status:
    """What ``status.json`` holds; see `Run.report`."""

    status: str
    step: int
    first_step: int
    total_steps: Count
    started: datetime
    updated: datetime
    reason: str | None
    group: str | None = None


_STATUS = TypeAdapter(_Status)


def read_status(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``status.json``; None if the run was never started.

    Raises:
        ConfigurationError: if the file is damaged.
    """
    path = folder / STATUS
    status = read_json(path)
    if status is not None:
        try:
            _STATUS.validate_python(status)
        except ValidationError as error:
            field = error.errors()[0]["loc"][0]
            raise ConfigurationError(f"{path}: damaged: {field} is missing or wrong") from error
    return status


def read_config(folder: Path) -> TrainConfig:
    """Return the configuration in a run's folder.

    Raises:
        ConfigurationError: if there is none, or it is damaged.
    """
    path = folder / CONFIG
    try:
        return validate_settings(read_yaml(path, dict))
    except ConfigurationError as error:
        text = str(error)
        raise ConfigurationError(text if str(path) in text else f"{path}: {text}") from error


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance() -> dict[str, Any]:
    """Return what a result may depend on beside its configuration: code, versions, hardware."""
    return {
        "git": _git(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "cpu": _cpu(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "alphagrad_kernel": kernel.is_built(),
    }


def third_party(config: TrainConfig) -> dict[str, str]:
    """Return the versions of the distributions that the run's own classes come from."""
    entry_point = environment_spec(config.environment.id).entry_point
    settings = [config.algorithm, config.optimizer, *config.environment.wrappers]
    paths = [group["_target_"] for group in settings]
    paths += [entry_point] if isinstance(entry_point, str) else []
    modules = {path.partition(":")[0] if ":" in path else path.rpartition(".")[0] for path in paths}
    foreign = {name for name in modules if name.partition(".")[0] not in OWN_VERSIONS}
    known = packages_distributions() if foreign else {}
    found = {}
    for module in foreign:
        for name in known.get(module.partition(".")[0], []):
            found[name] = version(name)
        file = getattr(sys.modules.get(module), "__file__", None)
        if module.partition(".")[0] not in known and file:
            found[module] = f"sha256:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    return dict(sorted(found.items()))


def _git() -> dict[str, Any]:
    """Return the commit of the code, and whether what determines a result differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", *CODE)),
        }
    except (OSError, subprocess.CalledProcessError):  # not a checkout
        return {"commit": None, "dirty": None}


def _cpu() -> dict[str, Any]:
    """Return the CPU's model and its vector extensions, on which rounding depends."""
    fields: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    flags = [f for f in fields.get("flags", "").split() if re.match(r"avx|fma|amx", f)]
    return {"model": fields.get("model name", platform.processor()), "flags": sorted(flags)}
