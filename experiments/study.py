"""A study: the runs that it plans, without those that have a record, done by a launcher.

python -m experiments.study study=ppo [stage=tune] [task=HalfCheetah-v4] [scale=quick]
python -m experiments.study study=my_study.yaml plan=true
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from rich.console import Console

from experiments.config import STRICT, Count
from experiments.forecast import as_table, forecast
from experiments.interrupts import EXIT_CODE, Interrupted
from experiments.launch.launchers import Launcher, make_launcher
from experiments.launch.progress import Watch
from experiments.launch.slurm import SlurmError
from experiments.mistakes import exit_on_mistake
from experiments.plan import Plan
from experiments.runs.reading import read_yaml
from experiments.study_config import CONFIRM, STAGES, TUNE, StudyConfig
from experiments.validation import plain, require_folder, typed


@dataclass
class StudyRunConfig:
    """One invocation of a study.

    Attributes:
        study: one of ``configs/study``, or the path of such a file; see `StudyConfig`.
        stage: ``tune``, ``confirm``, or ``all``: one after the other.
        task: only the runs of this task; null is all.
        scale: ``paper``, or ``quick``, whose results go to a folder of their own.
        overrides: further Hydra overrides for every run, as ``overrides=["device=cuda"]``.
        plan: only list what there is and what is left; nothing is started or written.
        fresh: run again what has a record under ``results``, but not what has one under ``runs``.
        retry: ``failed`` tries again what has failed before; ``none`` leaves it out.
        launcher: one of ``configs/launcher``; its settings are described in its class.
        workers: runs at a time; null leaves it to the launcher.
        results: the folder of the records that count.
        runs: the folder of the runs' folders.
    """

    __pydantic_config__ = STRICT
    study: StudyConfig = field(default_factory=StudyConfig)
    stage: Literal["tune", "confirm", "all"] = "all"
    task: str | None = None
    scale: Literal["paper", "quick"] = "paper"
    overrides: list[str] = field(default_factory=list)
    plan: bool = False
    fresh: bool = False
    retry: Literal["none", "failed"] = "none"
    launcher: dict[str, Any] = field(default_factory=dict)
    workers: Count | None = None
    results: str = "results"
    runs: str = "runs"

    def make_plan(self) -> Plan:
        """Return what the study plans at this scale.

        Raises:
            ConfigurationError: for a setting that is wrong.
        """
        return Plan(self.study, self.scale, Path(self.results), self.runs, self.overrides)


# Not as a schema: OmegaConf takes no whole number for a float within a mapping of lists.
ConfigStore.instance().store(name="study_schema", node=asdict(StudyRunConfig()))

FILE = "file-of-the-command-line"
"""What Hydra calls the study in a file that is named by its path."""


def run_study(config: StudyRunConfig) -> bool:
    """Do the runs that have no record yet; return whether all have one now.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    launcher = make_launcher(config.launcher)
    plan = config.make_plan()
    if config.plan:
        return show_plan(plan)
    require_folder("results", config.results)
    require_folder("runs", config.runs)
    finished = True
    for stage in STAGES if config.stage == "all" else [config.stage]:
        finished &= run_stage(config, plan, launcher, stage)
    return finished


def show_plan(plan: Plan) -> bool:
    """Print what a study has and what is left of it; return True.

    Raises:
        ConfigurationError: if a record is damaged.
    """
    for line in plan.choose():
        print(line)
    console = Console()
    console.print(as_table(forecast(plan)))
    console.print("Runs that have a record, of all that are planned; hours one after the other.")
    return True


def run_stage(config: StudyRunConfig, plan: Plan, launcher: Launcher, stage: str) -> bool:
    """Do the runs of one stage that have no record yet; return whether all have one now.

    Raises:
        ConfigurationError: for a setting that is wrong.
    """
    chosen = plan.choose()
    members = plan.members(stage, config.task)
    label = f"{config.study.name} ({config.scale} scale), {stage}"
    for member in members:
        member.run.settle()
    missing = [m for m in members if (config.fresh or not m.published) and not m.publish()]
    tried = missing
    if config.retry == "none":
        tried = [member for member in missing if member.run.status.get("status") != "failed"]
    runs = [member.run for member in tried]
    launcher.check(runs)
    for line in chosen:
        print(line)
    print(f"{label}: {len(members)} runs, {len(members) - len(missing)} of them have a record")
    if left_out := len(missing) - len(tried):
        print(f"{left_out} runs failed before and are left out; retry=failed tries them again")
    plan.write()
    if tried:
        try:
            with Watch(label, len(members) - left_out, tried):
                launcher.launch(runs, config.workers)
        except Interrupted:
            print("interrupted; what has finished is kept, and the same command goes on")
            sys.exit(EXIT_CODE)
        except (OSError, SlurmError) as error:  # the disk is full, say
            print(f"{error}; what has finished is kept", file=sys.stderr)
            sys.exit(1)
    without = [member.run for member in missing if member.run.record is None]
    for run in without:
        print(f"no record: {run.folder}: {run.status.get('reason')}", file=sys.stderr)
    if without:
        print("to try failed runs again, add retry=failed", file=sys.stderr)
    if stage == TUNE:
        for line in plan.choose():
            print(line)
        plan.write()
    waiting = plan.waiting(config.task) if stage == CONFIRM else []
    for line in waiting:
        print(line, file=sys.stderr)
    return not without and not waiting


@hydra.main(version_base="1.3", config_path="../configs", config_name="study")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if a run has no record."""
    with exit_on_mistake():
        finished = run_study(typed("", StudyRunConfig, plain(composed)))
    sys.exit(0 if finished else 1)


def accept_file(arguments: list[str]) -> list[str]:
    """Return a command line in which ``study=<path>.yaml`` names a study that Hydra knows.

    Raises:
        ConfigurationError: if the file cannot be read.
    """
    accepted = []
    for argument in arguments:
        setting, _, value = argument.partition("=")
        path = Path(value)
        if setting == "study" and path.suffix in (".yaml", ".yml"):
            content = {"name": path.stem, "title": path.stem} | read_yaml(path, dict)
            ConfigStore.instance().store(name=FILE, node=content, group="study")
            argument = f"study={FILE}"
        accepted.append(argument)
    return accepted


if __name__ == "__main__":
    with exit_on_mistake():
        sys.argv[1:] = accept_file(sys.argv[1:])
        study = any(argument.startswith("study=") for argument in sys.argv)
        if {"-h", "--help"} & set(sys.argv) and not study:  # Hydra would only miss it
            print(f"{__doc__}\nWith a study, --help lists all settings.")
        else:
            main()
