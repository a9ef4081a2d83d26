import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.records import make_convergence

from scripts import claims
from scripts.convergence import load_convergence
from scripts.figures import __main__ as draw

ROOT = Path(__file__).parents[1]
NAN = float("nan")


def write_convergence(results: Path, *records: dict[str, Any]) -> Path:
    (results / "convergence").mkdir()
    for number, record in enumerate(records):
        (results / "convergence" / f"{number}.json").write_text(json.dumps(record))
    return results


def test_the_newest_is_last(tmp_path: Path) -> None:
    older, newer = make_convergence(alpha=1.0), make_convergence(alpha=2.0)
    newer["provenance"]["finished"] = "2026-01-01"
    found = load_convergence(write_convergence(tmp_path, newer, older))
    assert [record.series[0].alpha for record in found] == [1, 2]
    assert load_convergence(tmp_path / "elsewhere") == []


def test_the_committed_record_can_be_read() -> None:
    [record] = load_convergence(ROOT / "results")
    assert sum(len(row.cases) for row in record.series) == record.summary.cases


@pytest.mark.parametrize("main", [claims.main, draw.main])
@pytest.mark.parametrize(
    ("series", "message"),
    [
        (
            {"bound": [1.0, 1.0]},
            "steps, min_gradient_norm, bound and bound_with_n differ in length",
        ),
        (
            {"min_gradient_norm": []},
            "steps, min_gradient_norm, bound and bound_with_n differ in length",
        ),
        ({"bound": [NAN]}, "series.0.bound.0: Input should be a finite number"),
        ({"min_gradient_norm": [NAN]}, "series.0.min_gradient_norm.0: Input should be"),
        ({"bound": [0.0]}, "series.0.bound.0: Input should be greater than 0"),
        ({"alpha": "0.1"}, "series.0.alpha: Input should be a valid number"),
        (
            {"steps": [], "bound": [], "bound_with_n": [], "min_gradient_norm": []},
            "series.0.steps: ",
        ),
    ],
)
def test_a_bad_record_is_one_line_and_exit_code_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    series: dict[str, Any],
    message: str,
) -> None:
    results = write_convergence(tmp_path, make_convergence(**series))
    study = ["study=convergence"] * (main is draw.main)
    assert main([*study, f"results={results}"]) == 2
    error = capsys.readouterr().err
    assert f"{results}/convergence/0.json: " in error
    assert message in error
    assert error.count("\n") == 1
