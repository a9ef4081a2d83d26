"""What makes records unfit to stand beside each other, and the committed ones, which are fit."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.records import make_record, write_record, write_study

from experiments import config
from experiments.runs.records import compact, sealed
from scripts.check_records import LABELS, Code, identity_of, main

ROOT = Path(__file__).parents[1]
FIRST, SAME, OTHER, UNLISTED, ANOTHER = (digit * 40 for digit in "abcde")
CODE = f"""
- - {{commit: {FIRST}, reason: the first}}
  - {{commit: {SAME[:7]}, reason: bit-identical}}
- - {{commit: {OTHER}, reason: another loss}}
"""


def record(seed: int, commit: str | None = FIRST, **provenance: Any) -> dict[str, Any]:
    made = make_record(seed=seed)
    made["identity"] = identity_of(made["configuration"])
    made["provenance"] |= {"git": {"commit": commit, "dirty": False}} | provenance
    return made


def results(folder: Path, *records: dict[str, Any], code: str = CODE) -> str:
    write_study(folder, "s", *records)
    (folder / "code.yaml").write_text(code)
    return f"results={folder}"


def test_the_committed_records_are_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"results={ROOT / 'results'}"]) == 0
    assert "no study" not in capsys.readouterr().out


def test_labels_are_those_that_the_identity_leaves_out() -> None:
    assert LABELS == config.LABELS
    plain = make_record()["configuration"]
    assert identity_of(plain | {"protocol": "renamed", "optimizer_settings": []}) == identity_of(
        plain
    )
    assert identity_of(plain | {"seed": 1}) != identity_of(plain)


def test_commits_of_one_group_and_quick_runs_are_no_matter(tmp_path: Path) -> None:
    write_study(tmp_path, "s", make_record(), scale="quick")
    assert main([results(tmp_path, record(0), record(1, SAME))]) == 0


def test_a_study_of_one_commit_that_nobody_listed_is_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = results(tmp_path, record(0, UNLISTED), record(1, UNLISTED))
    assert main([arguments]) == 0
    assert UNLISTED[:7] in capsys.readouterr().out
    (tmp_path / "code.yaml").unlink()
    assert main([arguments]) == 0


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (record(1, OTHER), "code that may give other results: aaaaaaa and ccccccc"),
        (record(1, UNLISTED), "code that may give other results: aaaaaaa and ddddddd"),
        (record(1) | {"identity": "0" * 12}, "its configuration's identity is "),
        (record(1, git={"commit": FIRST, "dirty": True}), "made with uncommitted changes to aaaaa"),
        (record(1, git={"commit": None, "dirty": None}), "was not made in a git checkout"),
        (record(1, versions={"torch": "2.12.0"}), "several versions of torch: 2.12.0, 2.13.0"),
    ],
)
def test_what_does_not_belong_together_is_named(
    second: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([results(tmp_path, record(0), second)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_two_commits_that_nobody_listed_are_not_taken_for_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([results(tmp_path, record(0, UNLISTED), record(1, ANOTHER))]) == 1
    assert "code that may give other results: ddddddd and eeeeeee" in capsys.readouterr().err


def test_commits_are_the_same_if_the_code_of_a_run_is(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
        process = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return process.stdout.strip()

    def commit(path: str) -> str:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
        git("add", "--all")
        git("commit", "--message", path)
        return git("rev-parse", "HEAD")

    git("init")
    commit("alphagrad/optimizer.py")
    listed = commit("experiments/train.py")
    study = commit("configs/study/own.yaml")
    changed = commit("experiments/agents/loss.py")
    text = commit("README.md")
    code = Code([[listed[:8]]], tmp_path)
    assert code[study] == code[listed]
    assert code[changed] == code[text] != code[listed]
    assert code[FIRST] != code[SAME]


def damage(change: Callable[[str], str | bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = change(path.read_text())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def reseal(path: Path) -> None:
    """Another configuration with a digest of its own, under the old identity."""
    content = json.loads(path.read_text())
    content["configuration"]["total_steps"] = 1001
    path.write_text(compact(sealed(content)))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (damage(lambda text: text.replace('"final_score":100.0', '"final_score":101.0')), "digest"),
        (damage(lambda text: text.replace('"digest"', '"was_digest"')), "digest = None"),
        (reseal, "identity is"),
        (damage(lambda text: text[:100]), "JSON"),
        (damage(lambda _: ""), "JSON"),
        (damage(lambda _: "[]"), "object"),
        (damage(lambda _: "\0"), "JSON"),
        (damage(lambda _: b"\xff"), "JSON"),
        (make_folder, "directory"),
    ],
)
def test_a_damaged_or_changed_record_is_named(
    harm: Callable[[Path], None],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = record(0), record(1)
    arguments = results(tmp_path, *records)
    path = next(tmp_path.glob(f"records/*{records[1]['identity']}.json"))
    harm(path)
    assert main([arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert says in lines[0]


def test_a_record_under_two_names_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = results(tmp_path, record(0), record(1))
    path = next(tmp_path.glob("records/*.json"))
    again = path.with_name(f"b-{path.name}")
    again.write_text(path.read_text())
    assert main([arguments]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"{again}: the same run as {path.name}"


def test_a_record_of_no_study_is_told_and_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = results(tmp_path, record(0))
    path = write_record(tmp_path, record(1))
    assert main([arguments]) == 0
    assert f"{path}: no study plans this run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "code",
    [
        "- - {commit: 12, reason: x}",
        "- - {commit: abcdef1}",
        "- - {commit: [",
        "no list",
        "\t- x",
        "${x}",
    ],
)
def test_a_broken_list_of_commits_is_a_mistake_told_in_a_line(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([results(tmp_path, record(0), code=code)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "code.yaml: " in line


def test_results_without_a_study_are_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"results={tmp_path}"]) == 2
    assert "no study in it has records" in capsys.readouterr().err


def fields(content: Any) -> set[str]:
    """The names of a JSON object's fields, and of those of its lists' objects."""
    if isinstance(content, list):
        return set().union(*map(fields, content))
    if not isinstance(content, dict):
        return set()
    return set(content).union(*(fields(value) for value in content.values()))


def test_every_field_of_a_manifest_and_of_a_record_is_described() -> None:
    text = (ROOT / "docs" / "records.md").read_text()
    manifest = json.loads((ROOT / "results" / "dqn" / "study.json").read_text())
    for task in manifest["tasks"]:  # by the names of families and arms
        task["chosen"] = [c | {"by": [*c["by"].values()]} for c in task["chosen"].values()]
    record = json.loads(next((ROOT / "results" / "records").glob("*.json")).read_text())
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", text))))
    assert fields(manifest) | set(record) <= words
