from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.colors import to_hex
from support.records import make_record, write_study

from scripts.figures.__main__ import main
from scripts.figures.colors import INK, family_colors
from scripts.figures.overview import ALL, overview
from scripts.figures.plot import COLUMN, PAGE, Plot, Size, render
from scripts.studies import Study, load_study

ARMS = ("adam", 3e-4), ("adam", 1e-3), ("alphagrad", 1.0), ("alphagrad", 10.0)


def runs(
    *scores: float, arms: tuple[tuple[str, float], ...] = ARMS, first: int = 0, **settings: Any
) -> list[dict[str, Any]]:
    """Three runs of each arm around its score; untrained ones have 10 in training, 0 evaluated."""
    return [
        make_record(
            *arm,
            first + seed,
            score=score + seed - 1,
            evaluated=[0.0, 2 * (score + seed - 1)],
            **settings,
        )
        for arm, score in zip(arms, scores, strict=True)
        for seed in range(3)
    ]


def study_of(results: Path, *records: dict[str, Any], name: str = "ppo", **fields: Any) -> Study:
    write_study(results, name, *records, **fields)
    return load_study(results, name)


def table(plot: Plot, measure: str = "training") -> pd.DataFrame:
    data = plot.data[plot.data["measure"] == measure]
    return data.set_index(["task", "method"])


def test_scores_are_shares_of_what_the_baseline_gains(tmp_path: Path) -> None:
    plot = overview([study_of(tmp_path, *runs(110, 160, 60, 210))])
    for measure, values in (
        ("training", {"Adam, protocol": 1, "Adam, tuned": 1.5, "AlphaGrad, tuned": 2}),
        (
            "evaluation",
            {"Adam, protocol": 1, "Adam, tuned": 160 / 110, "AlphaGrad, tuned": 21 / 11},
        ),
    ):
        rows = table(plot, measure).loc["PPO, HalfCheetah-v4"]
        assert rows["value"].to_dict() == pytest.approx(values)
        assert (rows["low"] < rows["value"]).all()
    assert table(plot)["arm"].to_list() == ["adam", "adam-lr0.001", "alphagrad-alpha10"]
    assert "Hollow: tuning runs, of 1 task, exploratory" in plot.caption


def test_what_confirms_takes_the_place_of_tuning_once_it_is_complete(tmp_path: Path) -> None:
    confirm = runs(110, 90, 60, arms=ARMS[:3], first=100, stage="confirm")
    tune = runs(110, 160, 60, 210)
    rows = table(overview([study_of(tmp_path, *tune, *confirm)]))
    assert rows["stage"].unique() == ["confirm"]
    # At the values that were chosen, whatever their runs came to.
    assert rows["arm"].to_list() == ["adam", "adam-lr0.001", "alphagrad-alpha1"]
    assert rows["value"].to_list() == pytest.approx([1, 0.8, 0.5])
    (path,) = (tmp_path / "records").glob(f"*{confirm[0]['identity']}.json")
    path.unlink()
    assert table(overview([load_study(tmp_path, "ppo")]))["stage"].unique() == ["tune"]


def test_the_aggregate_is_over_the_tasks_that_have_every_method(tmp_path: Path) -> None:
    whole = [
        record
        for task, gain in (("A-v1", 1.0), ("B-v1", 3.0))
        for record in runs(110, 160, 10 + 100 * gain, 10, environment=task)
    ]
    part = runs(110, 160, arms=ARMS[:2], environment="C-v1")
    plot = overview([study_of(tmp_path, *whole), study_of(tmp_path, *part, name="dqn")])
    rows = table(plot)
    aggregate = rows.loc[ALL]
    assert list(aggregate["tasks"]) == [2, 2, 2]
    assert aggregate["value"].to_dict()["AlphaGrad, tuned"] == pytest.approx(2)
    assert list(dict.fromkeys(plot.data["task"])) == [ALL, "PPO, A-v1", "PPO, B-v1", "DQN, C-v1"]
    assert f"{ALL}: the 2 that have every method." in plot.caption


def test_a_family_that_was_not_tuned_yet_is_not_called_so(tmp_path: Path) -> None:
    arms = ARMS[0], ARMS[2]
    rows = table(overview([study_of(tmp_path, *runs(110, 60, arms=arms))]))
    assert [method for _, method in rows.index] == ["Adam, protocol", "AlphaGrad, tuned"]


def test_tasks_without_a_scale_and_sensitivities_are_left_out(tmp_path: Path) -> None:
    records = [
        *runs(110, 160, 60, 210),
        *runs(60, 210, arms=ARMS[2:], environment="NoBaseline-v1"),
        *runs(0, 0, 60, 210, environment="NothingLearned-v1"),
        *runs(110, 160, 60, 210, environment="Changed-v1"),
    ]
    folder = write_study(tmp_path, "ppo", *records)
    text = (folder / "study.json").read_text()
    task = text.index('"name": "Changed-v1"')
    changed = text[task:].replace('"role": "main"', '"role": "sensitivity"', 1)
    (folder / "study.json").write_text(text[:task] + changed)
    plot = overview([load_study(tmp_path, "ppo")])
    assert plot.data["task"].unique() == ["PPO, HalfCheetah-v4"]
    assert "1 of 3 tasks" in plot.caption


@pytest.mark.parametrize("size", [PAGE, COLUMN])
@pytest.mark.parametrize("tasks", [1, 5])
def test_any_number_of_tasks_is_drawn(tmp_path: Path, size: Size, tasks: int) -> None:
    records = [
        record
        for task in range(tasks)
        for record in runs(110, 160, 60, 9999, environment=f"World-v{task}")
    ]
    study = study_of(tmp_path, *records)
    figure = overview([study]).figure(size)
    assert len(figure.axes) == 2
    shown = " ".join(label.get_text() for label in figure.axes[0].get_yticklabels())
    for task in range(tasks):
        assert f"World-v{task}" in shown
    colors = {to_hex(line.get_color()) for line in figure.axes[0].lines}
    own = family_colors(study.manifest.families)
    assert {INK, own["alphagrad"].lower()} < colors
    low, high = figure.axes[0].get_xlim()
    assert high - low < 4  # a score of 99 is an arrow at the end
    assert render(figure, "png").startswith(b"\x89PNG")


def test_the_command_takes_the_studies_that_ask_for_it(tmp_path: Path) -> None:
    study_of(tmp_path, *runs(110, 160, 60, 210), overview=1)
    study_of(tmp_path, *runs(110, 160, 60, 210, environment="Other-v1"), name="dqn")
    assert main(["name=overview", f"results={tmp_path}"]) == 0
    data = pd.read_csv(tmp_path / "figures" / "overview.csv")
    assert set(data["task"]) == {"PPO, HalfCheetah-v4"}
