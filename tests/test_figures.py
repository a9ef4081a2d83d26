import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from support.records import FAMILIES, make_family, make_record, write_study

from scripts.figures import TASK_FIGURES
from scripts.figures.__main__ import main
from scripts.figures.colors import INK
from scripts.figures.comparison import performance_profile, probability_of_improvement
from scripts.figures.curves import learning_curves
from scripts.figures.diagnostics import saturated_share
from scripts.figures.panels import shown_stage
from scripts.figures.plot import (
    COLUMN,
    ENDINGS,
    PAGE,
    NothingToDrawError,
    Plot,
    Size,
    looks,
    render,
)
from scripts.figures.setting import positions_of, score_against_setting, score_by_two_settings
from scripts.scores import arms_of
from scripts.studies import Scale, Stage, Study, load_study

ENVIRONMENT = "HalfCheetah-v4"


def study_of(results: Path, *records: dict[str, Any], **fields: Any) -> Study:
    write_study(results, "ppo", *records, **fields)
    return load_study(results, "ppo", Scale(fields.get("scale", "paper")))


def records_of(*arms: tuple[str, float], seeds: int = 1) -> list[dict[str, Any]]:
    return [
        make_record(*arm, seed, score=10.0 * index + seed, evaluated=[0.0, 20.0 * index + seed])
        for index, arm in enumerate(arms)
        for seed in range(seeds)
    ]


def plots_of(study: Study) -> tuple[dict[str, Plot], dict[str, str]]:
    """The figures of a study's first task by name, and what the others need."""
    plots, needs = {}, {}
    for name, draw in TASK_FIGURES.items():
        try:
            plots[name] = draw(study, study.tasks[0])
        except NothingToDrawError as error:
            needs[name] = str(error)
    return plots, needs


