"""Weights & Biases and TensorBoard, as one output of SB3's logger.

A tracker never stops a run: one that fails is left out from there on, with one warning, and what
it has logged stays on disk. Below ``runs`` lie ``wandb/``, which ``make dashboard`` shows and
``make wandb-sync`` uploads, and ``tensorboard/<study>/<arm>/``.

A killed run goes on from a checkpoint and takes some steps again; they are logged once. wandb gets
no step that an earlier process has brought to the disk; TensorBoard's file and ``progress.csv``
lose what follows the checkpoint.
"""

import csv
import io
import json
import math
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import KVWriter

from experiments.config import arguments
from experiments.endings import one_line
from experiments.mistakes import masked
from experiments.runs.run import Run
from experiments.runs.writing import write_text

STEP = "global_step"
PROGRESS_STEP = "time/total_timesteps"
INIT_SECONDS = 10.0
FINISH_SECONDS = 30.0
SCALARS = ("status", "reason", "steps", "final_score", "final_episodes")


class Tracker(Protocol):
    """What a run's metrics are given to."""

    def log(self, row: dict[str, float], step: int) -> None:
        """Take the metrics of one environment step."""

    def finish(self, record: dict[str, Any] | None) -> None:
        """Take the record, None if the run was interrupted, and bring everything to the disk."""


class Trackers(KVWriter):
    """The trackers of a run that its configuration asks for, without those that have failed.

    Leave it as a context manager, and the trackers are finished.

    Args:
        run: the run, started.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.trackers: dict[str, Tracker] = {}
        self.record: dict[str, Any] | None = None

    def __enter__(self) -> "Trackers":
        asked = self.run.config.tracking
        if asked.wandb and os.environ.get("WANDB_MODE") != "disabled":
            self._start("wandb", lambda: Wandb(self.run))
        if asked.tensorboard:
            self._start("tensorboard", lambda: TensorBoard(self.run))
        return self

    def __exit__(self, *exception: object) -> None:
        for name, tracker in list(self.trackers.items()):
            self.guard(name, partial(tracker.finish, self.record))
        self.trackers.clear()

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Log the numbers among SB3's metrics; see ``KVWriter.write``."""
        numbers = {key: value for key, value in key_values.items() if isinstance(value, Real)}
        for name, tracker in list(self.trackers.items()):
            row = {
                key: float(value)
                for key, value in numbers.items()
                if name not in key_excluded.get(key, ())
            }
            self.guard(name, partial(tracker.log, row, step))

    def finish(self, record: dict[str, Any]) -> None:
        """Log the last evaluation, which came after SB3's last log, and keep the record."""
        self.record = record
        if record["evaluation"]["step"]:
            returns = record["evaluation"]["returns"][-1]
            self.write({"evaluation/return_mean": sum(returns) / len(returns)}, {}, record["steps"])

    def video(self, path: Path) -> None:
        """Log a video of the finished run, to wandb alone: TensorBoard has none."""
        tracker = self.trackers.get("wandb")
        if isinstance(tracker, Wandb):
            self.guard("wandb", partial(tracker.video, path))

    def close(self) -> None:
        """SB3's logger calls this; trackers end with the run."""

    def _start(self, name: str, make: Callable[[], Tracker]) -> None:
        def start() -> None:
            self.trackers[name] = make()

        self.guard(name, start)

    def guard(self, name: str, action: Callable[[], None]) -> None:
        """Do something with a tracker, which is left out from there on if it fails."""
        try:
            action()
        except Exception as error:  # whatever it is, the training goes on
            self.trackers.pop(name, None)
            warn(f"{name} is off for {self.run.folder}: {type(error).__name__}: {error}")


def warn(text: str) -> None:
    """Print one line on stderr, with whatever may be a key made unreadable."""
    print(f"tracking: {masked(one_line(text))}", file=sys.stderr, flush=True)


def group(run: Run) -> str:
    """Return the run's study, or what stands for it in a run without one."""
    config = run.config
    plain = f"{config.protocol or config.algorithm['name']}-{config.environment.id}"
    return config.tracking.group or plain


def family(run: Run) -> str:
    """Return the family of the run's optimizer, or what stands for it in a run without a study."""
    label: str = run.config.optimizer["name"]
    return run.config.tracking.job_type or label


def tracked_config(run: Run) -> dict[str, Any]:
    """Return the whole configuration; the optimizer's settings are plain keys too, for plots."""
    config = asdict(run.config)
    return config | {
        **arguments(config["optimizer"]),
        "learning_rate": config["algorithm"].get("learning_rate"),
        "arm": config["optimizer"]["name"],
        "group": group(run),
        "family": family(run),
        "identity": run.identity,
        "provenance": run.provenance,
    }


