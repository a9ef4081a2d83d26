"""Files that are whole or not there, and what is said of those that are damaged."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.mistakes import ConfigurationError
from experiments.runs.reading import read_json, read_yaml
from experiments.runs.writing import write_json, write_text, write_yaml


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": math.nan})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert read_json(path) == {"value": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]


def test_yaml_holds_any_text_and_every_number(tmp_path: Path) -> None:
    content = ["a\ud800b", "${x}", "null", "ü\n\x00", 1e-05, 1e300, math.inf, 2**40, None, True]
    write_yaml(tmp_path / "a.yaml", content)
    assert read_yaml(tmp_path / "a.yaml", list) == content


@pytest.mark.parametrize("read", [read_json, lambda path: read_yaml(path, dict)])
@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": 1', b"[]", b"\0", b'{"a": "\xff"}', b"\t- {", b"[" * 100_000, None],
    ids=["empty", "cut", "list", "NUL", "latin1", "tab", "deep", "folder"],
)
def test_a_damaged_file_is_one_line_that_names_it(
    read: Callable[[Path], Any], content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "status.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert str(raised.value).isprintable()


def test_no_file_is_no_json_but_a_mistake_where_yaml_has_to_be(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none") is None
    with pytest.raises(ConfigurationError, match="there is no such file"):
        read_yaml(tmp_path / "none", dict)


def test_neither_torch_nor_sb3_is_imported() -> None:
    code = (
        "import sys, experiments.runs.reading, experiments.runs.writing; "
        "sys.exit(bool({'torch', 'stable_baselines3'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