def texts(figure: Figure) -> str:
    found = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    return " ".join(" ".join(found).split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    once: dict[str, Any] = {"evaluated": []}  # one measure
    study_of(
        folder,
        *(make_record(seed=seed, score=score, **once) for seed, score in enumerate([1, 2, 6])),
        make_record("alphagrad", 1.0, 0, score=4, saturated=[0.25, 0.5], **once),
        make_record("alphagrad", 1.0, 1, score=8, saturated=[0.75, 0.5], **once),
        make_record("alphagrad", 10.0, 0, score=5, saturated=[1.0, 1.0], diverged_at=400, **once),
    )
    return folder


@pytest.fixture(scope="module")
def plots(results: Path) -> dict[str, Plot]:
    return plots_of(load_study(results, "ppo"))[0]


# That all figures are the same bytes when they are drawn again is in tests/test_check_results.py.
def test_the_command_writes_the_named_figure(results: Path, plots: dict[str, Plot]) -> None:
    name = "score_against_setting"
    assert main(["study=ppo", f"name={name}", f"results={results}"]) == 0
    folder = results / "ppo" / "figures" / ENVIRONMENT
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {name + ending for ending in ENDINGS}
    for file, content in files.items():
        assert b"CreationDate" not in content
        assert content.startswith(b"\x89PNG") == file.endswith(".png")
        assert content.startswith(b"%PDF") == file.endswith(".pdf")
        assert (b"<svg" in content) == file.endswith(".svg")
    plot = plots[name]
    command = f"Drawn by `python -m scripts.figures study=ppo name={name}`."
    assert files[f"{name}.txt"].decode() == f"{plot.title}. {plot.caption} {command}\n"
    scores = pd.read_csv(folder / f"{name}.csv").set_index(["arm", "quantity"])["value"]
    assert list(scores["adam", "seed"]) == [1, 2, 6]
    assert scores["adam", "interquartile mean"] == 3
    assert scores["alphagrad-alpha1", "interquartile mean"] == 6
    assert scores["alphagrad-alpha10", "interquartile mean"] == 1  # it diverged


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_a_pdf_embeds_the_small_fonts_as_truetype(plots: dict[str, Plot], size: Size) -> None:
    pdf = render(plots["learning_curves"].figure(size), "pdf")
    fonts = set(re.findall(rb"/BaseFont /(?:[A-Z]{6}\+)?([\w-]+)", pdf))
    assert fonts == {b"DejaVuSansLatin", b"DejaVuSansLatin-Bold"}
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_captions_say_what_is_shown(plots: dict[str, Plot]) -> None:
    lacking = {"score_by_two_settings", "sensitivity"}  # one learning rate
    assert set(plots) == set(TASK_FIGURES) - lacking
    for name, plot in plots.items():
        for expected in (
            "ppo at paper scale (HalfCheetah-v4, 1,000 steps): 6 runs of the stage tune, 3 arms",
            "1 or 2 or 3 seeds each",
        ):
            assert expected in plot.caption
        intervals = "10,000 resamples of the seeds; none with fewer than 3 seeds." in plot.caption
        without = ("saturated_share", "update_size", "probability_of_improvement")
        assert intervals == (name not in without)
        marked = name == "learning_curves" or name.endswith("against_setting")
        assert ("Crosses: " in plot.caption) == marked


def test_the_data_are_the_numbers_of_the_records(plots: dict[str, Plot]) -> None:
    curves = plots["learning_curves"].data.query("arm == 'adam'")
    assert list(curves["value"]) == [10, 50, 90, 3]
    better = plots["probability_of_improvement"].data.set_index("arm")
    # Of alpha 1's 4 and 8, the one beats two of Adam's 1, 2 and 6, the other all of them.
    assert better.loc["alphagrad-alpha1", "value"] == pytest.approx(5 / 6)
    shares = plots["saturated_share"].data.query("arm == 'alphagrad-alpha1'")
    assert list(shares["value"]) == [0.5, 0.5]
    assert list(shares["seeds"]) == [2, 2]
    profile = plots["performance_profile"].data.query("arm == 'adam'")
    # Adam's 1, 2 and 6: a share falls at the score itself, not after it.
    falls = profile[profile["share"].diff().fillna(0) != 0]
    assert list(falls["score"]) == [1, 2, 6]
    assert list(falls["share"]) == pytest.approx([2 / 3, 1 / 3, 0])


@pytest.mark.parametrize("size", [PAGE, COLUMN])
@pytest.mark.parametrize("draw", [learning_curves, performance_profile, score_against_setting])
def test_each_family_has_a_panel_by_each_measure(
    tmp_path: Path, draw: Callable[..., Plot], size: Size
) -> None:
    arms = [("adam", rate) for rate in (3e-4, 0.001, 0.003)] + [("sgd", 0.1)]
    arms += [("alphagrad", alpha) for alpha in (1.0, 3.0, 10.0)]
    arms += [("alphagrad-stateless", alpha) for alpha in (0.1, 1.0)]
    study = study_of(tmp_path, *records_of(*arms, seeds=3))
    plot = draw(study, study.tasks[0])
    assert list(plot.data["measure"].unique()) == ["training", "evaluation"]
    figure = plot.figure(size)
    assert figure.bbox_inches.width == size.width
    assert len(figure.axes) == 8
    titles = [" ".join(axes.get_title("left").split()) for axes in figure.axes]
    families = [title for title in titles if title]
    for family, title in zip(
        ("AlphaGrad", "Adam", "SGD", "AlphaGrad without momentum"), families, strict=True
    ):
        assert title.startswith(family)
    listed = draw is not score_against_setting
    assert ("α 1, 3, 10 (dark to light)" in families[0]) == listed
    for text in figure.findobj(Text):
        if isinstance(text, Text) and any(map(str.isalpha, text.get_text())):
            assert text.get_window_extent().x1 <= figure.bbox.x1 + 1
    named = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert {label.split("\n")[-1] for label in named} == {"training", "evaluation"}
    assert "PPO, HalfCheetah-v4" in texts(figure)
    assert "not evidence" not in texts(figure)
    if listed:
        assert "(black: Adam)" in texts(figure)


def test_what_confirms_is_compared_once_all_of_it_is_there(tmp_path: Path) -> None:
    arms = ("adam", 3e-4), ("alphagrad", 1.0), ("alphagrad", 10.0)
    records = records_of(*arms, seeds=3)
    confirm = [
        make_record(*arm, 100 + seed, score=200.0 + seed, stage="confirm")
        for arm in (arms[0], arms[2])
        for seed in range(3)
    ]
    study = study_of(tmp_path, *records, *confirm)
    task = study.tasks[0]
    assert shown_stage(study, task) is Stage.confirm
    plot = learning_curves(study, task)
    assert set(plot.data["arm"]) == {"adam", "alphagrad-alpha10"}
    assert "6 runs of the stage confirm, 2 arms, 3 seeds each" in plot.caption
    assert set(score_against_setting(study, task).data["setting"]) == {3e-4, 1.0, 10.0}  # tuned

    (path,) = (tmp_path / "records").glob(f"*{confirm[-1]['identity']}.json")
    path.unlink()
    study = load_study(tmp_path, "ppo")
    assert shown_stage(study, study.tasks[0]) is Stage.tune
    assert "9 runs of the stage tune" in learning_curves(study, study.tasks[0]).caption


def test_a_task_without_tuning_shows_what_confirms(tmp_path: Path) -> None:
    study = study_of(tmp_path, *(make_record(seed=seed, stage="confirm") for seed in range(3)))
    plots, needs = plots_of(study)
    assert "3 runs of the stage confirm" in plots["learning_curves"].caption
    assert needs["score_against_setting"] == "runs of the stage tune in which an episode ended"


def test_few_seeds_quick_scale_and_divergence_are_told(tmp_path: Path) -> None:
    study = study_of(
        tmp_path,
        make_record(),
        make_record("alphagrad", 3.0, diverged_at=400, returns=[1, 2, None, None]),
        scale="quick",
    )
    for draw in (learning_curves, score_against_setting):
        plot = draw(study, study.tasks[0])
        figure = plot.figure(PAGE)
        assert "PPO, HalfCheetah-v4, quick scale: 1,000 steps, not evidence" in texts(figure)
        assert "ppo at quick scale" in plot.caption
        assert "1 seed each" in plot.caption
        assert "none with fewer than 3 seeds" in plot.caption
        assert "Crosses: " in plot.caption
        assert plot.data["low"].isna().all()


def test_a_figure_of_quick_scale_says_so_in_its_command(tmp_path: Path) -> None:
    study_of(tmp_path, make_record(), scale="quick")
    assert main(["study=ppo", "scale=quick", "name=learning_curves", f"results={tmp_path}"]) == 0
    caption = tmp_path / "quick" / "ppo" / "figures" / ENVIRONMENT / "learning_curves.txt"
    command = "Drawn by `python -m scripts.figures study=ppo scale=quick name=learning_curves`."
    assert command in caption.read_text()


def test_the_baseline_is_black_and_no_two_arms_look_alike(tmp_path: Path) -> None:
    arms = [("adam", 3e-4), ("adam", 1e-3), ("alphagrad", 1.0), ("alphagrad", 3.0)]
    arms += [("sgd", 0.01), ("sgd", 0.02), ("sign_sgd", 1e-5)]
    study = study_of(tmp_path, *records_of(*arms))
    found = looks(arms_of(study, study.tasks[0]))
    assert found["adam"].color == INK
    assert len({look.color for look in found.values()}) == len(arms)
    assert [look.label for look in found.values()] == [
        "Adam",
        "Adam, lr 0.001",
        "α = 1",
        "α = 3",
        "SGD, lr 0.01",
        "SGD, lr 0.02",
        "sign SGD, lr 1e-05",
    ]


def test_families_stand_at_their_settings(tmp_path: Path) -> None:
    arms = ("adam", 3e-4), ("adam", 0.003), ("alphagrad", 1.0), ("alphagrad", 10.0), ("sgd", 0.03)
    study = study_of(tmp_path, *records_of(*arms, seeds=4))
    plot = score_against_setting(study, study.tasks[0])
    figure = plot.figure(PAGE)
    ticks = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes]
    assert ticks == [["1", "10"], ["0.0003", "0.003"], ["0.03"]] * 2
    assert np.diff(figure.axes[0].get_xticks()) == pytest.approx(1)  # a decade
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "", "α", "lr", "lr"]
    scores = plot.data[plot.data["quantity"] == "seed"].groupby(["measure", "arm"])["value"]
    assert list(scores.get_group(("training", "alphagrad-alpha10"))) == [30, 31, 32, 33]
    assert list(scores.get_group(("evaluation", "alphagrad-alpha10"))) == [60, 61, 62, 63]


