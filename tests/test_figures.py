from pathlib import Path

import pytest
from matplotlib.figure import Figure
from record_fixtures import make_record, write_records

from scripts.figures import learning_curves, render, score_against_alpha
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


def test_a_figure_says_what_it_shows(tmp_path: Path) -> None:
    arms = ["adam", "alphagrad-alpha3", "sgd"]
    figure = learning_curves(study(tmp_path, arms, 3))
    assert figure.axes[0].get_xlabel() == "Environment steps"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Adam", r"AlphaGrad, $\alpha$ = 3", "sgd"]
    for expected in (
        "ppo: learning curves",
        "ppo_halfcheetah: HalfCheetah-v4, 1,000 steps; seeds per arm: 3",
        "95% stratified bootstrap intervals.",
    ):
        assert expected in texts(figure)
    assert "not evidence" not in texts(figure)
    assert len(figure.axes[0].collections) == 3  # a band for each arm


def test_few_seeds_quick_scale_and_divergence_are_told(tmp_path: Path) -> None:
    folder = write_records(
        tmp_path / "ppo-quick",
        make_record("adam", 0),
        make_record("alphagrad-alpha3", 0, diverged_at=400, returns=[1, 2, None, None]),
    )
    for draw in (learning_curves, score_against_alpha):
        figure = draw(load_study(folder))
        assert "Quick scale: 1,000 steps, not evidence" in texts(figure)
        assert "none with fewer than 3 seeds" in texts(figure)
        assert "crosses: diverged runs" in texts(figure)
        assert not figure.axes[0].collections  # no band, no bars
        crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
        assert sum(len(line.get_xdata()) for line in crosses) == 1


def test_score_against_alpha_has_adams_band_and_a_dot_for_each_seed(tmp_path: Path) -> None:
    figure = score_against_alpha(
        study(tmp_path, ["adam", "alphagrad-alpha1", "alphagrad-alpha10"], 4)
    )
    sweep, adam = figure.axes
    assert sweep.get_xscale() == "log"
    assert [label.get_text() for label in sweep.get_xticklabels()] == ["1", "10"]
    assert len(sweep.patches) == len(adam.patches) == 1
    dots = [line for line in sweep.lines if line.get_marker() == "o" and line.get_alpha()]
    assert sorted(y for line in dots for y in line.get_ydata()) == [10, 11, 12, 13, 20, 21, 22, 23]


@pytest.mark.parametrize("arms", [["alphagrad-alpha10"], ["adam"], ["sgd", "rmsprop"]])
def test_any_set_of_arms_can_be_drawn(tmp_path: Path, arms: list[str]) -> None:
    some = study(tmp_path, arms, 1)
    assert render(learning_curves(some), "png").startswith(b"\x89PNG")
    figure = score_against_alpha(some)
    assert (figure is None) == ("alphagrad-alpha10" not in arms)
    assert figure is None or len(figure.axes) == 1


def test_a_study_without_an_episode_can_be_drawn(tmp_path: Path) -> None:
    records = [make_record(arm, score=None, returns=[None]) for arm in ("adam", "alphagrad-alpha1")]
    some = load_study(write_records(tmp_path / "ppo", *records))
    for figure in (learning_curves(some), score_against_alpha(some)):
        render(figure, "png")
        assert "No episode ended in any run." in texts(figure)


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_the_same_records_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    some = study(tmp_path, ["adam", "alphagrad-alpha10"], 3)
    first, second = (render(learning_curves(some), kind) for _ in range(2))
    assert first == second
    assert b"CreationDate" not in first
    assert b"Software" not in first
