"""JSON and YAML that may be damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from experiments.endings import one_line
from experiments.mistakes import ConfigurationError

Kind = TypeVar("Kind")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, or None where there is none.

    Raises:
        ConfigurationError: if the file cannot be read, or holds no JSON object.
    """
    try:
        content: dict[str, Any] = _parse(path, json.loads, dict)
    except FileNotFoundError:
        return None
    return content


def read_yaml(path: Path, kind: type[Kind]) -> Kind:
    """Return the content of a YAML file.

    Raises:
        ConfigurationError: if there is none, it cannot be read, or its content is of another type.
    """
    try:
        return _parse(path, yaml.safe_load, kind)
    except FileNotFoundError as error:
        raise ConfigurationError(one_line(f"{path}: there is no such file")) from error


def _parse(path: Path, parse: Callable[[bytes], Any], kind: type[Kind]) -> Kind:
    try:
        content = parse(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(one_line(f"{path}: cannot be read: {error.strerror}")) from error
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigurationError(one_line(f"{path}: {where}{error.problem}")) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(one_line(f"{path}: damaged: {error}")) from error
    if not isinstance(content, kind):
        raise ConfigurationError(one_line(f"{path}: damaged: holds no {kind.__name__}"))
    return content
