"""Videos of finished runs: their policies, side by side, with labels and returns.

python -m experiments.views.video RUN [RUN...] [--output FILE.mp4|FILE.gif]

A RUN is a folder below ``runs`` that was made with ``keep_model=true``. Each policy acts without
exploration in an environment of its own; all are reset with the same seed.
"""

import argparse
import itertools
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio
import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd
from hydra.utils import get_class
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from experiments import environments
from experiments.config import environment_spec
from experiments.endings import one_line
from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.runs.reading import read_json
from experiments.runs.run import Run, read_config
from experiments.training import MODEL, REFUSALS
from experiments.validation import require_folder
from experiments.views.tracking import Trackers

GL_PACKAGES = {"egl": "libegl1 libegl-mesa0 libgl1-mesa-dri", "osmesa": "libosmesa6"}
FRAME_RATE = 30.0
"""Pictures per second of an environment that says nothing of them."""
GIF_RATE = 50.0
GL_CHECK = "import mujoco; mujoco.GLContext(8, 8).make_current()"


class Actor:
    """A finished run's policy in an environment that can be seen.

    Args:
        folder: the run's folder.
        size: of a picture, in pixels.

    Attributes:
        label: the run's arm.
        total: the return of the episode so far.
        done: whether the episode has ended.

    Raises:
        ConfigurationError: if the run has no kept model.
    """

    def __init__(self, folder: Path, size: int) -> None:
        if not (folder / MODEL).exists():
            raise ConfigurationError(
                f"{folder}: holds no {MODEL}; train the run with keep_model=true"
            )
        self.folder = folder
        self.config = read_config(folder)
        self.label = self.config.optimizer["name"]
        algorithm: type[BaseAlgorithm] = get_class(self.config.algorithm["_target_"])
        self.model: BaseAlgorithm = loaded(
            folder / MODEL, lambda path: algorithm.load(path, device="cpu")
        )
        rendering: dict[str, Any] = {"render_mode": "rgb_array"}
        if is_mujoco(self.config.environment.id):
            # Gymnasium's own camera stands still; a model without this one keeps that.
            rendering |= {"width": size, "height": size, "camera_name": "track"}
        environment = replace(
            self.config.environment, kwargs=self.config.environment.kwargs | rendering
        )
        gamma = self.config.algorithm.get("gamma", 0.99)
        try:
            self.environment = environments.make(environment, gamma)
        except REFUSALS as error:
            line = f"{self.config.environment.id} cannot be drawn: {error}"
            raise ConfigurationError(one_line(line)) from error
        if environment.normalize:
            kept = loaded(folder / environments.STATISTICS, lambda path: dict(np.load(path)))
            statistics = RunningMeanStd(shape=kept["mean"].shape)
            statistics.mean, statistics.var = kept["mean"], kept["var"]
            environments.freeze_statistics(self.environment, statistics)
        self.vec_normalize: VecNormalize | None = None
        if environment.vec_normalize is not None:
            vector = DummyVecEnv([lambda: self.environment])
            self.vec_normalize = loaded(
                folder / environments.VEC_NORMALIZE,
                lambda path: VecNormalize.load(str(path), vector),
            )
        self.monitor = self.environment
        while not hasattr(self.monitor, "rewards"):  # SB3's Monitor, which sees raw rewards
            self.monitor = self.monitor.env  # type: ignore[attr-defined]
        self.size = size

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self.observation, _ = self.environment.reset(seed=seed)
        self.total, self.done = 0.0, False

    def step(self) -> None:
        """Act once; nothing if the episode has ended."""
        if self.done:
            return
        observation = self.observation
        if self.vec_normalize is not None:
            observation = self.vec_normalize.normalize_obs(observation)
        action, _ = self.model.predict(observation, deterministic=True)
        self.observation, _, terminated, truncated, _ = self.environment.step(action)
        self.done = terminated or truncated
        self.total = sum(self.monitor.rewards)  # type: ignore[attr-defined]

    def picture(self) -> Image.Image:
        """Return what is seen now, with the label and the return so far.

        Raises:
            ConfigurationError: if the environment cannot be drawn.
        """
        try:
            pixels = self.environment.render()
        except Exception as error:  # whatever an environment raises
            line = f"{self.config.environment.id} cannot be drawn: {error}"
            raise ConfigurationError(one_line(line)) from error
        if not isinstance(pixels, np.ndarray):
            raise ConfigurationError(f"{self.config.environment.id} cannot be drawn: no pixels")
        frame = Image.fromarray(pixels).resize((self.size, self.size))
        draw = ImageDraw.Draw(frame)
        text = f"{self.label}\nreturn {self.total:,.0f}"
        font = ImageFont.load_default(max(self.size // 16, 1))
        draw.text((8, 6), text, "white", font, stroke_width=2, stroke_fill="black")
        return frame


def loaded(path: Path, load: Callable[[Path], Any]) -> Any:
    """Return what a file of a run's folder holds.

    Raises:
        ConfigurationError: if it is not there, or damaged.
    """
    try:
        return load(path)
    except Exception as error:  # zip's, pickle's, torch's or NumPy's
        raise ConfigurationError(one_line(f"{path}: cannot be read: {error}")) from error


def is_mujoco(environment_id: str) -> bool:
    """Return whether an environment is one of Gymnasium's MuJoCo environments."""
    return "mujoco" in str(environment_spec(environment_id).entry_point)


def choose_renderer() -> None:
    """Set ``MUJOCO_GL`` to what draws off-screen here: EGL, or OSMesa.

    Raises:
        ConfigurationError: if neither does; it names the Debian packages that are missing.
    """
    backends = [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else list(GL_PACKAGES)
    for backend in backends:
        environment = os.environ | {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-c", GL_CHECK]
        if subprocess.run(command, env=environment, capture_output=True, check=False).returncode:
            continue
        os.environ.update(MUJOCO_GL=backend, PYOPENGL_PLATFORM=backend)
        return
    packages = " or ".join(GL_PACKAGES.get(backend, backend) for backend in backends)
    raise ConfigurationError(
        f"MuJoCo cannot draw off-screen with {' or '.join(backends)}: apt-get install {packages}"
    )


def frames(actors: list[Actor], seed: int, first: int, last: int) -> Iterator[np.ndarray]:
    """Yield pictures of all actors in a grid at steps in [first, last), while an episode goes on.

    Raises:
        ConfigurationError: if all episodes have ended before the first of these steps.
    """
    columns = math.ceil(math.sqrt(len(actors)))
    rows = math.ceil(len(actors) / columns)
    size = actors[0].size
    for actor in actors:
        actor.reset(seed)
    for step in track(range(last), "rendering", disable=not sys.stdout.isatty()):
        if step >= first:
            grid = Image.new("RGB", (columns * size, rows * size))
            for index, actor in enumerate(actors):
                grid.paste(actor.picture(), (index % columns * size, index // columns * size))
            yield np.asarray(grid)
        if all(actor.done for actor in actors):
            if step < first:
                raise ConfigurationError(f"--first {first}: all episodes have ended at step {step}")
            return
        for actor in actors:
            actor.step()


def frame_rate(environment: gym.Env[Any, Any]) -> float:
    """Return the pictures per second that an environment is made for, or what looks natural."""
    rate = environment.metadata.get("render_fps")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else FRAME_RATE


def write_gif(path: Path, pictures: Iterable[np.ndarray], rate: float) -> None:
    """Write a GIF small enough for a README: of 48 colours, without dithering.

    Browsers slow down a GIF of more than 50 pictures a second, so that some are left out of one.
    """
    every = math.ceil(rate / GIF_RATE)
    first, *others = [
        Image.fromarray(picture).quantize(48, dither=Image.Dither.NONE)
        for picture in itertools.islice(pictures, None, None, every)
    ]
    milliseconds = 10 * max(round(100 * every / rate), 2)  # GIF counts in hundredths of a second
    first.save(path, save_all=True, append_images=others, duration=milliseconds, loop=0)


def write_mp4(path: Path, pictures: Iterable[np.ndarray], rate: float) -> None:
    """Write an MP4 of all pictures."""
    with imageio.get_writer(path, fps=rate, macro_block_size=2) as writer:
        for picture in pictures:
            writer.append_data(picture)  # type: ignore[attr-defined]


def log_video(actor: Actor, path: Path) -> None:
    """Add a video to the run in wandb, if the run is tracked there."""
    record = read_json(actor.folder / "record.json")
    if record is None:
        return
    run = Run(replace(actor.config, runs=str(actor.folder.parent)), [])
    run.provenance = record["provenance"]
    with Trackers(run) as trackers:
        trackers.record = record
        trackers.video(path)


def main(arguments: list[str]) -> None:
    """Render what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m experiments.views.video", description=__doc__)
    parser.add_argument("run", type=Path, nargs="+", help="a finished run's folder")
    parser.add_argument("--output", type=Path, help="an .mp4 or a .gif; the first run's video.mp4")
    parser.add_argument("--seed", type=int, default=0, help="of the episode")
    parser.add_argument("--first", type=int, default=0, help="the first step that is drawn")
    parser.add_argument("--last", type=int, default=1000, help="stop before this step")
    parser.add_argument("--size", type=int, default=320, help="of one picture, in pixels")
    options = parser.parse_args(arguments)
    output: Path = options.output or options.run[0] / "video.mp4"
    if output.suffix not in (".mp4", ".gif"):
        raise ConfigurationError(f"--output {output}: should end in .mp4 or .gif")
    if not 0 <= options.first < options.last:
        raise ConfigurationError(f"--first {options.first}: should be at least 0, and below --last")
    if options.size < 1 or options.seed < 0:
        raise ConfigurationError("--size: should be at least 1; --seed: at least 0")
    require_folder("--output", str(output.parent))
    actors = [Actor(folder, options.size) for folder in options.run]
    if any(is_mujoco(actor.config.environment.id) for actor in actors):
        choose_renderer()
    pictures = frames(actors, options.seed, options.first, options.last)
    write = write_gif if output.suffix == ".gif" else write_mp4
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}{output.suffix}")
    try:
        write(unfinished, pictures, frame_rate(actors[0].environment))
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    returns = ", ".join(f"{actor.label} {actor.total:,.0f}" for actor in actors)
    print(f"{output}: returns {returns}")
    for actor in actors:
        log_video(actor, output)


if __name__ == "__main__":
    with exit_on_mistake():
        main(sys.argv[1:])
