import json
from pathlib import Path
from typing import Any

import pytest
from support.records import make_record, write_record, write_study

from scripts.records import RecordError
from scripts.studies import Scale, Stage, load_study, study_names

ARMS = [
    ("adam", 1e-5),
    ("adam", 3e-4),
    ("adam", 1e-3),
    ("alphagrad", 3.0),
    ("alphagrad", 30.0),
    ("sgd", 9.0),
]


def test_arms_come_as_the_manifest_has_them_and_seeds_in_order(tmp_path: Path) -> None:
    records = [make_record(*arm, seed) for arm in ARMS for seed in (10, 2)]
    write_study(tmp_path, "ppo", *records)
    study = load_study(tmp_path, "ppo")
    assert [(arm.family.name, arm.value) for arm in study.arms] == ARMS
    assert {tuple(record.seed for record in arm.records) for arm in study.arms} == {(2, 10)}
    assert len(study.records) == 12
    assert [arm.name for arm in study.arms if arm.is_baseline] == ["adam"]
    assert [arm.value for arm in study.arms if arm.is_subject] == [3, 30]
    assert {arm.stage for arm in study.arms} == {Stage.tune}


def test_an_arm_of_both_stages_is_there_twice(tmp_path: Path) -> None:
    records = [make_record("alphagrad", 3, seed) for seed in (0, 1)]
    records += [make_record("alphagrad", 3, seed, stage="confirm") for seed in (100, 101, 102)]
    records[3]["configuration"]["evaluation"] = {"episodes": 10}  # confirm runs evaluate more
    records[2]["configuration"]["evaluation"] = {"episodes": 10}
    records[4]["configuration"]["evaluation"] = {"episodes": 10}
    write_study(tmp_path, "ppo", *records)
    study = load_study(tmp_path, "ppo")
    assert [(arm.stage, len(arm.records)) for arm in study.arms] == [("tune", 2), ("confirm", 3)]
    (task,) = study.tasks
    assert [arm.stage for arm in study.arms_of(task, Stage.confirm)] == ["confirm"]
    assert len(study.arms_of(task)) == 2


def test_a_sensitivity_takes_the_choices_of_its_main_task_and_the_default(tmp_path: Path) -> None:
    records = [make_record("adam", 1e-3, 100, stage="confirm", environment="A")]
    records += [make_record("alphagrad", 3, 100, stage="confirm", environment="A")]
    records += [make_record("adam", 3e-4, environment="B")]
    path = write_study(tmp_path, "ppo", *records) / "study.json"
    manifest = json.loads(path.read_text())
    manifest["tasks"][1] |= {"role": "sensitivity", "sensitivity_of": "A"}
    path.write_text(json.dumps(manifest))
    found = load_study(tmp_path, "ppo").manifest
    main, other = found.tasks
    adam, alphagrad = found.families
    assert [found.choice(main, family) for family in (adam, alphagrad)] == [1e-3, 3]
    assert [found.choice(other, family) for family in (adam, alphagrad)] == [3e-4, 3]
    manifest["tasks"][1]["sensitivity_of"] = "C"
    path.write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match=r"Value error, task B: no task C$"):
        load_study(tmp_path, "ppo")


def test_what_has_no_record_yet_is_left_out(tmp_path: Path) -> None:
    records = [make_record(seed=seed, environment=name) for seed in (0, 1) for name in ("A", "B")]
    records.append(make_record("sgd", 1.0, environment="B"))
    folder = write_study(tmp_path, "ppo", *records)
    for record in records[1:]:
        (tmp_path / "records" / f"a-run-{record['identity']}.json").unlink()
    study = load_study(tmp_path, "ppo")
    assert [task.name for task in study.tasks] == ["A"]
    assert [(arm.name, len(arm.records)) for arm in study.arms] == [("adam", 1)]
    (tmp_path / "records" / f"a-run-{records[0]['identity']}.json").unlink()
    with pytest.raises(RecordError, match=r"^.*study\.json: no records of its runs yet$"):
        load_study(tmp_path, "ppo")
    assert study_names(tmp_path) == []
    assert folder.exists()


