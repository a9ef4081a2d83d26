"""Verdicts for each pair of a study's families, over an invented study."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.records import make_family, make_record, write_study

from scripts.evidence import Evidence
from scripts.figures.plot import PAGES
from scripts.pairs import Answer, judge_pairs
from scripts.report import WORDS, write_report, write_study_report

FAMILIES = {
    "bicycle": make_family("Bicycle <old>", "algorithm.learning_rate", "lr", 0.1),
    "canoe": make_family("Canoe | red", "optimizer.paddles", "p"),
    "ski": make_family("Ski", "optimizer.wax", "w"),
}
VALUES = {"bicycle": 0.1, "canoe": 2.0, "ski": 5.0}
Scores = dict[str, float]


def write_trip(
    results: Path,
    scores: Scores,
    evaluated: Scores | None = None,
    seeds: int = 20,
    missing: int = 0,
    environments: tuple[str, ...] = ("Road-v0", "River-v1"),
) -> None:
    """Write a study in which runs of a family score about what is given.

    Args:
        results: The folder of the results.
        scores: Training returns by family; the seeds' range over 20 from there on.
        evaluated: Evaluation returns; by default the same.
        seeds: To confirm.
        missing: How many of the last records are not there.
        environments: The tasks.
    """

    def noise(seed: int) -> float:
        return 20 * (seed * 7 % max(seeds, 1)) / max(seeds, 1)

    records = [
        make_record(
            family,
            VALUES[family],
            seed,
            returns=[0.0, 0.0, 0.0, score + noise(seed + index)],
            evaluated=[0.0, (evaluated or scores)[family] + noise(seed)],
            environment=environment,
            tuned=FAMILIES[family]["tuned"],
            stage=stage,
        )
        for environment in environments
        for index, (family, score) in enumerate(scores.items())
        for stage, numbers in (("tune", range(2)), ("confirm", range(100, 100 + seeds)))
        for seed in numbers
    ]
    fields: dict[str, Any] = {"baseline": "bicycle", "subject": "canoe"}
    write_study(results, "trip", *records, families=FAMILIES, **fields)
    for record in records[len(records) - missing :]:
        [path] = (results / "records").glob(f"*-{record['identity']}.json")
        path.unlink()


def answers(results: Path) -> dict[tuple[str, str], Answer]:
    pairs = judge_pairs(Evidence(results), "trip")
    return {(pair.x.split()[0], pair.y.split()[0]): pair.answer for pair in pairs}


def test_each_pair_gets_its_answer(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 150, "ski": 100})
    assert answers(tmp_path) == {
        ("Canoe", "Bicycle"): Answer.BETTER,
        ("Ski", "Bicycle"): Answer.AS_GOOD,
        ("Ski", "Canoe"): Answer.WORSE,
    }


def test_few_seeds_decide_nothing(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 150}, seeds=4)
    assert answers(tmp_path) == {("Canoe", "Bicycle"): Answer.UNDECIDED}


def test_a_difference_within_the_noise_of_some_seeds_is_undecided(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 104}, seeds=6, environments=("Road-v0",))
    [pair] = judge_pairs(Evidence(tmp_path), "trip")
    assert pair.answer is Answer.UNDECIDED
    assert all("seeds of every arm" in found.change for found in pair.comparisons.values())


def test_measures_that_disagree_are_told(tmp_path: Path) -> None:
    scores = {"bicycle": 100.0, "canoe": 150.0}
    write_trip(tmp_path, scores, {"bicycle": 150.0, "canoe": 100.0})
    [pair] = judge_pairs(Evidence(tmp_path), "trip")
    assert pair.answer is Answer.DEPENDS
    assert pair.text == (
        "depends on the measure (training return: better, evaluation return: worse)"
    )


def test_there_is_no_verdict_before_all_runs_are_there(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 150}, seeds=8, missing=1)
    [pair] = judge_pairs(Evidence(tmp_path), "trip")
    assert pair.answer is Answer.INCOMPLETE
    assert pair.text == "incomplete (31 of 32 runs)"


def test_a_study_without_confirm_runs_says_so(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 150}, seeds=0)
    [pair] = judge_pairs(Evidence(tmp_path), "trip")
    assert pair.text == "incomplete (no confirm runs are planned)"


def test_a_decision_has_to_outlast_the_number_of_pairs(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 108}, seeds=8, environments=("Road-v0",))
    [alone] = judge_pairs(Evidence(tmp_path), "trip")
    [found, *_] = alone.comparisons.values()
    answer, p_value = found.decision
    assert answer is found.answer is Answer.BETTER
    assert 0.05 / 3 < p_value < 0.05
    both = {"bicycle": 100.0, "canoe": 108.0, "ski": 104.0}
    write_trip(tmp_path / "three", both, seeds=8, environments=("Road-v0",))
    three = judge_pairs(Evidence(tmp_path / "three"), "trip")
    [found, *_] = three[0].comparisons.values()
    assert found.decision == (Answer.BETTER, p_value)
    assert found.answer is Answer.UNDECIDED
    assert "among so many pairs" in found.change


def test_families_that_no_task_has_both_are_no_pair(tmp_path: Path) -> None:
    write_trip(tmp_path, {"bicycle": 100, "canoe": 150}, seeds=5)
    path = tmp_path / "trip" / "study.json"
    manifest = json.loads(path.read_text())
    for task, family in zip(manifest["tasks"], ("bicycle", "canoe"), strict=True):
        task["families"] = [family]
    path.write_text(json.dumps(manifest))
    assert judge_pairs(Evidence(tmp_path), "trip") == []


def test_a_study_of_ones_own_has_a_page(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_trip(results, {"bicycle": 100, "canoe": 150, "ski": 100}, environments=("Road-v0",))
    folder = results / "trip"
    paths = write_study_report(results, "trip", PAGES)
    assert paths == [folder / "VERDICTS.md", folder / "report.html"]
    text = (folder / "VERDICTS.md").read_text()
    assert "| Canoe \\| red beside Bicycle &lt;old> | **better** | 1 [0." in text
    assert "| Ski beside Bicycle &lt;old> | **as good within the margin** | 0." in text
    assert (folder / "table.md").exists()
    assert (folder / "figures" / "Road-v0" / "learning_curves.png").exists()
    page = (folder / "report.html").read_text()
    assert 'Canoe | red beside Bicycle &lt;old&gt;: <b class="verdict better">better</b>' in page
    assert "README.md" not in page
    assert not (results / "report.html").exists()


@pytest.mark.parametrize("study", ["trip", "journey"])
def test_the_report_has_pairs_of_studies_without_claims(tmp_path: Path, study: str) -> None:
    results = tmp_path / "results"
    write_trip(results, {"bicycle": 100, "canoe": 150}, seeds=8, environments=("Road-v0",))
    check = f"{{rule: better, study: {study}}}"
    claim = f"far: {{source: ours, text: How far, checks: [{check}]}}"
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "far.yaml").write_text(claim)
    write_report(results, tmp_path / "claims", WORDS, PAGES)
    own = study != "trip"
    assert (results / "trip" / "VERDICTS.md").exists() == own
    assert ("**better** |" in (results / "README.md").read_text()) == own
    assert ('<b class="verdict better">' in (results / "report.html").read_text()) == own