@pytest.mark.parametrize(
    ("values", "positions"),
    [
        ([0.1, 1.0, 10.0], [-1, 0, 1]),
        ([0.0, 0.5, 0.9], [0, 1, 2]),
        ([0.1, 0.9, 0.99, 0.999], [0, 1, 2, 3]),  # they would crowd on a logarithmic axis
        ([-1.0], [0]),
    ],
)
def test_a_setting_has_a_logarithmic_axis_where_that_shows_it(
    tmp_path: Path, values: list[float], positions: list[float]
) -> None:
    study = study_of(tmp_path, *records_of(*(("sgd", value) for value in values)))
    found = positions_of(arms_of(study, study.tasks[0]))
    assert found == pytest.approx(positions)


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_the_heat_map_has_a_cell_for_each_pair_of_settings_that_ran(
    tmp_path: Path, size: Size
) -> None:
    families = FAMILIES | dict.fromkeys(("faster", "fastest"), FAMILIES["alphagrad"])
    arms = [("alphagrad", 1, 3e-4), ("alphagrad", 10, 3e-4), ("faster", 1, 1e-3)]
    arms += [("fastest", 10, 3e-3)]
    records = [
        make_record(
            family,
            alpha,
            seed,
            score=index,
            tuned="optimizer.alpha",
            settings={"algorithm.learning_rate": rate, "optimizer._target_": "alphagrad"},
        )
        for index, (family, alpha, rate) in enumerate(arms)
        for seed in range(3)
    ]
    records.append(make_record("adam", score=99))
    study = study_of(tmp_path, *records, families=families)
    plot = score_by_two_settings(study, study.tasks[0])
    assert "empty: not run" in plot.caption
    data = plot.data[["second", "setting", "value"]].to_numpy().tolist()
    assert data == [[3e-4, 1, 0], [3e-4, 10, 1], [1e-3, 1, 2], [3e-3, 10, 3]]
    figure = plot.figure(size)
    cells = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert cells == {"0.0": (0, 0), "1.0": (1, 0), "2.0": (0, 1), "3.0": (1, 2)}
    rates = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rates == ["0.0003", "0.001", "0.003"]
    assert figure.axes[0].get_ylabel() == "Learning rate"
    assert render(figure, "pdf").startswith(b"%PDF")
    bar = figure.axes[1].get_position()
    assert figure.axes[0].get_position().x1 < bar.x0 < bar.x1 < 1


