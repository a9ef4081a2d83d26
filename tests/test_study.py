"""A study, as a user starts it, interrupts it and starts it again."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from support.runs import publish, run_module

from experiments.launch.progress import Watch
from experiments.mistakes import ConfigurationError
from experiments.plan import Member
from experiments.runs.writing import write_json
from experiments.study import StudyRunConfig, run_study
from experiments.validation import typed

ROOT = Path(__file__).parents[1]
TINY = 'overrides=["total_steps=12000","algorithm.learning_starts=200","evaluation.points=1"]'


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        yield


def composed(*overrides: str) -> StudyRunConfig:
    container = OmegaConf.to_container(compose("study", list(overrides)), throw_on_missing=True)
    config: StudyRunConfig = typed("", StudyRunConfig, container)
    return config


def members(*overrides: str) -> list[Member]:
    return composed(*overrides).make_plan().members("tune")


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "experiments.study", "study=dqn", "scale=quick", TINY]
    command += [f"results={folder}/results", f"runs={folder}/runs", *overrides]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background with SIGINT ignored, which is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_the_time_left_counts_from_the_resumption(tmp_path: Path) -> None:
    resumed, new, *_ = missing = members(
        "study=dqn_dropped", f"results={tmp_path}", f"runs={tmp_path}/runs"
    )[:4]
    watch = Watch("dqn", 4, missing)
    total_steps = resumed.run.config.total_steps
    resumed.run.first_step = total_steps // 2
    resumed.run.report("running", total_steps * 3 // 4)
    new.run.report("running", total_steps // 4)
    line, completed, total = watch.look()
    assert line == "dqn: 0 of 4 runs done, 2 running, 0 failed"
    assert (completed, total) == (0.5, 3.5)

    resumed.run.report("completed", total_steps)
    record = {"schema_version": 1, "identity": resumed.run.identity}
    write_json(resumed.run.folder / "record.json", record)
    line, completed, total = watch.look()
    assert line == "dqn: 1 of 4 runs done, 1 running, 0 failed"
    assert (completed, total) == (0.75, 3.5)
    assert resumed.published


@pytest.mark.parametrize(
    "change",
    [{"schema_version": 0}, {"identity": "0123456789ab"}],
    ids=lambda change: next(iter(change)),
)
def test_a_record_of_something_else_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    [member, *_] = members("study=dqn_dropped", f"results={tmp_path}", f"runs={tmp_path}/runs")
    record = {"schema_version": 1, "identity": member.run.identity}
    write_json(member.record, record)
    assert member.published
    for path in (member.record, member.run.folder / "record.json"):
        write_json(path, record | change)
        with pytest.raises(ConfigurationError, match=f"{path}: {next(iter(change))} = "):
            member.run.read_record(path)
    with pytest.raises(ConfigurationError, match="move the file away"):
        member.publish()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "study"),
        (["study=dqm"], "study/dqm"),
        (["study=dqn", "scale=big"], "scale"),
        (["study=dqn", "stage=tuning"], "stage"),
        (["study=dqn", "overrides=[total_step=3]"], "total_step"),
        (["study=dqn", "task=Pendulum-v1"], "task = 'Pendulum-v1': should be one of CartPole-v1"),
        (["study=dqn", "study.seeds.tune=-1"], "study.seeds.tune"),
        (["study=dqn", 'overrides=["device=cuda:99"]'], "device = 'cuda:99': torch finds"),
        (["study=td3", 'overrides=["total_steps=25_000"]'], "total_steps = 25000: too few for an "),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.study", f"runs={tmp_path}", *arguments]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_study_goes_on_after_an_interrupt_and_skips_what_has_a_record(tmp_path: Path) -> None:
    seeds = ["study.quick.seeds.tune=2", "study.quick.seeds.confirm=1"]
    process = start(tmp_path, *seeds)
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(r": [1-5] of 6", line):
            process.send_signal(signal.SIGINT)
            break
    output, _ = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in output
    folder = tmp_path / "results/quick/records"
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert 1 <= len(kept) < 6

    process = start(tmp_path, *seeds)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"tune: 6 runs, {len(kept)} of them have a record" in output
    assert "tune: 6 of 6 runs done, 0 running, 0 failed" in output
    chosen = re.search(r"CartPole-v1, alphagrad: chosen is (alphagrad-alpha\d+)", output)
    assert chosen is not None
    assert "confirm: 2 of 2 runs done, 0 running, 0 failed" in output
    manifest = json.loads((tmp_path / "results/quick/dqn/study.json").read_text())
    planned = {run["identity"] for arm in manifest["arms"] for run in arm["runs"]}
    assert planned == {path.stem.rpartition("-")[2] for path in folder.iterdir()}
    confirmed = {
        arm["name"]: [run["seed"] for run in arm["runs"] if run["stage"] == "confirm"]
        for arm in manifest["arms"]
    }
    assert {name: found for name, found in confirmed.items() if found} == {
        "adam": [100],
        chosen[1]: [100],
    }
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())

    record = json.loads(next(iter(kept)).read_text())
    assert record["provenance"]["command"].startswith("python -m experiments.train optimizer=")

    # A fresh study ignores the results' records; what has finished under runs/ still counts.
    output, _ = start(tmp_path, "fresh=true", *seeds).communicate()
    assert "tune: 6 runs, 6 of them have a record" in output
    assert "confirm: 2 runs, 2 of them have a record" in output
    one = ["stage=tune", "study.quick.seeds.tune=1", "study.quick.values.alphagrad=[]"]
    process = start(tmp_path, "fresh=true", f"runs={tmp_path}/others", *one)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "1 runs, 0 of them have a record" in output
    assert len(list((tmp_path / "others").glob("*/record.json"))) == 1


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_finish(tmp_path: Path) -> None:
    # A folder where a file has to be: this one run cannot write, until it is gone.
    [*_, last] = members("study=dqn", "scale=quick", f"runs={tmp_path}/runs", TINY)
    (last.run.folder / "progress.csv").mkdir(parents=True)
    process = start(tmp_path, "study.quick.seeds.confirm=1")
    output, errors = process.communicate()
    assert process.returncode == 1
    assert "tune: 2 of 3 runs done, 0 running, 1 failed" in output
    assert "confirm: 1 of 1 runs done" in output  # the baseline's
    assert "CartPole-v1: alphagrad waits for 1 tuning runs of CartPole-v1" in errors
    assert f"no record: {last.run.folder}: IsADirectoryError" in errors
    assert "retry=failed" in errors
    assert "Traceback" not in errors

    (last.run.folder / "progress.csv").rmdir()
    process = start(tmp_path, "stage=tune")
    output, errors = process.communicate()
    assert process.returncode == 1
    assert "1 runs failed before and are left out" in output
    process = start(tmp_path, "retry=failed", "stage=tune")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "3 of 3 runs done" in output


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_run_only_and_that_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, "workers=1", "stage=tune")
    killed = None
    while killed is None:
        with suppress(subprocess.TimeoutExpired):  # leaves the cores to the runs
            process.wait(timeout=0.02)
        for checkpoint in (tmp_path / "runs").glob("*/checkpoints/step-*.pt"):
            killed = checkpoint.parents[1]
            worker = subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True)
            os.kill(int(worker), signal.SIGKILL)
            break
    output, errors = process.communicate()
    assert process.returncode == 1
    assert "2 of 3 runs done, 0 running, 1 failed" in output
    assert f"no record: {killed}: its process ended with SIGKILL" in errors
    process = start(tmp_path, "retry=failed", "stage=tune")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    record = json.loads((killed / "record.json").read_text())
    assert [resumption["same_episodes"] for resumption in record["provenance"]["resumed"]] == [True]


def test_a_run_that_another_study_has_is_not_run_again(tmp_path: Path) -> None:
    settings = [f"results={tmp_path}/results", f"runs={tmp_path}/runs", "study.seeds.tune=1"]
    settings.append("study.tasks.CartPole-v1.families=[adam]")
    [original] = members("study=dqn_dropped", *settings)
    publish(original.run, tmp_path / "results")
    config = composed("study=dqn_dropped", *settings, "study.name=other")
    assert run_study(config)
    assert not (tmp_path / "runs").exists()
    manifest = json.loads((tmp_path / "results/other/study.json").read_text())
    [arm] = manifest["arms"]
    assert arm["runs"] == [{"stage": "tune", "seed": 0, "identity": original.run.identity}]


def test_a_study_may_be_a_file_anywhere_and_its_plan_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "dqn.yaml").write_text(  # not the study of this name
        """
defaults:
  - families: paper
tasks:
  Pendulum-v1: {algorithm: td3, total_steps: 3_000}
families:
  adam: {values: [1.0e-3], default: 1.0e-3}
  alphagrad: {values: [1, 10]}
seeds: {tune: 2, confirm: 3}
"""
    )
    done = run_module("experiments.study", "study=./dqn.yaml", "plan=true", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert ["Pendulum-v1", "adam", "0 of 2", "0 of 6", "unknown", ""] in rows
    assert ["Pendulum-v1", "alphagrad", "0 of 4", "0 of 3", "unknown", ""] in rows
    assert [path.name for path in tmp_path.iterdir()] == ["dqn.yaml"]

    done = run_module("experiments.study", "study=no.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "no.yaml: there is no such file\n"
