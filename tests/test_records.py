import json
from pathlib import Path
from typing import Any

import pytest
from support.records import make_record

from scripts.records import Record, RecordError, read_json


def change(record: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split(".")
    inner = record
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return record


def test_a_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(make_record(seed=4, diverged_at=300)))
    record = read_json(path, Record)
    assert (record.seed, record.steps, record.diverged) == (4, 300, True)


def test_labels_and_seed_are_no_settings() -> None:
    first = make_record(seed=1, protocol="once")
    second = change(make_record(seed=2, protocol="now"), "configuration.device", "cuda")
    settings = [
        Record.model_validate_json(json.dumps(record)).configuration.setting()
        for record in (first, second)
    ]
    assert settings[0] == settings[1]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 2, "schema_version: Input should be 1"),
        ("status", "failed", "status: Input should be 'completed' or 'diverged'"),
        ("final_score", "12", "final_score: Input should be a valid number"),
        ("final_score", float("nan"), "final_score: Input should be a finite number"),
        ("configuration.environment", {}, "configuration.environment.id: Field required"),
        ("curve.return_mean", [1.0], "curve: Value error, 4 values of step, but 1 of return_mean"),
        ("curve.episodes", [1, 0, 1, 1], "curve: Value error, return_mean is null where"),
        ("evaluation.step", [1], "evaluation: Value error, 1 values of step, but 4 of returns"),
        ("evaluation.returns", [[]], "evaluation.returns.0: Tuple should have at least 1 item"),
    ],
)
def test_a_bad_record_is_one_line_that_names_the_file(
    tmp_path: Path, path: str, value: object, message: str
) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(change(make_record(), path, value)))
    with pytest.raises(RecordError) as error:
        read_json(file, Record)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\0\0", b'{"schema_version": 1', b"\xff\xfe"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "torn.json"
    file.write_bytes(content)
    with pytest.raises(RecordError, match=r"torn\.json: .+$") as error:
        read_json(file, Record)
    assert "\n" not in str(error.value)


def test_a_folder_in_place_of_a_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(RecordError, match=r"folder\.json: Is a directory$"):
        read_json(tmp_path / "folder.json", Record)
