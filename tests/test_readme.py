"""The Python code in README.md runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_first_example_is_short() -> None:
    assert BLOCKS, "README.md has no ```python block"
    assert "alphagrad" in BLOCKS[0]
    assert len(BLOCKS[0].splitlines()) < 10


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_example_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may save a file
    code = compile(BLOCKS[number], f"{README.name}, Python block {number + 1}", "exec")
    exec(code, {"__name__": "__main__"})
