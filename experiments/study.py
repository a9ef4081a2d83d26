"""A study: arms x seeds, less the runs that have a record, done by a launcher.

python -m experiments.study study=ppo scale=quick [launcher=slurm]
"""

import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import hydra
from hydra import compose
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.config import (
    STRICT,
    ConfigurationError,
    Count,
    exit_on_mistake,
    typed,
    validate,
)
from experiments.launch.launchers import make_launcher
from experiments.launch.slurm import SlurmError
from experiments.runs.run import Run, write_json


@dataclass
class QuickConfig:
    """What ``scale=quick`` changes, so that a study ends in minutes and shows that all works.

    Attributes:
        arms: instead of the study's.
        seeds: instead of the study's.
        overrides: Hydra overrides for every run.
    """

    __pydantic_config__ = STRICT
    arms: list[str] = field(default_factory=list)
    seeds: Count = 2
    overrides: list[str] = field(default_factory=list)


@dataclass
class StudyConfig:
    """A protocol, its arms and its seeds.

    Attributes:
        name: of the study and of its folder under ``results``.
        protocol: one of ``configs/protocol``.
        arms: each a string of Hydra overrides separated by blanks.
        seeds: how many, from 0.
        quick: see `QuickConfig`.
    """

    __pydantic_config__ = STRICT
    name: str = "???"
    protocol: str = "???"
    arms: list[str] = field(default_factory=list)
    seeds: Count = 10
    quick: QuickConfig = field(default_factory=QuickConfig)


@dataclass
class StudyRunConfig:
    """One invocation of a study.

    Attributes:
        study: see `StudyConfig`.
        scale: ``paper``, or ``quick``, whose results go to a folder of their own.
        overrides: further Hydra overrides for every run, as ``overrides=["device=cuda"]``.
        fresh: run again what has a record under ``results``, but not what has one under ``runs``.
        retry: ``failed`` tries again what has failed before; ``none`` leaves it out.
        launcher: one of ``configs/launcher``; its settings are described in its class.
        workers: runs at a time; null leaves it to the launcher.
        results: the folder of the records that count.
        runs: the folder of the runs' folders.
    """

    __pydantic_config__ = STRICT
    study: StudyConfig = field(default_factory=StudyConfig)
    scale: Annotated[str, Field(pattern="^(paper|quick)$")] = "paper"
    overrides: list[str] = field(default_factory=list)
    fresh: bool = False
    retry: Annotated[str, Field(pattern="^(none|failed)$")] = "none"
    launcher: dict[str, Any] = field(default_factory=dict)
    workers: Count | None = None
    results: str = "results"
    runs: str = "runs"


ConfigStore.instance().store(name="study_schema", node=StudyRunConfig)


@dataclass
class Member:
    """One run of a study.

    Attributes:
        run: the run.
        record: where its record is published.
    """

    run: Run
    record: Path

    @property
    def published(self) -> bool:
        """Whether the results have its record."""
        return self.run.read_record(self.record) is not None

    def publish(self, others: dict[str, Path] | None = None) -> bool:
        """Copy the run's record to the results, under the study's label; whether there is one.

        Args:
            others: where else its record may lie, by identity: see `recorded`.
        """
        record = self.run.record
        if record is None and others and self.run.identity in others:
            record = self.run.read_record(others[self.run.identity])
        if record is not None:
            write_json(self.record, record | {"arm": self.run.config.optimizer["name"]})
        return record is not None


def recorded(results: Path) -> dict[str, Path]:
    """The records of all studies by the identity that ends their names: studies may share runs."""
    return {path.stem.rpartition("-")[2]: path for path in sorted(results.glob("*/records/*.json"))}


def members(config: StudyRunConfig) -> list[Member]:
    """The runs of a study, seed by seed, so that all arms grow together.

    Raises:
        ConfigurationError: for a setting that is wrong, or two arms that are the same.
    """
    study, quick = config.study, config.scale == "quick"
    arms = study.quick.arms if quick else study.arms
    seeds = study.quick.seeds if quick else study.seeds
    name = f"{study.name}-quick" if quick else study.name
    common = [f"protocol={study.protocol}", f"runs={config.runs}", f"tracking.group={name}"]
    common += (study.quick.overrides if quick else []) + config.overrides
    folder = Path(config.results) / name / "records"
    all_overrides = [arm.split() + common for arm in arms]
    configs = [validate(compose("train", overrides)) for overrides in all_overrides]
    for kind, keys in (
        ("label", [arm_config.optimizer["name"] for arm_config in configs]),
        ("configuration", [arm_config.identity() for arm_config in configs]),
    ):
        if repeated := [arm for arm, key in zip(arms, keys, strict=True) if keys.count(key) > 1]:
            raise ConfigurationError(f"study {study.name}: arms of one {kind}: {repeated}")
    found = []
    for seed in range(seeds):
        for overrides, arm_config in zip(all_overrides, configs, strict=True):
            run = Run(replace(arm_config, seed=seed), [*overrides, f"seed={seed}"])
            file = f"{arm_config.optimizer['name']}-seed{seed}-{run.identity}.json"
            found.append(Member(run, folder / file))
    return found


