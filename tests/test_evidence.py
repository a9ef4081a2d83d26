"""What a claim may name, and what it gets if it names nothing."""

from pathlib import Path
from typing import Any

import pytest
from support.records import make_record, write_record, write_study

from scripts.checks.comparisons import Better
from scripts.evidence import ClaimError, Evidence, Group
from scripts.records import RecordError
from scripts.verdicts import Verdict


def two_tasks() -> list[dict[str, Any]]:
    """AlphaGrad is the better one on the first, Adam on the second."""
    return [
        make_record(family, value, seed, score=score + seed, environment=environment)
        for environment, ours in (("Hill", 90), ("Lake", 10))
        for family, value, score in (("adam", 3e-4, 50), ("alphagrad", 3.0, ours))
        for seed in range(6)
    ]


def test_without_a_task_a_rule_is_put_to_each(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *two_tasks())
    hill, lake = Better(rule="better", study="s").checks(Evidence(tmp_path))
    assert (hill.verdict, lake.verdict) == (Verdict.REPRODUCED, Verdict.NOT_REPRODUCED)
    assert hill.statement.startswith("S, Hill: Higher final scores: AlphaGrad (alphagrad-alpha3)")
    assert lake.runs == {"s, Lake": 12}
    (only,) = Better(rule="better", study="s", task="Lake").checks(Evidence(tmp_path))
    assert (only.verdict, only.runs) == (lake.verdict, lake.runs)


def test_a_planned_task_without_runs_waits_for_them(tmp_path: Path) -> None:
    records = two_tasks()
    write_study(tmp_path, "s", *records)
    for record in records[:12]:
        next(tmp_path.glob(f"records/*{record['identity']}.json")).unlink()
    hill, lake = Better(rule="better", study="s").checks(Evidence(tmp_path))
    assert hill.change == "More runs: AlphaGrad has runs at 0 of 1 settings in s, Hill."
    assert lake.verdict is Verdict.NOT_REPRODUCED


def test_sides_are_the_studys_subject_and_baseline_unless_named(tmp_path: Path) -> None:
    records = [*two_tasks()[:12], make_record("adam", 1e-3, environment="Hill")]
    write_study(tmp_path, "s", *records)
    (task,) = Evidence(tmp_path).tasks("s", None)
    assert (task.subject(None).name, task.subject(None).values) == ("AlphaGrad", [3])
    assert (task.rival(None).name, task.rival(None).values) == ("Adam", [3e-4])
    assert task.rival(Group(family="adam")).values == [3e-4, 1e-3]
    assert task.rival(Group(family="adam", values=[1e-3])).values == [1e-3]


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (Group(family="adan"), "subject.family = 'adan': should be one of study s's, adam, alpha"),
        (Group(family="adam", values=[3e-4, 1]), "subject.values = 1: should be one of adam's in "),
    ],
)
def test_what_the_study_does_not_plan_is_named(tmp_path: Path, group: Group, says: str) -> None:
    write_study(tmp_path, "s", *two_tasks()[:12])
    (task,) = Evidence(tmp_path).tasks("s", None)
    with pytest.raises(ClaimError) as error:
        task.subject(group)
    assert says in str(error.value)


def test_a_task_that_the_study_does_not_have_is_named(tmp_path: Path) -> None:
    write_study(tmp_path, "s", *two_tasks())
    with pytest.raises(ClaimError, match="task = 'Sea': should be one of study s's, Hill, Lake"):
        Evidence(tmp_path).tasks("s", "Sea")


def test_a_run_without_an_episode_lacks_a_score(tmp_path: Path) -> None:
    records = two_tasks()[:12]
    for record in records:
        record["final_score"] = None
        record["curve"]["return_mean"] = [None] * 4
    write_study(tmp_path, "s", *records)
    (check,) = Better(rule="better", study="s").checks(Evidence(tmp_path))
    assert check.change == "More runs: no episode has ended in s."


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    records = two_tasks()
    write_study(tmp_path, "s", *records)
    write_record(tmp_path, records[0]).write_text("[]")
    with pytest.raises(RecordError, match=r"records/a-run-\w+\.json: "):
        Evidence(tmp_path).tasks("s", None)
