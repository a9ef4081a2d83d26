import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from record_fixtures import make_record, write_records

from scripts.figures import STUDY_FIGURES
from scripts.figures.__main__ import main
from scripts.figures.alpha import score_against_alpha, score_by_learning_rate_and_alpha
from scripts.figures.comparison import performance_profile, probability_of_improvement
from scripts.figures.curves import learning_curves
from scripts.figures.diagnostics import saturated_share
from scripts.figures.plot import COLUMN, PAGE, Drawn, Plot, Size, render
from scripts.records import Study, load_study


def study(tmp_path: Path, arms: list[str], seeds: int, folder: str = "ppo") -> Study:
    records = [
        make_record(arm, seed, score=10.0 * index + seed)
        for index, arm in enumerate(arms)
        for seed in range(seeds)
    ]
    return load_study(write_records(tmp_path / folder, *records))


def texts(figure: Figure) -> str:
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " ".join(" ".join(text.get_text() for text in found).split())


def crosses(figure: Figure) -> int:
    lines = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "X"]
    return sum(len(line.get_xdata()) for line in lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(
        tmp_path_factory.mktemp("results") / "ppo",
        *(make_record("adam", seed, score=score) for seed, score in enumerate([1, 2, 6])),
        make_record("alphagrad-alpha1", 0, score=4, saturated=[0.25, 0.5]),
        make_record("alphagrad-alpha1", 1, score=8, saturated=[0.75, 0.5], diverged_at=400),
        make_record("alphagrad-alpha10", 0, score=5, saturated=[1.0, 1.0]),
    )


@pytest.fixture(scope="module")
def plots(folder: Path) -> dict[str, Plot]:
    some = load_study(folder)
    return {name: plot for name, draw in STUDY_FIGURES.items() if (plot := draw(some))}


# That all figures are the same bytes when they are drawn again is in tests/test_report.py.
def test_the_command_writes_the_named_figure(folder: Path, plots: dict[str, Plot]) -> None:
    name = "score_against_alpha"
    assert main(["study=ppo", f"name={name}", f"results={folder.parent}"]) == 0
    files = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert set(files) == {name + ending for ending in Drawn.ENDINGS}
    for file, content in files.items():
        assert b"CreationDate" not in content
        assert content.startswith(b"\x89PNG") == file.endswith(".png")
        assert content.startswith(b"%PDF") == file.endswith(".pdf")
        assert (b"<svg" in content) == file.endswith(".svg")
    plot = plots[name]
    assert files[f"{name}.txt"].decode() == f"{plot.title}. {plot.caption}\n"
    scores = pd.read_csv(folder / "figures" / f"{name}.csv").set_index(["arm", "quantity"])["value"]
    assert list(scores["adam", "seed"]) == [1, 2, 6]
    assert scores["adam", "interquartile mean"] == 3
    assert scores["alphagrad-alpha1", "interquartile mean"] == 6


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_a_pdf_embeds_the_small_fonts_as_truetype(plots: dict[str, Plot], size: Size) -> None:
    pdf = render(plots["learning_curves"].figure(size), "pdf")
    fonts = set(re.findall(rb"/BaseFont /(?:[A-Z]{6}\+)?([\w-]+)", pdf))
    assert fonts == {b"DejaVuSansLatin", b"DejaVuSansLatin-Bold"}
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


def test_captions_say_how_to_draw_the_figure_again(plots: dict[str, Plot]) -> None:
    assert set(plots) == set(STUDY_FIGURES) - {"score_by_learning_rate_and_alpha"}  # one rate
    for name, plot in plots.items():
        for expected in (
            "ppo at paper scale (HalfCheetah-v4, 1,000 steps): 6 runs, 3 arms",
            "1 or 2 or 3 seeds each",
            f"`python -m scripts.figures study=ppo name={name}`",
        ):
            assert expected in plot.caption
        intervals = "10,000 resamples of the seeds; none with fewer than 3 seeds." in plot.caption
        assert intervals == (name not in ("saturated_share", "update_size"))
        marked = name == "learning_curves" or name.endswith("against_alpha")
        assert ("Crosses: " in plot.caption) == marked


def test_the_data_are_the_numbers_of_the_records(plots: dict[str, Plot]) -> None:
    curves = plots["learning_curves"].data.set_index("arm")
    assert list(curves.loc["adam", "value"]) == [10, 50, 90, 100]
    better = plots["probability_of_improvement"].data.set_index("arm")
    # Of alpha 1's 4 and 8, the one beats two of Adam's 1, 2 and 6, the other all of them.
    assert better.loc["alphagrad-alpha1", "value"] == pytest.approx(5 / 6)
    shares = plots["saturated_share"].data.set_index("arm")
    assert list(shares.loc["alphagrad-alpha1", "value"]) == [0.5, 0.5]
    assert list(shares.loc["alphagrad-alpha1", "seeds"]) == [2, 2]
    profile = plots["performance_profile"].data.set_index(["arm", "score"]).loc["adam", "share"]
    # Adam's 1, 2 and 6: a share falls at the score itself, not after it.
    falls = profile[profile.diff().fillna(0) != 0]
    assert falls.to_dict() == pytest.approx({1.0: 2 / 3, 2.0: 1 / 3, 6.0: 0})


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_a_curve_stands_beside_adam(tmp_path: Path, size: Size) -> None:
    arms = ["adam", "alphagrad-alpha3", "sgd"]
    figure = learning_curves(study(tmp_path, arms, 3)).figure(size)
    assert [axes.get_title("left") for axes in figure.axes] == ["α = 3", "sgd"]
    for axes in figure.axes:
        assert len(axes.lines) >= 2
        assert len(axes.collections) == 2  # a band for each arm
    assert figure.bbox_inches.width == size.width
    for expected in ("ppo: HalfCheetah-v4", "Environment steps (black: Adam)"):
        assert expected in texts(figure)
    assert "not evidence" not in texts(figure)


def test_few_seeds_quick_scale_and_divergence_are_told(tmp_path: Path) -> None:
    folder = write_records(
        tmp_path / "ppo-quick",
        make_record("adam", 0),
        make_record("alphagrad-alpha3", 0, diverged_at=400, returns=[1, 2, None, None]),
    )
    for draw in (learning_curves, score_against_alpha):
        plot = draw(load_study(folder))
        figure = plot.figure(PAGE)
        assert "quick scale: 1,000 steps, not evidence" in texts(figure)
        assert "ppo at quick scale" in plot.caption
        assert "1 seed each" in plot.caption
        assert "none with fewer than 3 seeds" in plot.caption
        assert f"study=ppo scale=quick name={plot.name}`" in plot.caption
        assert "Crosses: " in plot.caption
        assert not any(axes.collections for axes in figure.axes)  # no band, no bars
        assert crosses(figure) == 1
        assert plot.data["low"].isna().all()


def test_score_against_alpha_has_adams_band_and_a_dot_for_each_seed(tmp_path: Path) -> None:
    plot = score_against_alpha(
        study(tmp_path, ["adam", "alphagrad-alpha1", "alphagrad-alpha10"], 4)
    )
    sweep, adam = plot.figure(PAGE).axes
    assert [label.get_text() for label in sweep.get_xticklabels()] == ["1", "10"]
    assert np.diff(sweep.get_xticks()) == pytest.approx(1)  # a decade
    assert len(sweep.patches) == len(adam.patches) == 1
    dots = [line for line in sweep.lines if line.get_marker() == "o" and line.get_alpha()]
    assert sorted(y for line in dots for y in line.get_ydata()) == [10, 11, 12, 13, 20, 21, 22, 23]


def test_a_fair_study_shows_learning_rates(tmp_path: Path) -> None:
    records = [
        make_record("adam"),
        make_record("adam-lr0.003"),
        make_record("alphagrad-alpha1", score=1),
        make_record("alphagrad-alpha10", score=2),
        make_record("alphagrad-fast-alpha1", score=3, learning_rate=0.003),
        make_record("sgd-lr0.03"),
    ]
    records[4]["configuration"]["optimizer"]["_target_"] = "alphagrad"
    some = load_study(write_records(tmp_path / "ppo_fair", *records))
    sweep, adam, others = score_against_alpha(some).figure(PAGE).axes
    assert [label.get_text() for label in adam.get_xticklabels()] == ["0.0003", "0.003"]
    assert adam.get_xlabel() == "Adam's learning rate"
    names = [label.get_text() for label in others.get_xticklabels()]
    assert names == ["alphagrad-fast-alpha1", "sgd-lr0.03"]
    assert len(sweep.get_xticks()) == 2
    cells = score_by_learning_rate_and_alpha(some)
    data = cells.data[["learning_rate", "alpha", "value"]]
    assert data.to_numpy().tolist() == [[3e-4, 1, 1], [3e-4, 10, 2], [3e-3, 1, 3]]
    assert {"1.0", "2.0", "3.0"} <= set(texts(cells.figure(PAGE)).split())


@pytest.mark.parametrize("size", [PAGE, COLUMN])
def test_the_heat_map_has_a_cell_for_each_rate_and_alpha_that_ran(
    tmp_path: Path, size: Size
) -> None:
    records = []
    for index, (rate, alpha) in enumerate([(3e-4, 1), (3e-4, 10), (1e-3, 1), (3e-3, 10)]):
        arm = f"alphagrad-alpha{alpha}" if rate == 3e-4 else f"alphagrad-{rate:g}-alpha{alpha}"
        records += [make_record(arm, seed, score=index, learning_rate=rate) for seed in range(3)]
    for record in records:
        record["configuration"]["optimizer"]["_target_"] = "alphagrad"
    records.append(make_record("adam", score=99))
    plot = score_by_learning_rate_and_alpha(
        load_study(write_records(tmp_path / "ppo_fair", *records))
    )
    assert "empty: not run" in plot.caption
    figure = plot.figure(size)
    [image] = figure.axes[0].images
    cells = np.ma.filled(image.get_array(), np.nan)
    assert np.array_equal(cells, [[0, 1], [2, np.nan], [np.nan, 3]], equal_nan=True)
    written = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert written == {"0.0": (0, 0), "1.0": (1, 0), "2.0": (0, 1), "3.0": (1, 2)}
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "0.0003",
        "0.001",
        "0.003",
    ]
    assert render(figure, "pdf").startswith(b"%PDF")
    bar = figure.axes[1].get_position()
    assert figure.axes[0].get_position().x1 < bar.x0 < bar.x1 < 1


