"""What makes records unfit to stand beside each other, and the committed ones, which are fit."""

import json
from pathlib import Path
from typing import Any

import pytest
from record_fixtures import make_record, write_records

from scripts.check_records import identity_of, main

ROOT = Path(__file__).parents[1]
COMMITS = {"first": "a" * 40, "same": "b" * 40, "other": "c" * 40}
CODE = f"""
- - {{commit: {COMMITS["first"]}, reason: the first}}
  - {{commit: {COMMITS["same"][:7]}, reason: bit-identical}}
- - {{commit: {COMMITS["other"]}, reason: another loss}}
"""


def record(seed: int, commit: str = "first", **provenance: Any) -> dict[str, Any]:
    made = make_record(seed=seed)
    made["identity"] = identity_of(made["configuration"])
    git = {"commit": COMMITS.get(commit, commit), "dirty": False}
    made["provenance"] |= {"git": git} | provenance
    return made


def results(folder: Path, *records: dict[str, Any], code: str = CODE) -> str:
    write_records(folder / "ppo", *records)
    for path in (folder / "ppo" / "records").glob("*.json"):
        identity = json.loads(path.read_text())["identity"]
        path.rename(path.with_name(f"{path.stem.rpartition('-')[0]}-{identity}.json"))
    (folder / "code.yaml").write_text(code)
    return f"results={folder}"


def test_the_committed_records_are_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"results={ROOT / 'results'}"]) == 0
    assert "dqn" in capsys.readouterr().out


def test_commits_of_one_group_and_quick_runs_are_no_matter(tmp_path: Path) -> None:
    write_records(tmp_path / "ppo-quick", make_record())
    assert main([results(tmp_path, record(0), record(1, "same"))]) == 0


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (record(1, "other"), "code that may give other results: aaaaaaa and ccccccc"),
        (record(1, "d" * 40), "code.yaml does not list commit ddddddd"),
        (record(1) | {"identity": "0" * 12}, "its configuration's identity is "),
        (record(1, git={"commit": COMMITS["first"], "dirty": True}), "uncommitted changes"),
        (record(1, versions={"torch": "2.12.0"}), "several versions of torch: 2.12.0, 2.13.0"),
        (record(0), "already"),
    ],
)
def test_what_does_not_belong_together_is_named(
    second: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = results(tmp_path, record(0), second)
    if says == "already":  # the same run under another name
        folder = tmp_path / "ppo" / "records"
        [path] = folder.glob("*.json")
        (folder / f"again-{path.name}").write_text(path.read_text())
    assert main([arguments]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize("code", ["- - {commit: 12, reason: x}", "- - {commit: abcdef1}"])
def test_a_broken_list_of_commits_is_a_mistake_told_in_a_line(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([results(tmp_path, record(0), code=code)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "code.yaml: 0.0." in line


@pytest.mark.parametrize("code", ["- - {commit: [", "no list"])
def test_a_list_of_commits_that_is_no_yaml_is_too(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([results(tmp_path, record(0), code=code)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "code.yaml: " in line
