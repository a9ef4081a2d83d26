import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from record_fixtures import make_record, write_records

from scripts.records import load_study
from scripts.tables import HEADINGS, format_rows, main, summarize, to_markdown

ROOT = Path(__file__).parents[1]


def small_study(folder: Path) -> Path:
    return write_records(
        folder,
        *(make_record("adam", seed, score=score) for seed, score in enumerate([1000, 1500, 2600])),
        make_record("alphagrad-alpha3", 0, score=12.25, returns=[1, 2, 3, 4]),
        make_record(
            "alphagrad-alpha3", 1, score=14.25, returns=[3, 4, None, None], diverged_at=500
        ),
    )


def test_table_holds_the_values_made_by_hand(tmp_path: Path) -> None:
    summary = summarize(load_study(small_study(tmp_path / "ppo"))).set_index("arm")
    adam, alphagrad = summary.loc["adam"], summary.loc["alphagrad-alpha3"]
    # 1/27 of the resamples of three seeds lies at each end, so the interval is the range.
    assert list(adam[["final_score_mean", "final_score_mean_low", "final_score_mean_high"]]) == [
        1700,
        1000,
        2600,
    ]
    assert adam.final_score_iqm == 1700
    assert adam.area_under_curve_iqm == (10 + 50 + 90 + 100) / 4
    assert (adam.seeds, adam.state_bytes, adam.diverged, adam.steps_per_second) == (3, 8000, 0, 501)
    assert alphagrad.final_score_mean == 13.25
    assert alphagrad.area_under_curve_iqm == (2.5 + 3.75) / 2
    assert alphagrad[["final_score_mean_low", "area_under_curve_iqm_high"]].isna().all()
    assert (alphagrad.seeds, alphagrad.state_bytes, alphagrad.diverged) == (2, 4000, 1)


def test_markdown_tells_how_it_was_made(tmp_path: Path) -> None:
    dirty = make_record("sgd|<b>", score=None, returns=[None] * 4)
    dirty["provenance"]["git"]["dirty"] = True
    dirty["provenance"]["versions"]["torch"] = "2.12.0"
    study = load_study(write_records(small_study(tmp_path / "ppo"), dirty))
    assert format_rows(summarize(study))[:2] == [
        ["adam", "3", *["1,700 [1,000, 2,600]"] * 2, "62.5 [62.5, 62.5]", "8,000", "0", "501"],
        ["alphagrad-alpha3", "2", "13.2 [-]", "13.2 [-]", "3.1 [-]", "4,000", "1", "500"],
    ]
    text = to_markdown(study, summarize(study))
    for expected in (
        f"| {' | '.join(HEADINGS.values())} |",
        r"| sgd\|&lt;b> | 1 |",
        "`python -m scripts.tables study=ppo` from 6 runs, seeds 0, 1, 2.",
        "ppo_cleanrl: HalfCheetah-v4, 1,000 steps, paper scale.",
        "95% stratified bootstrap percentile intervals, 10,000 resamples",
        "[-]: fewer than 3 seeds",
        "Diverged runs: 1.",
        "Runs in which no episode ended: 1. They count with the lowest value that any curve of the "
        "study has: 1.0.",
        "Code: 6eed2d6 or 6eed2d6 with uncommitted changes.",
        "python 3.11.2, torch 2.12.0 or 2.13.0; on A CPU.",
    ):
        assert expected in text
    assert "Quick" not in text


def test_all_studies_of_both_scales_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [small_study(tmp_path / "ppo"), small_study(tmp_path / "ppo-quick")]
    (tmp_path / "dqn" / "records").mkdir(parents=True)
    assert main([f"results={tmp_path}"]) == 0
    output = capsys.readouterr().out
    files = [folder / name for folder in folders for name in ("table.csv", "table.md")]
    assert sorted(tmp_path.rglob("table.*")) == files
    assert all(str(file) in output for file in files)
    assert output.count("1,700 [1,000, 2,600]") == 4
    assert "Quick scale: 1,000 steps, 5 runs. This is not evidence." in output
    quick = (tmp_path / "ppo-quick" / "table.md").read_text()
    assert "Quick scale: 1,000 steps, 5 runs. This is not evidence." in quick
    assert "study=ppo scale=quick`" in quick
    with (tmp_path / "ppo" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["scale"], row["arm"], float(row["final_score_mean"])) for row in rows] == [
        ("paper", "adam", 1700),
        ("paper", "alphagrad-alpha3", 13.25),
    ]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [(["scale=quick"], "ppo-quick"), (["study=ppo"], "ppo"), (["study=ppo", "scale=paper"], "ppo")],
)
def test_the_arguments_choose_the_studies(
    tmp_path: Path, arguments: list[str], written: str
) -> None:
    for folder in ("ppo", "ppo-quick"):
        write_records(tmp_path / folder, make_record())
    assert main([*arguments, f"results={tmp_path}"]) == 0
    assert {path.parent.name for path in tmp_path.rglob("table.*")} == {written}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=ppo", "studdy=ppo"], "Key 'studdy' not in"),
        (["study=ppo", "scale=big"], "Invalid value 'big', expected one of [paper, quick]"),
        (["study=[ppo"], "while parsing"),
        (["study=ppo"], "no records in"),
        ([], "no study in"),
        (["study=td3", "scale=quick"], "torn.json: Invalid JSON"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if "study=td3" in arguments:
        (tmp_path / "td3-quick" / "records").mkdir(parents=True)
        (tmp_path / "td3-quick" / "records" / "torn.json").write_text("{")
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tables: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("module", ["tables", "figures.__main__", "report"])
def test_the_commands_need_no_torch(module: str) -> None:
    code = (
        f"import sys, scripts.{module}; "
        "assert not {'torch', 'stable_baselines3', 'gymnasium', 'experiments'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