def test_a_figure_that_cannot_be_drawn_says_what_it_needs_and_leaves_no_older_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "score_by_learning_rate_and_alpha"
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / f"{name}.png").touch()
    assert main(["study=ppo", f"name={name}", f"results={folder.parent}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "needs AlphaGrad at several learning rates and several alphas" in error
    assert not list(folder.glob(f"figures/{name}*"))


@pytest.mark.parametrize("size", [PAGE, COLUMN])
@pytest.mark.parametrize("draw", [learning_curves, performance_profile])
def test_many_arms_share_a_panel_by_family(
    tmp_path: Path, draw: Callable[[Study], Plot | None], size: Size
) -> None:
    arms = ["adam", "adam-lr0.001", "adam-lr0.003", "sgd"]
    arms += [f"alphagrad-alpha{alpha}" for alpha in (1, 3, 10)]
    arms += [f"sign_sgd-lr{rate}" for rate in (0.01, 0.1, 1)]
    arms += [f"alphagrad-sqrt-alpha{alpha}" for alpha in (0.1, 1)]
    figure = draw(study(tmp_path, arms, 3)).figure(size)
    legends = [axes.get_legend() for axes in figure.axes]
    assert [legend and legend.get_title().get_text() for legend in legends] == [
        "Adam",
        "AlphaGrad",
        "alphagrad-sqrt",
        None,
        "sign_sgd",
    ]
    assert figure.axes[3].get_title("left") == "sgd"
    assert [text.get_text() for text in legends[2].get_texts()] == ["α = 0.1", "α = 1"]
    assert [text.get_text() for text in legends[4].get_texts()] == ["lr 0.01", "lr 0.1", "lr 1"]
    assert "(black: Adam)" in texts(figure)
    for axes in figure.axes:  # and Adam's in all of them
        own = len(axes.get_legend().get_texts()) if axes.get_legend() else 1
        assert len(axes.lines) == own + 1
        assert len({line.get_color() for line in axes.lines}) == own + 1
    for axes, legend in zip(figure.axes, legends, strict=True):
        if legend:  # above the panel, and within the figure
            box = legend.get_window_extent()
            assert box.y0 >= axes.bbox.y1
            assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("arms", [["alphagrad-alpha10"], ["adam"], ["sgd", "rmsprop"]])
def test_any_set_of_arms_can_be_drawn(tmp_path: Path, arms: list[str]) -> None:
    some = study(tmp_path, arms, 1)
    plots = {name: plot for name, draw in STUDY_FIGURES.items() if (plot := draw(some))}
    for plot in plots.values():
        assert render(plot.figure(PAGE), "png").startswith(b"\x89PNG")
    assert ("score_against_alpha" in plots) == ("alphagrad-alpha10" in arms)
    assert "black: Adam" not in texts(plots["learning_curves"].figure(PAGE))
    assert probability_of_improvement(some) is None
    assert saturated_share(some) is None


def test_a_study_without_an_episode_can_be_drawn(tmp_path: Path) -> None:
    records = [make_record(arm, score=None, returns=[None]) for arm in ("adam", "alphagrad-alpha1")]
    some = load_study(write_records(tmp_path / "ppo", *records))
    for plot in (draw(some) for draw in STUDY_FIGURES.values()):
        if plot:
            render(plot.figure(PAGE), "png")
            assert "No episode ended in any run." in plot.caption


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["name=learning_curve"], "name=learning_curve: should be all or one of overview"),
        (["study=nope"], "no records in"),
        (["study=theory"], "study=theory name=all: nothing to draw it from"),
        (["nmae=overview"], "Key 'nmae' not in"),
        (["scale=big"], "Invalid value 'big'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("figures: ")
    assert message in error
    assert error.count("\n") == 1
