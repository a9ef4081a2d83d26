from pathlib import Path

import pytest
from support.records import make_record, write_study

from scripts.figures.plot import COLUMN, PAGE, NothingToDrawError, Size, render
from scripts.figures.sensitivity import sensitivity
from scripts.studies import Study, load_study

SCORES = {
    ("adam", 3e-5): 60.0,
    ("adam", 3e-4): 110.0,
    ("adam", 3e-3): 35.0,
    ("alphagrad", 1.0): 10.0,
    ("alphagrad", 10.0): 210.0,
}


def study_of(results: Path, scores: dict[tuple[str, float], float]) -> Study:
    records = [
        make_record(*arm, seed, score=score + seed - 1, evaluated=[0.0, score])
        for arm, score in scores.items()
        for seed in range(3)
    ]
    write_study(results, "ppo", *records)
    return load_study(results, "ppo")


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_both_settings_stand_on_one_axis_in_decades_from_their_best(
    tmp_path: Path, size: Size
) -> None:
    study = study_of(tmp_path, SCORES | {("sgd", 0.1): 60.0, ("sgd", 1.0): 40.0})
    plot = sensitivity(study, study.tasks[0])
    assert plot.title == "AlphaGrad's α against Adam's lr"
    rows = plot.data[plot.data["measure"] == "training"]
    assert list(rows["arm"]) == [
        "adam-lr3e-05",
        "adam",
        "adam-lr0.003",
        "alphagrad-alpha1",
        "alphagrad-alpha10",
    ]
    assert list(rows["decades"]) == pytest.approx([-1, 0, 1, -1, 0])
    assert list(rows["value"]) == pytest.approx([0.5, 1, 0.25, 0, 1])  # 10 is untrained
    # On the way to the best at either side, the part that is above 90%.
    assert f"Adam's lr {0.1 / 0.5 + 0.1 / 0.75:.2f}" in plot.caption
    assert "AlphaGrad's α 0.10" in plot.caption
    figure = plot.figure(size)
    assert [axes.get_title("left") for axes in figure.axes] == ["By training", "By evaluation"]
    assert render(figure, "png").startswith(b"\x89PNG")


def test_there_is_no_control_without_several_values_of_both(tmp_path: Path) -> None:
    few = {arm: score for arm, score in SCORES.items() if arm[0] != "adam" or arm[1] == 3e-4}
    study = study_of(tmp_path, few)
    with pytest.raises(NothingToDrawError, match="at two values or more"):
        sensitivity(study, study.tasks[0])


def test_what_learned_nothing_has_no_range(tmp_path: Path) -> None:
    study = study_of(tmp_path, dict.fromkeys(SCORES, 0.0))
    with pytest.raises(NothingToDrawError, match="at two values or more"):
        sensitivity(study, study.tasks[0])
