import json
from pathlib import Path
from typing import Any

import pytest
from record_fixtures import make_record, write_records

from scripts.records import RecordError, alpha_of, family_of, load_study


def test_arms_come_in_order_and_seeds_within_them(tmp_path: Path) -> None:
    arms = [
        "adam-lr1e-05",
        "adam",
        "adam-lr0.001",
        "alphagrad-alpha3",
        "alphagrad-alpha30",
        "alphagrad-stateless-alpha0.1",
        "alphagrad-stateless-alpha1",
        "sgd-lr9",
        "sgd-lr10",
    ]
    records = [make_record(arm, seed) for arm in arms[::-1] for seed in (10, 2)]
    study = load_study(write_records(tmp_path / "ppo", *records))
    assert list(study.arms) == arms
    assert [record.seed for record in study.arms["adam"]] == [2, 10]
    assert len(study.records) == 18


@pytest.mark.parametrize(
    ("folder", "name", "quick"), [("ppo", "ppo", False), ("a-quick", "a", True)]
)
def test_scale_is_read_from_the_folder(tmp_path: Path, folder: str, name: str, quick: bool) -> None:
    study = load_study(write_records(tmp_path / folder, make_record()))
    assert (study.name, study.quick) == (name, quick)
    assert study.configuration.total_steps == 1000


@pytest.mark.parametrize(
    ("arm", "family", "alpha"),
    [
        ("alphagrad-alpha10", "alphagrad", 10.0),
        ("alphagrad-alpha0.5", "alphagrad", 0.5),
        ("alphagrad-alpha1e-05", "alphagrad", 1e-5),
        ("alphagrad-alpha10-stateless", "alphagrad-alpha10-stateless", None),
        ("alphagrad-stateless-alpha10", "alphagrad-stateless", None),
        ("sign_sgd-lr3e-05", "sign_sgd", None),
        ("adam", "adam", None),
    ],
)
def test_a_label_names_the_family_and_only_the_sweeps_have_an_alpha(
    arm: str, family: str, alpha: float | None
) -> None:
    assert (family_of(arm), alpha_of(arm)) == (family, alpha)


def change(record: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split(".")
    inner = record
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema_version", 2, "schema_version: Input should be 1"),
        ("status", "failed", "status: Input should be 'completed' or 'diverged'"),
        ("final_score", "12", "final_score: Input should be a valid number"),
        ("final_score", float("nan"), "final_score: Input should be a finite number"),
        ("configuration.environment", {}, "configuration.environment.id: Field required"),
        ("curve.return_mean", [1.0], "curve: Value error, 4 values of step, but 1 of return_mean"),
        ("configuration.total_steps", 99, "total_steps is 99, but 1000 in "),
        ("configuration.protocol", "dqn", "protocol is dqn, but ppo_cleanrl in "),
        ("curve.step", [1, 2, 3, 4], "curve.step differs from that in "),
        ("configuration.optimizer.eps", 1e-8, "optimizer of arm adam differs from "),
        ("seed", 0, "arm adam, seed 0 is already in "),
    ],
)
def test_a_bad_record_is_one_line_that_names_it(
    tmp_path: Path, path: str, value: object, message: str
) -> None:
    bad = change(make_record(seed=1), path, value)
    folder = write_records(tmp_path / "ppo", make_record(seed=0), bad)
    with pytest.raises(RecordError) as error:
        load_study(folder)
    culprit = max((folder / "records").iterdir(), key=lambda file: file.name.split("-")[-1])
    assert str(error.value).startswith(f"{culprit}: {message}")
    assert "\n" not in str(error.value)


def test_device_may_differ_within_an_arm(tmp_path: Path) -> None:
    other = change(make_record(seed=1), "configuration.device", "cuda")
    assert load_study(write_records(tmp_path / "ppo", make_record(seed=0), other)).records


def test_a_torn_file_is_one_line(tmp_path: Path) -> None:
    folder = write_records(tmp_path / "ppo", make_record())
    torn = folder / "records" / "torn.json"
    torn.write_text(json.dumps(make_record(seed=1))[:100])
    with pytest.raises(RecordError, match=r"torn\.json: Invalid JSON: .*$"):
        load_study(folder)


def test_no_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^no records in .*ppo.records$"):
        load_study(tmp_path / "ppo")