class Watch(threading.Thread):
    """Publishes records as runs finish, and shows one line for the study.

    On a terminal the line is redrawn; elsewhere it is printed when a run has started or ended, and
    once a minute.

    Args:
        label: what to call the study.
        total: runs of the study, with those that have a record already.
        missing: the runs to watch.
    """

    INTERVAL = 1.0
    LINE_INTERVAL = 60.0
    WARM_UP = 15.0  # seconds before a pace means anything

    def __init__(self, label: str, total: int, missing: list[Member]) -> None:
        super().__init__(daemon=True)
        self.label = label
        self.total = total
        self.missing = missing
        self.unpublished = list(missing)
        self.finished = threading.Event()
        self.began = datetime.now(UTC).isoformat(timespec="seconds")
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            disable=not sys.stdout.isatty(),
        )
        self.task = self.progress.add_task(label, total=len(missing))

    def run(self) -> None:
        """Look at the runs' folders once a second until the watch is left."""
        shown, next_line = "", 0.0
        with self.progress:
            while True:
                last = self.finished.wait(self.INTERVAL)
                try:
                    line, completed, total = self.look()
                    self.progress.update(self.task, completed=completed, total=total)
                except OSError as error:  # the disk is full, say: try again
                    line = f"{self.label}: {error}"
                self.progress.update(self.task, description=line)
                now = time.monotonic()
                if self.progress.disable and (line != shown or now >= next_line):
                    shown, next_line = line, now + self.LINE_INTERVAL
                    print(f"{line}{self.time_left()}", flush=True)
                if last:
                    return

    def look(self) -> tuple[str, float, float]:
        """Publish what is new.

        Returns:
            The study's line; of its work, in runs, what is done and what there is in all, neither
            with what runs had done before they were resumed.
        """
        self.unpublished = [member for member in self.unpublished if not member.publish()]
        unpublished = {member.record for member in self.unpublished}
        # A status from before this study began is that of an interrupted run.
        found = [(member.record, member.run.status) for member in self.missing]
        found = [pair for pair in found if pair[1].get("updated", "") >= self.began]
        earlier = sum(status["first_step"] / status["total_steps"] for _, status in found)
        statuses = [status for record, status in found if record in unpublished]
        count = Counter(status["status"] for status in statuses)
        steps = sum(status["step"] / status["total_steps"] for status in statuses)
        ended = len(self.missing) - len(self.unpublished)
        done = self.total - len(self.unpublished)
        pending = f", {count['pending']} pending" if count["pending"] else ""
        line = (
            f"{self.label}: {done} of {self.total} runs done, {count['running']} running{pending}, "
            f"{count['failed']} failed"
        )
        return line, ended + steps - earlier, len(self.missing) - earlier

    def time_left(self) -> str:
        """The time left at the pace so far, for a plain line."""
        task = self.progress.tasks[self.task]
        elapsed = task.elapsed or 0.0
        if elapsed < self.WARM_UP or task.completed <= 0 or not task.remaining:
            return ""
        left = timedelta(seconds=round(elapsed * task.remaining / task.completed))
        return f", about {left} left"

    def __enter__(self) -> "Watch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.finished.set()
        self.join()


def run_study(config: StudyRunConfig) -> bool:
    """Do the runs that have no record yet; whether all have one now.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    launcher = make_launcher(config.launcher)
    found = members(config)
    label = f"{config.study.name} ({config.scale} scale)"
    others = {} if config.fresh else recorded(Path(config.results))
    missing = [m for m in found if (config.fresh or not m.published) and not m.publish(others)]
    print(f"{label}: {len(found)} runs, {len(found) - len(missing)} of them have a record")
    tried = missing
    if config.retry == "none":
        tried = [member for member in missing if member.run.status.get("status") != "failed"]
    if left_out := len(missing) - len(tried):
        print(f"{left_out} runs failed before and are left out; retry=failed tries them again")
    runs = [member.run for member in tried]
    launcher.check(runs)
    if tried:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the runs as Ctrl-C does
        try:
            with Watch(label, len(found) - left_out, tried):
                launcher.launch(runs, config.workers)
        except KeyboardInterrupt:
            print("interrupted; what has finished is kept, and the same command goes on")
            sys.exit(130)
        except (OSError, SlurmError) as error:  # the disk is full, say
            print(f"{error}; what has finished is kept", file=sys.stderr)
            return False
    without = [member.run for member in missing if member.run.record is None]
    for run in without:
        print(f"no record: {run.folder}: {run.status.get('reason')}", file=sys.stderr)
    if without:
        print("to try failed runs again, add retry=failed", file=sys.stderr)
    return not without


@hydra.main(version_base="1.3", config_path="../configs", config_name="study")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if a run has no record."""
    with exit_on_mistake():
        container = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        finished = run_study(typed("", StudyRunConfig, container))
    sys.exit(0 if finished else 1)


if __name__ == "__main__":
    with exit_on_mistake():
        main()
