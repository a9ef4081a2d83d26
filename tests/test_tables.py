import csv
from pathlib import Path
from typing import Any

import pytest
from support.records import make_family, make_record, write_study

from scripts.studies import load_study
from scripts.tables import main, summarize, to_markdown


def small_study(results: Path, *more: dict[str, Any], scale: str = "paper") -> Path:
    return write_study(
        results,
        "ppo",
        *(make_record(seed=seed, score=score) for seed, score in enumerate([1000, 1500, 2600])),
        make_record("alphagrad", 3.0, 0, returns=[1, 2, 3, 4]),
        make_record("alphagrad", 3.0, 1, returns=[3, 4, None, None], diverged_at=500),
        *more,
        scale=scale,
    )


def test_table_holds_the_values_made_by_hand(tmp_path: Path) -> None:
    small_study(tmp_path)
    summary = summarize(load_study(tmp_path, "ppo")).data.set_index("arm")
    adam, alphagrad = summary.loc["adam"], summary.loc["alphagrad-alpha3"]
    for measure in ("training", "evaluation"):
        # 1/27 of the resamples of three seeds lies at each end, so the interval is the range.
        columns = [f"{measure}_iqm{end}" for end in ("", "_low", "_high")]
        assert list(adam[columns]) == [1700, 1000, 2600]
        assert adam[f"{measure}_mean"] == 1700
        areas = [(150 + score) / 4 for score in (1000, 1500, 2600)]
        assert adam[f"{measure}_area_iqm"] == pytest.approx(sum(areas) / 3)
        assert adam[f"{measure}_drawdown_iqm"] == 0
        assert alphagrad[f"{measure}_drawdown_iqm"] == 1  # it failed, or learned next to nothing
        # The diverged run counts with the lowest that is known: run 0's score, below untrained.
        assert alphagrad[f"{measure}_mean"] == 4
    assert (adam.stage, adam.seeds, adam.state_bytes, adam.diverged) == ("tune", 3, 8000, 0)
    assert (adam.last_episodes_mean, adam.steps_per_second) == (1700, 501)
    assert alphagrad[["training_iqm_low", "evaluation_area_iqm_high"]].isna().all()
    assert (alphagrad.seeds, alphagrad.state_bytes, alphagrad.diverged) == (2, 4000, 1)


def test_the_stages_are_rows_of_their_own(tmp_path: Path) -> None:
    small_study(tmp_path, make_record(seed=100, stage="confirm", score=77))
    table = summarize(load_study(tmp_path, "ppo"))
    assert [(row[0], row[1], row[2]) for row in table.texts] == [
        ("adam", "tune", "3"),
        ("alphagrad-alpha3", "tune", "2"),
        ("adam", "confirm", "1"),
    ]
    assert table.texts[2][3] == "77.0 [-]"


def test_where_all_resamples_agree_there_is_no_interval(tmp_path: Path) -> None:
    write_study(tmp_path, "ppo", *(make_record(seed=seed, score=500) for seed in range(5)))
    table = summarize(load_study(tmp_path, "ppo"))
    assert table.texts[0][3:5] == ["500.0 [-]"] * 2


def test_markdown_tells_how_it_was_made(tmp_path: Path) -> None:
    dirty = make_record("sgd", 1.0, returns=[None] * 4)
    dirty["provenance"]["git"]["dirty"] = True
    dirty["provenance"]["versions"]["torch"] = "2.12.0"
    dirty["provenance"]["cpu"]["model"] = "Another|<b>"
    small_study(tmp_path, dirty)
    table = summarize(load_study(tmp_path, "ppo"))
    assert table.texts[0][:7] == [
        *["adam", "tune", "3"],
        *["1,700 [1,000, 2,600]"] * 2,
        *["1,700"] * 2,
    ]
    assert table.texts[0][-4:] == ["1,700", "8,000", "0", "501.0"]
    assert table.texts[1][:4] == ["alphagrad-alpha3", "tune", "2", "4.00 [-]"]
    text = to_markdown(table)
    for expected in (
        "# ppo\n",
        "| Arm | Stage | Seeds | Training, IQM | Evaluation, IQM | Training, mean |",
        "\n| --- | --- | ---: | ---: |",
        "`python -m scripts.tables study=ppo` from 6 runs, seeds 0, 1, 2.",
        "ppo_cleanrl: HalfCheetah-v4, 1,000 steps, paper scale.",
        "95% stratified bootstrap percentile intervals, 10,000 resamples",
        "[-]: fewer than 3 seeds",
        "Diverged runs: 1. They, and any in which no episode ended, count as the worst: in means "
        "with the lowest training return of their task, 4.00 (HalfCheetah-v4, tune).",
        "Code: 6eed2d6 or 6eed2d6 with uncommitted changes.",
        "python 3.11.2, torch 2.12.0 or 2.13.0; on A CPU or Another\\|&lt;b>.",
    ):
        assert expected in text
    assert "Quick" not in text


