"""Files that a reader, or a crash, sees whole or not at all; JSON and YAML that may be damaged."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from experiments.mistakes import ConfigurationError, one_line

Kind = TypeVar("Kind")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, as `write_bytes` does.

    Raises:
        UnicodeEncodeError: if it holds a lone surrogate.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write standard JSON, as `write_bytes` does.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML in ASCII, which can hold any text, as `write_bytes` does."""
    write_text(path, yaml.safe_dump(content, sort_keys=False))


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
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(one_line(f"{path}: damaged: {error}")) from error
    if not isinstance(content, kind):
        raise ConfigurationError(one_line(f"{path}: damaged: holds no {kind.__name__}"))
    return content
