import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from record_fixtures import make_record, write_records

from scripts.figures import STUDY_FIGURES, THEORY_FIGURES
from scripts.figures.__main__ import main
from scripts.figures.overview import overview
from scripts.figures.plot import COLUMN, PAGE, Drawn, Plot, render, save
from scripts.figures.theory import load_theory
from scripts.records import Study, load_study

ROOT = Path(__file__).parents[1]


def diagnosed(record: dict[str, Any]) -> dict[str, Any]:
    shares = {"saturated_share": [0.5, None]} if record["arm"].startswith("alphagrad") else {}
    tensor = {"grad_norm": [1.0, 2.0], "update_rms": [1e-3, 0.0]} | shares
    return record | {"diagnostics": {"step": [0, 500], "tensors": {"actor.weight": tensor}}}


def study(tmp_path: Path, arms: list[str], seeds: int, folder: str = "ppo") -> Study:
    records = [
        diagnosed(make_record(arm, seed, score=10.0 * index + seed))
        for index, arm in enumerate(arms)
        for seed in range(seeds)
    ]
    return load_study(write_records(tmp_path / folder, *records))


def full(tmp_path: Path, folder: str = "ppo") -> Study:
    return study(tmp_path, ["adam", "alphagrad-alpha1", "alphagrad-alpha10", "sgd"], 3, folder)


def drawn(name: str, some: Study) -> Plot:
    plot = STUDY_FIGURES[name](some)
    assert plot is not None
    return plot


def texts(figure: Figure) -> str:
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " ".join(" ".join(text.get_text() for text in found).split())


EVERYWHERE = [name for name in STUDY_FIGURES if name != "score_by_learning_rate_and_alpha"]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_a_figure_says_what_it_shows_and_how_it_is_made(tmp_path: Path, name: str) -> None:
    plot = drawn(name, full(tmp_path))
    for expected in (
        "ppo at paper scale (HalfCheetah-v4, 1,000 steps): 12 runs, 4 arms, 3 seeds each.",
        "95% stratified bootstrap, 10,000 resamples",
        f"`python -m scripts.figures study=ppo name={name}`",
    ):
        assert expected in plot.caption
    assert not plot.data.empty
    for size in (PAGE, COLUMN):
        figure = plot.figure(size)
        assert figure.get_figwidth() == size.width
        assert "ppo: HalfCheetah-v4" in texts(figure)
        assert "not evidence" not in texts(figure)


def test_few_seeds_quick_scale_and_divergence_are_told(tmp_path: Path) -> None:
    folder = write_records(
        tmp_path / "ppo-quick",
        make_record("adam", 0),
        make_record("alphagrad-alpha3", 0, diverged_at=400, returns=[1, 2, None, None]),
    )
    for name in ("learning_curves", "score_against_alpha"):
        plot = drawn(name, load_study(folder))
        figure = plot.figure(PAGE)
        assert "quick scale: 1,000 steps, not evidence" in texts(figure)
        assert "none with fewer than 3 seeds" in plot.caption
        assert "Crosses:" in plot.caption
        assert "scale=quick" in plot.caption
        assert not figure.axes[0].collections  # no band, no bars
        crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
        assert sum(len(line.get_xdata()) for line in crosses) == 1


def test_learning_curves_have_adam_in_every_panel(tmp_path: Path) -> None:
    figure = drawn("learning_curves", full(tmp_path)).figure(PAGE)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["α = 1", "α = 10", "sgd"]
    assert all(len(axes.collections) == 2 for axes in figure.axes)  # two bands
    assert all(axes.lines[0].get_label() == "Adam" for axes in figure.axes)


def test_score_against_alpha_has_adams_band_and_a_dot_for_each_seed(tmp_path: Path) -> None:
    plot = drawn("score_against_alpha", full(tmp_path))
    sweep, adam, others = plot.figure(PAGE).axes
    assert [label.get_text() for label in sweep.get_xticklabels()] == ["1", "10"]
    assert [label.get_text() for label in others.get_xticklabels()] == ["sgd"]
    assert len(sweep.patches) == len(adam.patches) == len(others.patches) == 1
    dots = [line for line in sweep.lines if line.get_marker() == "o" and line.get_alpha()]
    assert sorted(y for line in dots for y in line.get_ydata()) == [10, 11, 12, 20, 21, 22]
    seeds = plot.data[plot.data["quantity"] == "seed"]
    assert sorted(seeds["value"]) == [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32]


def test_probability_of_improvement_compares_with_adam(tmp_path: Path) -> None:
    data = drawn("probability_of_improvement", full(tmp_path)).data
    assert list(data["arm"]) == ["alphagrad-alpha1", "alphagrad-alpha10", "sgd"]
    assert list(data["value"]) == [1, 1, 1]


def test_performance_profile_falls_from_all_to_none(tmp_path: Path) -> None:
    data = drawn("performance_profile", full(tmp_path)).data
    for _, own in data.groupby("arm"):
        assert own["share"].is_monotonic_decreasing
        assert (own["share"].iloc[0], own["share"].iloc[-1]) == (1, 0)


def test_diagnostics_come_by_tensor_and_step(tmp_path: Path) -> None:
    some = full(tmp_path)
    rows = drawn("update_size", some).data
    assert list(rows["arm"].unique()) == list(some.arms)
    assert list(rows[rows["arm"] == "adam"]["value"]) == [1e-3, 0]
    shares = drawn("saturated_share", some).data
    assert list(shares["arm"]) == ["alphagrad-alpha1", "alphagrad-alpha10"]
    assert list(shares["value"]) == [0.5, 0.5]


