"""The records that count: one file for each run, which every study that has the run refers to.

``<results>/records/<name of the run's folder>.json`` is the run's ``record.json`` on one line, with
a digest of its content. The name ends in the run's identity, by which it is found. The fields of a
record: docs/records.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = "records"


def digest(content: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with its ``digest``, which is that of all other fields."""
    content = {name: value for name, value in record.items() if name != "digest"}
    return content | {"digest": digest(content)}


def compact(content: Any) -> str:
    """Return standard JSON on one line.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON does not have.
    """
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def find_records(results: Path) -> dict[str, Path]:
    """Return the published records by identity."""
    paths = sorted((results / FOLDER).glob("*.json"))
    return {path.stem.rpartition("-")[2]: path for path in paths}
