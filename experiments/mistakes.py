"""A user's mistakes: how they are told, and how a program ends with one."""

import argparse
import difflib
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.endings import leave, one_line, one_line_endings


class ConfigurationError(ValueError):
    """A user's mistake: one line that names the setting or the file, and what is allowed."""


def masked(text: str) -> str:
    """Return what an environment or wandb says without keys: others may read where it is written.

    A key is what a variable like ``WANDB_API_KEY`` holds, or any long word with digits.
    """
    for name, value in os.environ.items():
        if re.search("KEY|TOKEN|SECRET|PASSWORD", name) and len(value) >= 8:
            text = text.replace(value, "***")
    return re.sub(r"\b(?=\w*\d)\w{32,}", "***", text)


@contextmanager
def exit_on_mistake() -> Iterator[None]:
    """Turn a user's mistake, ours to find or Hydra's, into one line and the exit code 2.

    All else that ends a program from outside: `experiments.endings.one_line_endings`.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let Hydra raise rather than print
    argparse.ArgumentParser.error = _refuse  # type: ignore[method-assign, assignment]
    with one_line_endings():
        try:
            yield
        except (
            ConfigurationError,
            HydraException,
            OmegaConfBaseException,
            yaml.YAMLError,
        ) as error:
            leave(2, mistake(error))
        except ValueError as error:
            if (culprit := _culprit(error)) is None:
                raise
            leave(2, one_line(f"{culprit}: {error}"))


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    raise ConfigurationError(one_line(f"{message}; --help lists what there is"))


def mistake(error: Exception) -> str:
    """Return what Hydra says, and OmegaConf behind it, without internals and a hint wrong here."""
    texts = [str(error)]
    cause = error.__cause__ if isinstance(error, HydraException) else error
    if isinstance(cause, OmegaConfBaseException):
        group = cause.parent_node
        if isinstance(group, DictConfig) and group and cause.key not in group:
            return _unknown(group, cause.key)
        texts.append(str(cause))
    lines: list[str] = []
    if isinstance(error, OverrideParseException) and error.override not in texts[0]:
        lines.append(f"{error.override}:")
    for text in texts:
        said, _, key = text.partition("full_key:")
        for line in said.partition("Config search path:")[0].splitlines():
            if not line.startswith("To append to your config") and line.strip() not in lines:
                lines.append(line.strip())
        setting = key.partition("\n")[0].strip()
        if setting and setting not in " ".join(lines):
            lines.insert(0, f"{setting}:")
    return one_line(" ".join(lines))


def _unknown(group: DictConfig, key: object) -> str:
    """Return that a setting is not in a group, and which are."""
    known = [str(name) for name in group if name not in ("hydra", "_target_")]
    name = group._get_full_key(None)
    prefix = f"{name}." if name else ""
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(known)}"
    return one_line(f"{prefix}{key}: no such setting; {hint}")


def _culprit(error: ValueError) -> str | None:
    """Return the file or the override that Hydra was at, which such an error does not name.

    None if it is not Hydra's: it is raised for YAML that is not UTF-8, and for a number or null in
    the place of an option, as in ``optimizer=3``.
    """
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals["__name__"].startswith("hydra."):
            file, override = map(frame.f_locals.get, ("full_path", "override"))
            return file or getattr(override, "input_line", None)
    return None