def test_the_heat_map_needs_several_learning_rates_and_alphas(tmp_path: Path) -> None:
    assert STUDY_FIGURES["score_by_learning_rate_and_alpha"](full(tmp_path)) is None
    records = []
    for alpha in (1, 10):
        for rate, suffix in ((3e-4, ""), (1e-3, "-fast")):
            record = make_record(f"alphagrad-alpha{alpha}", score=alpha * rate * 1e4)
            record["arm"] += suffix
            record["configuration"]["algorithm"]["learning_rate"] = rate
            records.append(record)
    grid = load_study(write_records(tmp_path / "grid", *records))
    plot = drawn("score_by_learning_rate_and_alpha", grid)
    assert list(plot.data["learning_rate"]) == [3e-4, 3e-4, 1e-3, 1e-3]
    assert list(plot.data["alpha"]) == [1, 10, 1, 10]
    assert list(plot.data["value"]) == pytest.approx([3, 30, 10, 100])
    assert "100" in texts(plot.figure(PAGE))


def test_adams_learning_rates_stand_beside_alpha(tmp_path: Path) -> None:
    records = [make_record("alphagrad-alpha1"), make_record("adam")]
    slow = make_record("adam-lr0.0001")
    slow["configuration"]["algorithm"]["learning_rate"] = 1e-4
    some = load_study(write_records(tmp_path / "ppo", *records, slow))
    _, adam = drawn("score_against_alpha", some).figure(PAGE).axes
    assert adam.get_xlabel() == "Adam's learning rate"
    assert [label.get_text() for label in adam.get_xticklabels()] == ["0.0001", "0.0003"]


@pytest.mark.parametrize("arms", [["alphagrad-alpha10"], ["adam"], ["sgd", "rmsprop"]])
def test_any_set_of_arms_can_be_drawn(tmp_path: Path, arms: list[str]) -> None:
    some = study(tmp_path, arms, 1)
    for draw in STUDY_FIGURES.values():
        if plot := draw(some):
            assert render(plot.figure(PAGE), "png").startswith(b"\x89PNG")
    assert (STUDY_FIGURES["score_against_alpha"](some) is None) == ("alphagrad-alpha10" not in arms)


def test_a_study_without_an_episode_can_be_drawn(tmp_path: Path) -> None:
    records = [make_record(arm, score=None, returns=[None]) for arm in ("adam", "alphagrad-alpha1")]
    some = load_study(write_records(tmp_path / "ppo", *records))
    for draw in STUDY_FIGURES.values():
        if plot := draw(some):
            render(plot.figure(COLUMN), "png")
            assert "No episode ended in any run." in plot.caption


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    some = full(tmp_path)
    first, second = (save(drawn("score_against_alpha", some), tmp_path / n) for n in ("a", "b"))
    for ending in Drawn.ENDINGS:
        content = first.path(ending).read_bytes()
        assert content == second.path(ending).read_bytes()
        assert not any(word in content for word in (b"CreationDate", b"Software", b"<dc:date>"))


def test_the_overview_tells_which_studies_are_missing(tmp_path: Path) -> None:
    assert overview({}) is None
    some = full(tmp_path)
    plot = overview({"ppo": some})
    assert plot is not None
    assert texts(plot.figure(PAGE)).count("no runs yet") == 4
    assert "ppo: 9 runs, 3 seeds an arm" in plot.caption
    assert set(plot.data["arm"]) == {"adam", "alphagrad-alpha1", "alphagrad-alpha10"}


def test_the_committed_check_of_the_theory_lies_below_the_bound() -> None:
    record = load_theory(ROOT / "results")
    assert record is not None
    for draw in THEORY_FIGURES.values():
        plot = draw(record)
        plot.figure(COLUMN)
        assert not plot.data.isna().any(axis=None)
    bounds = THEORY_FIGURES["gradient_norm_bound"](record).data
    assert (bounds["measured"] <= bounds["bound"]).all()


def test_the_command_draws_one_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full(tmp_path)
    assert main([f"results={tmp_path}", "study=ppo", "name=score_against_alpha"]) == 0
    folder = tmp_path / "ppo" / "figures"
    files = sorted(f"score_against_alpha{ending}" for ending in Drawn.ENDINGS)
    assert sorted(path.name for path in folder.iterdir()) == files
    assert str(folder / files[0]) in capsys.readouterr().out
    assert main([f"results={tmp_path}", "name=overview"]) == 0
    data = pd.read_csv(tmp_path / "figures" / "overview.csv")
    assert set(data["study"]) == {"ppo"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["name=curves"], "name=curves: should be all or one of overview, learning_curves,"),
        (["study=ppo"], "no records in"),
        (["study=theory"], "nothing to draw it from"),
        (["nam=x"], "Key 'nam' not in"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, f"results={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_command_needs_no_torch(tmp_path: Path) -> None:
    write_records(tmp_path / "ppo", make_record())
    code = (
        "import sys; from scripts.figures.__main__ import main; "
        f"assert main(['study=ppo', {f'results={tmp_path}'!r}]) == 0; "
        "assert not {'torch', 'stable_baselines3', 'gymnasium', 'experiments'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, check=True)