def test_a_figure_that_cannot_be_drawn_says_what_it_needs_and_leaves_no_older_one(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "score_by_two_settings"
    folder = results / "ppo" / "figures" / ENVIRONMENT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").touch()
    assert main(["study=ppo", f"name={name}", f"results={results}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "needs arms that differ from the study's subject in its tuned setting and one" in error
    assert not list(folder.glob(f"{name}*"))


@pytest.mark.parametrize(
    "arms", [[("alphagrad", 10.0)], [("adam", 3e-4)], [("sgd", 1.0), ("sign_sgd", 1.0)]]
)
def test_any_set_of_arms_can_be_drawn(tmp_path: Path, arms: list[tuple[str, float]]) -> None:
    study = study_of(tmp_path, *records_of(*arms))
    plots, needs = plots_of(study)
    for plot in plots.values():
        assert render(plot.figure(PAGE), "png").startswith(b"\x89PNG")
    has_baseline = arms[0][0] == "adam"
    assert ("black" in texts(plots["learning_curves"].figure(PAGE))) == has_baseline
    assert {"probability_of_improvement", "saturated_share"} <= set(needs)


def test_one_family_may_be_baseline_and_subject(tmp_path: Path) -> None:
    study = study_of(tmp_path, *records_of(("adam", 3e-4), ("adam", 1e-3)), subject="adam")
    plots, _ = plots_of(study)
    for plot in plots.values():
        assert render(plot.figure(COLUMN), "png").startswith(b"\x89PNG")
    assert set(plots["probability_of_improvement"].data["arm"]) == {"adam-lr0.001"}


def test_titles_are_shown_as_they_stand(tmp_path: Path) -> None:
    families = {
        "adam": make_family("_A $cheap$ one", default=3e-4),
        "alphagrad": make_family("_50% & <b>", "optimizer.alpha", "$x$"),
        "sgd": make_family("_the$other"),
    }
    arms = ("adam", 3e-4), ("alphagrad", 1.0), ("sgd", 1.0), ("sgd", 2.0)
    study = study_of(tmp_path, *records_of(*arms, seeds=3), families=families, overview=1)
    svg = {
        name: render(plot.figure(PAGE), "svg").decode() for name, plot in plots_of(study)[0].items()
    }
    assert ">Environment steps (black: _A $cheap$ one)<" in svg["learning_curves"]
    assert "> _50% &amp; &lt;b&gt;<" in svg["score_against_setting"]
    assert ">$x$<" in svg["score_against_setting"]
    assert "> _the$other<" in svg["probability_of_improvement"]
    assert "> _the$other<" in svg["performance_profile"]


def test_a_study_without_an_episode_can_be_drawn(tmp_path: Path) -> None:
    arms = ("adam", 3e-4), ("alphagrad", 1.0)
    records = [make_record(*arm, score=None, returns=[None]) for arm in arms]
    plots, needs = plots_of(study_of(tmp_path, *records))
    assert needs["performance_profile"] == "runs of the stage tune in which an episode ended"
    for plot in plots.values():
        assert render(plot.figure(PAGE), "png")
        assert "No episode ended in any run." in plot.caption


def test_what_a_record_lacks_is_not_drawn(tmp_path: Path) -> None:
    study = study_of(tmp_path, *records_of(("adam", 3e-4), ("alphagrad", 1.0)))
    with pytest.raises(NothingToDrawError, match="diagnostics of the updates"):
        saturated_share(study, study.tasks[0])
    lonely = study_of(tmp_path / "lonely", *records_of(("adam", 3e-4)))
    with pytest.raises(NothingToDrawError, match="another arm"):
        probability_of_improvement(lonely, lonely.tasks[0])


def test_saturation_counts_elements_and_not_tensors(tmp_path: Path) -> None:
    records = [make_record("alphagrad", 1.0, seed, saturated=[0.0, 0.5]) for seed in range(2)]
    for record in records:
        bias = {"update_rms": [1e-3, 1e-3], "saturated_share": [1.0, None]}
        record["diagnostics"]["tensors"]["net.bias"] = bias
        del record["diagnostics"]["elements"]
    with pytest.raises(NothingToDrawError, match="number of each tensor's elements"):
        saturated_share(unsized := study_of(tmp_path / "old", *records), unsized.tasks[0])
    records[1]["diagnostics"]["elements"] = {"net.weight": 99, "net.bias": 1}
    sized = study_of(tmp_path / "new", *records)  # one record says it for the others
    data = saturated_share(sized, sized.tasks[0]).data
    assert list(data["value"]) == [0.01, 0.5]
    assert list(data["seeds"]) == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["name=learning_curve"], "name=learning_curve: should be all or one of overview"),
        (["study=nope"], "nope/study.json: No such file or directory"),
        (["study=nope.yaml"], "study=nope.yaml: there is no such file"),
        (["study=convergence"], "study=convergence name=all: nothing to draw it from"),
        (["study=damaged"], "damaged/study.json: Invalid JSON"),
        ([], "damaged/study.json: Invalid JSON"),
        (["nmae=overview"], "Key 'nmae' not in"),
        (["scale=big"], "Invalid value 'big'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.json").write_text(json.dumps({"name": "damaged"})[:5])
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("figures: ")
    assert message in error
    assert error.count("\n") == 1