def test_quick_scale_lies_below_and_records_may_be_shared(tmp_path: Path) -> None:
    write_study(tmp_path, "one", make_record())
    write_study(tmp_path, "two", make_record(), make_record("sgd", 1.0))
    write_study(tmp_path, "one", make_record(seed=7), scale="quick")
    assert study_names(tmp_path) == ["one", "two"]
    assert study_names(tmp_path, Scale.quick) == ["one"]
    assert not load_study(tmp_path, "one").quick
    quick = load_study(tmp_path, "one", Scale.quick)
    assert (quick.name, quick.quick, quick.records[0].seed) == ("one", True, 7)
    assert quick.folder == tmp_path / "quick" / "one"
    assert load_study(tmp_path, "two").records[0] == load_study(tmp_path, "one").records[0]


def test_tasks_are_consistent_each_for_itself(tmp_path: Path) -> None:
    short = make_record(environment="A", total_steps=500, returns=[1.0, 2.0])
    write_study(tmp_path, "ppo", short, make_record(environment="B"))
    study = load_study(tmp_path, "ppo")
    assert [task.total_steps for task in study.tasks] == [500, 1000]
    assert [[arm.task.name for arm in study.arms_of(task)] for task in study.tasks] == [
        ["A"],
        ["B"],
    ]


def edit(record: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    *parents, last = path.split(".")
    inner = record
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("identity", "0" * 12, f"identity is {'0' * 12}, but "),
        ("seed", 5, "seed is 5, but 1 in study.json"),
        ("configuration.environment.id", "Else-v0", "environment.id is Else-v0, but HalfCheetah"),
        ("configuration.environment.n_envs", 2, "environment differs from that in a-run-"),
        ("configuration.total_steps", 99, "total_steps is 99, but 1000 in study.json"),
        ("curve.step", [1, 2, 3, 4], "curve.step differs from that in a-run-"),
        ("configuration.optimizer.eps", 1e-8, "optimizer of arm adam differs from a-run-"),
        ("status", "failed", "status: Input should be"),
    ],
)
def test_a_record_that_does_not_belong_is_one_line_that_names_it(
    tmp_path: Path, path: str, value: object, message: str
) -> None:
    write_study(tmp_path, "ppo", make_record(seed=0), make_record(seed=1))
    bad = make_record(seed=1)
    file = tmp_path / "records" / f"a-run-{bad['identity']}.json"
    write_record(tmp_path, edit(bad, path, value)).rename(file)
    with pytest.raises(RecordError) as error:
        load_study(tmp_path, "ppo")
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema_version", 1, "schema_version: Input should be 2"),
        ("scale", "huge", "scale: Input should be 'paper' or 'quick'"),
        ("tasks", [], "tasks: Tuple should have at least 1 item"),
        ("families", None, "families: Input should be a valid"),
    ],
)
def test_a_bad_manifest_is_one_line_that_names_it(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    path = write_study(tmp_path, "ppo", make_record()) / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(RecordError) as error:
        load_study(tmp_path, "ppo")
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["tasks", "families", "arms"])
def test_a_manifest_that_names_something_twice_or_not_at_all_is_refused(
    tmp_path: Path, what: str
) -> None:
    path = write_study(tmp_path, "ppo", make_record()) / "study.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {what: manifest[what] * 2}))
    with pytest.raises(RecordError, match=r"study\.json: Value error, .* is there twice$"):
        load_study(tmp_path, "ppo")
    manifest["arms"][0]["family"] = "nobody"
    path.write_text(json.dumps(manifest))
    with pytest.raises(RecordError, match=r"Value error, arm adam: no task .* nobody$"):
        load_study(tmp_path, "ppo")


def test_a_study_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"^.*nope.study\.json: No such file or directory$"):
        load_study(tmp_path, "nope")
