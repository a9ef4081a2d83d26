"""A run's folder: what it holds and how it is written.

``runs/<algorithm>-<environment>-<optimizer>-seed<seed>-<identity>/`` holds

- ``config.yaml``: the resolved configuration;
- ``provenance.json``: versions, CPU, git commit and command;
- ``status.json``: ``pending`` (in Slurm's queue), ``running``, ``completed``, ``diverged`` or
  ``failed``, and how far;
- ``progress.csv``: SB3's training metrics, from a resumption on in ``progress-from-<step>.csv``;
- ``checkpoints/``: until the record is written;
- ``traceback.txt``: of a failed run;
- ``wandb.id``: the run's id in Weights & Biases (experiments/views/tracking.py);
- ``model.zip``, ``normalization.npz``: the final model, if ``keep_model=true``;
- ``record.json``: the outcome, written last (schema: docs/records.md).
"""

import json
import os
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from alphagrad import kernel
from experiments.config import LABELS, ConfigurationError, TrainConfig

SCHEMA_VERSION = 1
PACKAGES = ("torch", "stable-baselines3", "gymnasium", "mujoco", "numpy", "hydra-core", "alphagrad")
CODE = ("alphagrad", "experiments")
"""What determines a result; all that ``configs`` does stands in the record's configuration."""
REPOSITORY = Path(__file__).parents[2]


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write standard JSON atomically.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file, or None where there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content


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
        environment = re.sub(r"[^\w.-]", "_", config.environment.id)
        optimizer = config.optimizer["_target_"].rpartition(".")[2].lower()
        name = f"{config.algorithm['name']}-{environment}-{optimizer}-seed{config.seed}"
        self.folder = Path(config.runs) / f"{name}-{self.identity}"
        self.started = now()
        self.first_step = 0

    @property
    def record(self) -> dict[str, Any] | None:
        """The run's record, if it has finished; see `read_record`."""
        return self.read_record(self.folder / "record.json")

    def read_record(self, path: Path) -> dict[str, Any] | None:
        """The record in a file, or None where there is none.

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

    def announce(self) -> bool:
        """Report the run as running before its process is started, which takes seconds.

        Returns:
            Whether there is something to do: not if the run has a record.

        Raises:
            RunBusyError: if another process is at work on it.
        """
        with self.lock():
            if self.record is not None:
                return False
            self.report("running", 0)
            return True

    def start(
        self,
        interrupted: dict[str, Any] | None = None,
        resumption: dict[str, Any] | None = None,
    ) -> None:
        """Write what is known before the first step.

        Args:
            interrupted: the provenance of the run that goes on here, if one does.
            resumption: the ``step`` from which it goes on, and whether with the ``same_episodes``.
        """
        (self.folder / "traceback.txt").unlink(missing_ok=True)
        write_text(
            self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(self.config)))
        )
        command = f"python -m experiments.train {shlex.join(self.overrides)}"
        here = {"started": self.started, "command": command, **provenance()}
        self.provenance = interrupted or here | {"resumed": []}
        if resumption is not None:
            self.provenance["resumed"].append(resumption | here)
            self.first_step = resumption["step"]
        write_json(self.folder / "provenance.json", self.provenance)
        self.report("running", self.first_step)

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
        }
        write_json(self.folder / "status.json", content)

    @property
    def ended(self) -> bool:
        """Whether the run has a record or has failed."""
        return self.record is not None or self.status.get("status") == "failed"

    @property
    def status(self) -> dict[str, Any]:
        """The content of ``status.json``; empty if the run was never started."""
        return read_json(self.folder / "status.json") or {}

    def fail(self, reason: str, traceback: str) -> None:
        """Leave a failure's reason and traceback; a failed run has no record."""
        write_text(self.folder / "traceback.txt", traceback)
        self.report("failed", self.status.get("step", 0), reason)

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


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance() -> dict[str, Any]:
    """What a result may depend on beside its configuration: code, versions, hardware."""
    return {
        "git": _git(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "cpu": _cpu(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "alphagrad_kernel": kernel.is_built(),
    }


def _git() -> dict[str, Any]:
    """The commit of the code, and whether what determines a result differs from it."""

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
    """The CPU's model and its vector extensions, on which rounding depends."""
    fields: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            fields[name.strip()] = value.strip()
    flags = [f for f in fields.get("flags", "").split() if re.match(r"avx|fma|amx", f)]
    return {"model": fields.get("model name", platform.processor()), "flags": sorted(flags)}
