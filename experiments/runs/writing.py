"""Files that a reader, or a crash, sees whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml


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
