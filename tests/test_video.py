"""Videos of kept models."""

import os
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from experiments.mistakes import ConfigurationError
from experiments.runs.run import Run
from experiments.views import video
from experiments.views.tracking import wandb_id
from tests.test_tracking import records_of, wandb_files

ROOT = Path(__file__).parents[1]


def run(module: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )


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
        outcome = run(
            "train", *common, f"optimizer={optimizer}", f"runs={tmp_path}", WANDB_MODE="offline"
        )
        assert (outcome.returncode, outcome.stderr) == (0, "")
    folders = sorted(tmp_path.glob("ppo-*"))
    video = tmp_path / "two.mp4"
    arguments = [*map(str, folders), "--output", str(video), "--last", "20", "--size", "160"]
    outcome = run("views.video", *arguments, WANDB_MODE="offline")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert "returns adam " in outcome.stdout
    assert "alphagrad-alpha1 " in outcome.stdout
    pictures = np.stack(list(imageio.imiter(video)))
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
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str) -> None:
    outcome = run("views.video", *arguments)
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_missing_renderer_names_its_debian_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "GL_CHECK", "raise ImportError")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(ConfigurationError, match=r"apt-get install libegl1 .* or libosmesa6"):
        video.choose_renderer()
