import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from record_fixtures import make_record, write_records
from test_checks import sweep

from scripts.claims import main

ROOT = Path(__file__).parents[1]


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def answers(results: Path) -> dict[str, str]:
    text = (results / "claims.json").read_text()
    found: Any = json.loads(text, parse_constant=no_constant)
    return {claim["id"]: claim["verdict"] for claim in found["claims"]}


@pytest.mark.parametrize(
    ("score", "paper", "ours"), [(200, "reproduced", "yes"), (50, "not reproduced", "no")]
)
def test_ppo_is_decided_both_ways(tmp_path: Path, score: float, paper: str, ours: str) -> None:
    write_records(tmp_path / "ppo", *sweep(score))
    rivals = [f"adam-lr{rate}" for rate in (0.01, 0.003, 0.001, 0.0001, 0.00003)]
    fair = [make_record(arm, seed, score=100.0 + seed) for arm in rivals for seed in range(6)]
    write_records(tmp_path / "ppo_fair", *sweep(score), *fair)
    assert main([f"results={tmp_path}"]) == 0
    found = answers(tmp_path)
    assert (found["ppo"], found["ppo-tuned-adam"]) == (paper, ours)
    assert found["dqn"] == "undecided"
    first = [(tmp_path / name).read_bytes() for name in ("CLAIMS.md", "claims.json")]
    assert main([f"results={tmp_path}"]) == 0
    assert first == [(tmp_path / name).read_bytes() for name in ("CLAIMS.md", "claims.json")]


def test_a_broken_record_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(tmp_path / "ppo", make_record() | {"seed": -1})
    assert main([f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "seed" in error
    assert not (tmp_path / "claims.json").exists()


def test_the_committed_results_are_judged(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for source in (*(ROOT / "results").glob("*/records"), ROOT / "results" / "theory"):
        shutil.copytree(source, results / source.relative_to(ROOT / "results"))
    assert main([f"results={results}"]) == 0
    assert answers(results)["theory"] == "reproduced"
    assert all(f"## {claim}\n" in (results / "CLAIMS.md").read_text() for claim in answers(results))


def test_a_gain_over_an_adam_that_learned_nothing_is_valid_json(tmp_path: Path) -> None:
    records = sweep(200.0)
    for record in records:
        if record["arm"] == "adam":
            record["final_score"] = record["curve"]["return_mean"][0]  # untrained
    write_records(tmp_path / "ppo", *records)
    assert main([f"results={tmp_path}"]) == 0
    assert answers(tmp_path)["ppo"] == "reproduced"
