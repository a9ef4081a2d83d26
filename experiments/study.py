"""A study: arms x seeds, less the runs that have a record, done by a launcher.

python -m experiments.study study=ppo scale=quick [launcher=slurm]
"""

import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import hydra
from hydra import compose
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from experiments.config import (
    STRICT,
    ConfigurationError,
    Count,
    exit_on_mistake,
    typed,
    validate,
)
from experiments.launch.launchers import make_launcher
from experiments.launch.progress import Watch
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