class Wandb:
    """A run in Weights & Biases: online with a key, else offline; ``WANDB_MODE`` decides otherwise.

    Where the server does not answer or refuses the key, the run is logged offline.

    Args:
        run: the run, started.
    """

    def __init__(self, run: Run) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # takes half a second

        # It looks for inputs of wandb's launch, whose import takes another half.
        wandb.sdk.wandb_run.Run._detect_and_apply_job_inputs = nothing  # type: ignore[method-assign, assignment]

        self.id = wandb_id(run)
        self.folder = Path(run.config.runs) / "wandb"
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier = self._folders()
        self.logged = max((last_step(path) for path in earlier), default=-1)
        self.row = self.logged
        mode = wandb.setup().settings.mode
        try:
            if mode == "online" and not wandb.login(prompt=False, verify=False):
                mode = "offline"
            self.wandb_run = self._init(run, mode)
        except (wandb.Error, TimeoutError) as error:
            if mode != "online":
                raise
            wandb.teardown()  # its service would still hold the id
            for path in self._folders() - earlier:  # nothing was logged there
                shutil.rmtree(path, ignore_errors=True)
            warn(f"wandb is offline for {run.folder} (make wandb-sync, later): {error}")
            self.wandb_run = self._init(run, "offline")
        self.wandb_run.define_metric(STEP)
        self.wandb_run.define_metric("*", step_metric=STEP)

    def _folders(self) -> set[Path]:
        return set(self.folder.glob(f"*run-*-{self.id}"))

    def _init(self, run: Run, mode: Any) -> Any:
        import wandb

        config = run.config
        commit = run.provenance["git"]["commit"]
        optimizer = config.optimizer["_target_"].rpartition(".")[2]
        tags = [config.algorithm["name"], config.environment.id, optimizer]
        return wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            id=self.id,
            resume="allow" if mode == "online" else None,
            group=group(run),
            job_type=family(run),
            name=f"{config.optimizer['name']}/{config.seed}",
            tags=[tag[:64] for tag in tags] + ([commit[:12]] if commit else []),
            config=tracked_config(run),
            dir=config.runs,
            mode=mode,
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                init_timeout=INIT_SECONDS,
                finish_timeout=FINISH_SECONDS,
                x_transaction_log_flush_interval=1,
            ),
        )

    def log(self, row: dict[str, float], step: int) -> None:
        """Log the metrics of an environment step, unless that was done before an interruption."""
        if step > self.logged:
            self.row = max(step, self.row + 1)  # wandb's own count, which has to grow
            self.wandb_run.log(row | {STEP: step}, step=self.row, commit=True)

    def video(self, path: Path) -> None:
        """Log a video of the finished run."""
        import wandb

        self.row += 1
        row = {"video": wandb.Video(str(path)), STEP: self.logged}
        self.wandb_run.log(row, step=self.row, commit=True)

    def finish(self, record: dict[str, Any] | None) -> None:
        """Leave the record as the summary and end the run."""
        if record is not None:
            summary = {name: record[name] for name in SCALARS}
            self.wandb_run.summary.update(summary | record["timing"] | record["optimizer"])
        self.wandb_run.finish(exit_code=0 if record else 1)


def nothing(_: object) -> None:
    """Do nothing."""


def wandb_id(run: Run) -> str:
    """Return the id of a run's folder in wandb: the run's identity, and digits of a new folder.

    Wandb does not take the id of a deleted run again.
    """
    path = run.folder / "wandb.id"
    if not path.exists():
        write_text(path, f"{run.identity}-{secrets.token_hex(3)}")
    return path.read_text()


def last_step(folder: Path) -> int:
    """Return the last environment step in one of wandb's folders, by wandb's own reader.

    It is -1 if there is none: a process that was killed in ``wandb.init`` leaves a folder without a
    file, or with an empty one.
    """
    path = next(folder.glob("*.wandb"), None)
    if path is None or path.stat().st_size == 0:
        return -1
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(json.loads(output)["summary"].get(STEP, -1))


def drop_later_rows(path: Path, step: int) -> None:
    """Remove from one of SB3's ``progress.csv`` what a run that goes on will write again.

    Args:
        path: the file.
        step: environment steps; rows beyond are removed.
    """
    content = path.read_text(errors="replace").replace("\0", "")  # a crash may leave anything
    reader = csv.DictReader(io.StringIO(content, newline=""))
    names = reader.fieldnames or []
    if PROGRESS_STEP not in names:
        return
    whole = [row for row in reader if None not in row.values()]  # not cut short by a kill
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in whole if float(row[PROGRESS_STEP] or "inf") <= step)
    write_text(path, text.getvalue())


def earlier_events(paths: list[Path], step: int) -> list[Any]:
    """Return the summaries up to an environment step in TensorBoard's files, each once."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = {}
    for path in paths:
        for content in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(content)
            if event.HasField("summary") and event.step <= step:
                found[content] = event
    return sorted(found.values(), key=attrgetter("step"))


class TensorBoard:
    """A run's event file, in ``tensorboard/<study>/<arm>/seed<seed>-<identity>``.

    Args:
        run: the run, started.
    """

    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        config = run.config
        name = f"seed{config.seed}-{run.identity}"
        folder = Path(config.runs, "tensorboard", group(run), config.optimizer["name"], name)
        # One file: several are read in the order of the clocks that named them.
        paths = sorted(folder.glob("*tfevents*"))
        events = earlier_events(paths, run.first_step)
        self.writer = SummaryWriter(str(folder), filename_suffix=f".{secrets.token_hex(3)}")
        file = self.writer._get_file_writer()
        for event in events:
            file.add_event(event, walltime=event.wall_time)
        if not events:
            settings = tracked_config(run)
            plain = {k: v for k, v in settings.items() if isinstance(v, bool | int | float | str)}
            for summary in hparams(plain, {"final_score": math.nan}):
                file.add_summary(summary)
        self.writer.flush()
        for path in paths:
            path.unlink()

    def log(self, row: dict[str, float], step: int) -> None:
        """Write the metrics of an environment step."""
        for key, value in row.items():
            self.writer.add_scalar(key, value, step)

    def finish(self, record: dict[str, Any] | None) -> None:
        """Write the final score, the metric of TensorBoard's table of hyperparameters."""
        if record is not None and record["final_score"] is not None:
            self.writer.add_scalar("final_score", record["final_score"], record["steps"])
        self.writer.close()