def test_several_tasks_have_a_column_and_one_has_none(tmp_path: Path) -> None:
    families = {"old|<b>": make_family("Old", default=1.0), "new": make_family("New")}
    write_study(
        tmp_path,
        "brew",
        *(
            make_record(family, 1.0, environment=task, tuned="algorithm.heat", score=score)
            for task, family, score in (
                ("Kettle-v7", "old|<b>", 1),
                ("Kettle-v7", "new", 2),
                ("Pan-v0", "old|<b>", 3),
            )
        ),
        families=families,
    )
    study = load_study(tmp_path, "brew")
    table = summarize(study)
    assert table.data[["task", "arm", "training_mean"]].to_numpy().tolist() == [
        ["Kettle-v7", "old|<b>", 1],
        ["Kettle-v7", "new-lr1", 2],
        ["Pan-v0", "old|<b>", 3],
    ]
    text = to_markdown(table)
    assert "| Task | Arm | Stage | Seeds |" in text
    assert "\n| --- | --- | --- | ---: |" in text
    assert r"| Pan-v0 | old\|&lt;b> | tune | 1 |" in text
    assert text.count("- Protocol ppo_cleanrl: ") == 2


def test_all_studies_of_both_scales_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [small_study(tmp_path), small_study(tmp_path, scale="quick")]
    (tmp_path / "dqn").mkdir()
    assert main([f"results={tmp_path}"]) == 0
    output = capsys.readouterr().out
    files = [folder / name for folder in folders for name in ("table.csv", "table.md")]
    assert sorted(tmp_path.rglob("table.*")) == files
    assert all(str(file) in output for file in files)
    assert output.count("1,700 [1,000, 2,600]") == 4
    assert "Quick scale: 1,000 steps, 5 runs. This is not evidence." in output
    quick = (folders[1] / "table.md").read_text()
    assert quick.startswith("# ppo, quick scale: not evidence\n")
    assert "Quick scale: 1,000 steps, 5 runs. This is not evidence." in quick
    assert "study=ppo scale=quick`" in quick
    with (tmp_path / "ppo" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["scale"], row["arm"], float(row["training_mean"])) for row in rows] == [
        ("paper", "adam", 1700),
        ("paper", "alphagrad-alpha3", 4),
    ]
    assert "task" not in rows[0]


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (["scale=quick"], "quick/ppo"),
        (["study=ppo"], "ppo"),
        (["study=ppo", "scale=paper"], "ppo"),
    ],
)
def test_the_arguments_choose_the_studies(
    tmp_path: Path, arguments: list[str], written: str
) -> None:
    for scale in ("paper", "quick"):
        write_study(tmp_path, "ppo", make_record(), scale=scale)
    assert main([*arguments, f"results={tmp_path}"]) == 0
    assert {path.parent for path in tmp_path.rglob("table.*")} == {tmp_path / written}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=ppo", "studdy=ppo"], "Key 'studdy' not in"),
        (["study=ppo", "scale=big"], "Invalid value 'big', expected one of [paper, quick]"),
        (["study=[ppo"], "while parsing"),
        (["study=ppo"], "ppo/study.json: No such file or directory"),
        ([], "no study in"),
        (["study=td3", "scale=quick"], "torn.json: Invalid JSON"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    if "study=td3" in arguments:
        write_study(tmp_path, "td3", make_record(), scale="quick")
        [record] = (tmp_path / "quick" / "records").iterdir()
        record.rename(record.with_name(f"{record.stem.rpartition('-')[0]}-torn.json"))
        record.with_name(f"torn-{record.stem.rpartition('-')[2]}.json").write_text("{")
        message = f"torn-{record.stem.rpartition('-')[2]}.json: Invalid JSON"
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tables: ")
    assert message in error
    assert error.count("\n") == 1
