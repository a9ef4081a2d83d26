"""Videos of kept models."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from hydra import compose, initialize_config_dir
from PIL import Image
from support.runs import ROOT, TINY, run_module
from support.wandb_files import records_of, wandb_files

from experiments.mistakes import ConfigurationError
from experiments.runs.run import Run
from experiments.train import execute
from experiments.validation import validate
from experiments.views import video
from experiments.views.tracking import wandb_id


class Drawn(CartPoleEnv):
    """CartPole that says nothing of pictures per second, as environments of users' may."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012, as Gymnasium's


class Blind(CartPoleEnv):
    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def render(self) -> Any:
        return None


gym.register("Drawn-v0", f"{__name__}:Drawn", max_episode_steps=500)
gym.register("Blind-v0", f"{__name__}:Blind", max_episode_steps=500)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run, hardly trained, on an environment; trained when first asked for."""
    runs = tmp_path_factory.mktemp("runs")
    folders: dict[str, Path] = {}

    def folder_of(environment: str) -> Path:
        if environment not in folders:
            overrides = ["protocol=dqn_cleanrl", "optimizer=adam", f"environment.id={environment}"]
            overrides += [*TINY, "keep_model=true", "tracking=none", f"runs={runs}"]
            with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
                made = Run(validate(compose("train", overrides)), overrides)
            assert "completed" in execute(made)
            folders[environment] = made.folder
        return folders[environment]

    return folder_of


def skip_without_renderer() -> None:
    try:
        video.choose_renderer()
    except ConfigurationError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.mark.slow
def test_two_arms_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    skip_without_renderer()
    common = ["protocol=ppo_cleanrl", "total_steps=4096", "algorithm.n_epochs=1"]
    common += ["evaluation.points=1", "evaluation.episodes=1", "keep_model=true"]
    for optimizer in ("adam", "alphagrad"):
        outcome = run_module(
            *["experiments.train", *common, f"optimizer={optimizer}", f"runs={tmp_path}"],
            WANDB_MODE="offline",
        )
        assert (outcome.returncode, outcome.stderr) == (0, "")
    folders = sorted(tmp_path.glob("ppo-*"))
    output = tmp_path / "two.mp4"
    arguments = [*map(str, folders), "--output", str(output), "--last", "20", "--size", "160"]
    outcome = run_module("experiments.views.video", *arguments, WANDB_MODE="offline")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "returns adam " in outcome.stdout
    assert "alphagrad-alpha1 " in outcome.stdout
    pictures = np.stack(list(imageio.imiter(output)))
    assert pictures.shape == (20, 160, 320, 3)
    assert not np.array_equal(pictures[0], pictures[-1])

    # wandb has the video in the run that it belongs to.
    added = [records_of(path) for path in wandb_files(tmp_path)[2:]]
    assert len(added) == 2
    for records in added:
        [path] = [
            item["path"]
            for record in records
            if record["type"] == "files"
            for item in record["files"]["files"]
            if item["path"].startswith("media/videos/")
        ]
        assert path.endswith(".mp4")

    # The model acts as it did at the end of its run.
    actor = video.Actor(folders[0], size=32)
    assert wandb_id(Run(actor.config, [])) == (folders[0] / "wandb.id").read_text()
    record = Run(actor.config, []).record
    assert record is not None
    actor.reset(seed=1_000_000)  # as the first evaluation does
    while not actor.done:
        actor.step()
    assert actor.total == pytest.approx(record["evaluation"]["returns"][0][0], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: holds no model.zip; train the run with keep_model=true"),
        (["nowhere", "--output", "video.avi"], "should end in .mp4 or .gif"),
        (["nowhere", "--first", "9", "--last", "9"], "--first 9: should be at least 0, and below"),
        (["nowhere", "--size", "0"], "--size"),
        (["nowhere", "--output", "/dev/null/video.mp4"], "--output = '/dev/null'"),
    ],
)
def test_a_mistake_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        video.main(arguments)


def test_a_mistake_is_one_line() -> None:
    outcome = run_module("experiments.views.video", "nowhere")
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(("name", "delay"), [("Drawn-v0", 30), ("CartPole-v1", 20)])
def test_a_gif_has_the_environments_pace_without_pictures_too_fast_for_browsers(
    name: str, delay: int, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / "video.gif"
    video.main([str(trained(name)), "--output", str(output), "--last", "8", "--size", "32"])
    with Image.open(output) as gif:
        assert gif.info["duration"] == delay  # none, and 50 a second


@pytest.mark.parametrize(("rate", "delay", "pictures"), [(60, 30, 4), (100, 20, 4), (25, 40, 8)])
def test_pictures_too_many_for_a_gif_are_left_out(
    rate: float, delay: int, pictures: int, tmp_path: Path
) -> None:
    drawn = [np.full((8, 8, 3), 30 * index, np.uint8) for index in range(8)]
    video.write_gif(tmp_path / "video.gif", drawn, rate)
    with Image.open(tmp_path / "video.gif") as gif:
        assert (gif.info["duration"], getattr(gif, "n_frames", 1)) == (delay, pictures)


@pytest.mark.parametrize(
    ("name", "first", "words"),
    [
        ("CartPole-v1", "900", "--first 900: all episodes have ended at step "),
        ("Blind-v0", "0", "cannot be drawn"),
    ],
)
def test_nothing_is_left_of_a_video_without_pictures(
    name: str, first: str, words: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    for ending in ("gif", "mp4"):
        output = tmp_path / f"video.{ending}"
        with pytest.raises(ConfigurationError, match=words):
            video.main([str(trained(name)), "--output", str(output), "--first", first])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_is_named(trained: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained("CartPole-v1"), folder)
    os.truncate(folder / "model.zip", 1000)
    with pytest.raises(ConfigurationError, match=r"copy/model\.zip: cannot be read"):
        video.main([str(folder)])


def test_an_id_may_name_its_module() -> None:
    assert video.is_mujoco("gymnasium:HalfCheetah-v4")
    assert not video.is_mujoco("test_video:Drawn-v0")


def test_a_missing_renderer_names_its_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "GL_CHECK", "raise ImportError")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(ConfigurationError, match=r"apt-get install libegl1 .* or libosmesa6"):
        video.choose_renderer()
