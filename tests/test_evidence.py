"""What a claim may name, and what it gets if it names nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.records import make_record, write_record, write_study

from scripts.checks.comparisons import Better
from scripts.evidence import ClaimError, Evidence, Group
from scripts.records import RecordError
from scripts.scores import TRAINING
from scripts.studies import Stage
from scripts.verdicts import Check, Verdict


def two_tasks(seeds: int = 8, stage: str = "confirm") -> list[dict[str, Any]]:
    """AlphaGrad is the better one on the first, Adam on the second."""
    first = 100 if stage == "confirm" else 0
    return [
        make_record(family, value, seed, score=score + seed, environment=environment, stage=stage)
        for environment, ours in (("Hill", 900), ("Lake", 10))
        for family, value, score in (("adam", 3e-4, 500), ("alphagrad", 3.0, ours))
        for seed in range(first, first + seeds)
    ]


def by_training(results: Path, **fields: Any) -> Check:
    rule = Better.model_validate({"rule": "better", "study": "s"} | fields)
    return next(c for c in rule.checks(Evidence(results)) if c.measure == TRAINING.title)


def test_a_rule_is_put_to_all_main_tasks_together_or_to_the_one_that_is_named(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, "s", *two_tasks())
    check = by_training(tmp_path)
    assert check.statement == ("Higher returns: AlphaGrad (alphagrad-alpha3) against Adam (adam)")
    assert [(number.name, number.value) for number in check.numbers[:3]] == [
        ("probability of improvement, average over tasks", 0.5),
        ("probability of improvement, S, Hill", 1),
        ("probability of improvement, S, Lake", 0),
    ]
    assert check.verdict is Verdict.NOT_REPRODUCED
    assert check.runs == {"s": 32}
    assert by_training(tmp_path, task="Hill").verdict is Verdict.REPRODUCED
    assert by_training(tmp_path, task="Lake").verdict is Verdict.NOT_REPRODUCED


def test_a_sensitivity_is_not_aggregated_but_may_be_named(tmp_path: Path) -> None:
    path = write_study(tmp_path, "s", *two_tasks()) / "study.json"
    manifest = json.loads(path.read_text())
    manifest["tasks"][1] |= {"role": "sensitivity", "sensitivity_of": "Hill"}
    path.write_text(json.dumps(manifest))
    assert by_training(tmp_path).verdict is Verdict.REPRODUCED
    assert by_training(tmp_path, task="Lake").verdict is Verdict.NOT_REPRODUCED


def test_a_task_without_the_family_is_left_out(tmp_path: Path) -> None:
    records = [*two_tasks()[:16], *two_tasks()[16:24]]
    write_study(tmp_path, "s", *records)
    assert by_training(tmp_path).runs == {"s": 16}


def test_no_verdict_before_the_plan_is_complete(tmp_path: Path) -> None:
    records = two_tasks()
    write_study(tmp_path, "s", *records, *two_tasks(3, "tune"))
    for record in (records[2], *records[16:24]):
        next(tmp_path.glob(f"records/*{record['identity']}.json")).unlink()
    check = by_training(tmp_path)
    assert check.verdict is Verdict.INCOMPLETE
    assert check.exploratory
    assert check.runs == {"s": 12}  # the tuning runs
    assert check.progress.text == "23 of 32 runs"
    assert check.change == (
        "The runs that are planned: adam on Hill of s, seeds 102; adam on Lake of s, all."
    )


def test_what_is_not_chosen_yet_is_counted(tmp_path: Path) -> None:
    path = write_study(tmp_path, "s", *two_tasks(3, "tune")) / "study.json"
    manifest = json.loads(path.read_text())
    for task in manifest["tasks"]:
        task["seeds"]["confirm"] = 20
    path.write_text(json.dumps(manifest))
    check = by_training(tmp_path)
    assert check.progress.text == "0 of 80 runs"
    assert "AlphaGrad's choice" in check.change
    assert check.numbers[1].value == 1  # on the first task, by the tuning runs


def test_sides_are_the_studys_subject_and_baseline_unless_named(tmp_path: Path) -> None:
    records = [*two_tasks()[:16]]
    records += [make_record("adam", 1e-3, 100, stage="confirm", environment="Hill", score=7)]
    write_study(tmp_path, "s", *records)
    (task,) = Evidence(tmp_path).tasks("s", None)
    assert [task.confirmed(side, None)[1] for side in ("subject", "against")] == [3, 3e-4]
    tuned, default = Group(family="adam"), Group(family="adam", at="default")
    assert [task.confirmed("against", group)[1] for group in (tuned, default)] == [1e-3, 3e-4]
    adam = task.family("against", None)
    assert task.progress(adam, 1e-3, Stage.confirm).text == "1 of 1 runs"


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (Group(family="adan"), "subject.family = 'adan': should be one of study s's, adam, alpha"),
        (Group(family="alphagrad", at="default"), "subject.at = 'default': alphagrad has none"),
    ],
)
def test_what_the_study_does_not_plan_is_named(tmp_path: Path, group: Group, says: str) -> None:
    write_study(tmp_path, "s", *two_tasks()[:16])
    (task,) = Evidence(tmp_path).tasks("s", None)
    with pytest.raises(ClaimError) as error:
        task.confirmed("subject", group)
    assert says in str(error.value)


def test_a_task_that_the_study_does_not_have_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *two_tasks())
    with pytest.raises(ClaimError, match="task = 'Sea': should be one of study s's, Hill, Lake"):
        Evidence(tmp_path).tasks("s", "Sea")


def test_a_study_that_was_never_planned_is_incomplete(tmp_path: Path) -> None:
    (check,) = Better(rule="better", study="s").checks(Evidence(tmp_path))
    assert (check.verdict, check.runs) == (Verdict.INCOMPLETE, {})
    assert check.change == "A plan: there is none of both in study s."


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    records = two_tasks()
    write_study(tmp_path, "s", *records)
    write_record(tmp_path, records[0]).write_text("[]")
    with pytest.raises(RecordError, match=r"records/a-run-\w+\.json: "):
        Evidence(tmp_path).tasks("s", None)
