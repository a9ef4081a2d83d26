"""A run's folder: what its files say, who may write them, and how another process finds it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support.runs import ROOT, make_run, outcome

from experiments.mistakes import ConfigurationError
from experiments.runs.run import Run, RunBusyError, read_config


def test_a_folder_names_the_run_for_people_and_by_identity(tmp_path: Path) -> None:
    run = make_run(tmp_path, seed=3)
    assert run.folder == tmp_path / f"dqn-CartPole-v1-adam-seed3-{run.identity}"
    assert len(run.identity) == 12


def test_what_a_run_leaves(tmp_path: Path) -> None:
    run = make_run(tmp_path, seed=3)
    assert run.record is None
    assert run.status == {}
    run.folder.mkdir()
    run.start()
    assert run.status["status"] == "running"
    run.report("running", 500)
    assert run.status["step"] == 500
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["seed"] == 3
    record = run.finish(None, outcome())
    assert run.record == record
    assert run.status["status"] == "completed"
    assert record["schema_version"] == 1
    assert record["arm"] == "adam"
    assert record["configuration"]["optimizer"] == {"_target_": "torch.optim.Adam", "eps": 1e-8}
    provenance = record["provenance"]
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["command"] == "python -m experiments.train seed=3"
    assert provenance["started"] <= provenance["finished"]
    assert provenance == json.loads((run.folder / "provenance.json").read_text()) | {
        "finished": provenance["finished"]
    }


@pytest.mark.parametrize("name", ["plain", "a b", "a'b\"c", "$x;{y}", "ü\n,=", "a\udcffb", "%x"])
def test_a_prepared_folder_is_all_that_a_process_needs(name: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / name, seed=3, total_steps=2000)
    assert run.prepare("pending")
    assert run.status["status"] == "pending"
    opened = Run.open(run.folder)
    assert opened.folder == run.folder
    assert opened.identity == run.identity
    assert opened.overrides == run.overrides
    assert opened.config == run.config
    run.folder.rename(tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: is that of dqn-CartPole"):
        Run.open(tmp_path / "other")


def test_a_damaged_configuration_names_its_file(tmp_path: Path) -> None:
    for content, words in (("seed: [", "damaged"), ("seed: 3\n", "algorithm._target_")):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(ConfigurationError) as raised:
            read_config(tmp_path)
        assert str(raised.value).startswith(f"{tmp_path}/config.yaml: ")
        assert words in str(raised.value)


@pytest.mark.parametrize("content", ["{}", '{"status": 3}', "[", '{"step": "x"}'])
def test_a_damaged_status_names_its_file_and_a_failure_mends_it(
    content: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    (run.folder / "status.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"status\.json: damaged"):
        _ = run.status
    run.fail("it broke")
    assert run.status["status"] == "failed"


def test_a_failure_keeps_step_reason_and_traceback_until_the_next_start(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    run.start()
    run.report("running", 123)
    run.fail("OSError: \x1b[2J no\nspace \udcff", "Traceback ...\udcff")
    assert run.record is None
    assert (run.status["status"], run.status["step"]) == ("failed", 123)
    assert run.status["reason"] == "OSError: \\x1b[2J no space \\udcff"
    assert (run.folder / "traceback.txt").read_text() == "Traceback ...\\udcff"
    run.start()
    assert not (run.folder / "traceback.txt").exists()


def test_what_finds_a_record_finishes_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    run.start()
    run.checkpoints.save(500, {})
    run.finish(None, outcome())
    run.report("running", 999)  # as if the process had been killed right after its record
    with run.lock():
        run.settle()
    assert run.status["status"] == "running"  # a process that is at work does it itself
    run.settle()
    assert (run.status["status"], run.status["step"]) == ("completed", 1000)
    assert not (run.folder / "checkpoints").exists()
    assert not run.prepare("running")


def test_a_prepared_run_is_reported_where_its_checkpoint_is(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.checkpoints.save(500, {})
    assert run.prepare("running")
    assert (run.status["step"], run.status["first_step"]) == (500, 500)


def test_versions_of_other_distributions_stand_in_the_provenance(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert "lion-pytorch" not in run.provenance["versions"]
    other = make_run(tmp_path)
    other.config.optimizer["_target_"] = "lion_pytorch.Lion"
    assert "lion-pytorch" in other.provenance["versions"]


def test_a_run_is_locked_by_one_process_and_free_when_that_dies(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from support.runs import make_run\n"
        "with make_run(Path(sys.argv[1])).lock(): print('locked', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    holder = subprocess.Popen(
        command,
        cwd=ROOT / "tests",
        env={"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    run = make_run(tmp_path)
    with pytest.raises(RunBusyError, match=str(run.folder)), run.lock():
        pass
    with pytest.raises(RunBusyError):
        run.prepare("running")
    holder.kill()
    holder.communicate()
    with run.lock(), pytest.raises(RunBusyError), make_run(tmp_path).lock():
        pass
