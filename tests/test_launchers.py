"""Launchers: which GPU each run gets, what is refused before anything starts, runs at their end.

What needs a real Slurm is in tests/slurm.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import make_run, outcome

from experiments.launch import local, slurm
from experiments.launch.launchers import make_launcher
from experiments.launch.local import Local
from experiments.launch.slurm import Slurm, State
from experiments.mistakes import ConfigurationError
from experiments.runs.checkpoints import Checkpoint
from experiments.runs.run import Run


def runs(folder: Path, *devices: str) -> list[Run]:
    return [make_run(folder, seed=seed, device=device) for seed, device in enumerate(devices)]


@pytest.fixture
def two_faked_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is used: torch is only made to count two."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_faked_gpus")
def test_with_a_faked_count_of_gpus_each_takes_so_many_runs(tmp_path: Path) -> None:
    many = runs(tmp_path, *["cuda"] * 9)
    Local(runs_per_gpu=3).check(many)
    assert Local(runs_per_gpu=3).places(many, workers=100) == ["0", "1"] * 3
    assert Local(runs_per_gpu=3).places(many, workers=3) == ["0", "1", "0"]
    assert Local().places(runs(tmp_path, "cpu"), workers=4) == [None] * 4
    assert Local().places(runs(tmp_path, "cuda:1"), workers=2) == [None] * 2


@pytest.mark.usefixtures("two_faked_gpus")
def test_gpus_are_those_that_the_user_left_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert Local().places(runs(tmp_path, *["cuda"] * 3), workers=None)[:2] == ["5", "7"]


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a run's process be a line of Python instead of a training; ``folder`` is the run's."""

    def set_command(code: str) -> None:
        code = f"import os, sys, time, pathlib; folder = pathlib.Path(sys.argv[1])\n{code}"
        monkeypatch.setattr(local, "command", lambda: [sys.executable, "-c", code])

    return set_command


@pytest.mark.usefixtures("two_faked_gpus")
def test_with_a_faked_count_of_gpus_no_run_starts_on_a_full_one(
    tmp_path: Path, do: Callable[[str], None]
) -> None:
    do(
        "gpu = os.environ['CUDA_VISIBLE_DEVICES']; place = folder.parent / 'busy' / gpu\n"
        "mine = place / folder.name; place.mkdir(parents=True, exist_ok=True); mine.touch()\n"
        "(folder / 'seen').write_text(str(len(list(place.iterdir())))); mine.unlink()"
    )
    many = runs(tmp_path / "runs", *["cuda"] * 6)
    Local(runs_per_gpu=2).launch(many, workers=8)
    seen = [int((run.folder / "seen").read_text()) for run in many]
    assert set(seen) <= {1, 2}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", "exit code 0: it printed nothing"),
        ("print('a'); print('the \\x1b[31mlast\\n'); sys.exit(75)", "75: the \\x1b[31mlast"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("os.kill(os.getpid(), 40)", "signal 40"),
        ("(folder / 'record.json').write_text('[')", "record.json: damaged"),
        ("time.sleep(1000)", "was ended after launcher.run_timeout_min = 0.01 minutes"),
    ],
    ids=["exit 0", "exit 75", "SIGKILL", "real-time signal", "damaged record", "hang"],
)
def test_a_process_that_ends_without_a_record_has_failed(
    code: str, reason: str, tmp_path: Path, do: Callable[[str], None]
) -> None:
    do(code)
    [run] = runs(tmp_path, "cpu")
    Local(run_timeout_min=0.01 if "sleep" in code else None).launch([run], workers=1)
    assert run.status["status"] == "failed"
    assert reason in run.status["reason"]


def test_what_another_study_is_at_is_waited_for_and_what_it_finished_is_left_alone(
    tmp_path: Path, do: Callable[[str], None]
) -> None:
    finished, busy, free = runs(tmp_path, *["cpu"] * 3)
    finished.folder.mkdir()
    finished.start()
    finished.finish(None, outcome(steps=500))
    status = finished.status
    do("pass")
    with ExitStack() as lock:
        lock.enter_context(make_run(tmp_path, seed=1).lock())
        settle = free.fail

        def fail_and_free(reason: str, traceback: str = "") -> None:
            settle(reason, traceback)
            lock.close()  # when the free run ends, so does what the other study was at

        free.fail = fail_and_free  # type: ignore[method-assign]
        Local().launch([finished, busy, free], workers=1)
    assert finished.status == status
    assert busy.status["status"] == free.status["status"] == "failed"
    assert busy.status["started"] >= free.status["started"]


def test_an_interrupted_launch_stops_its_runs(tmp_path: Path, do: Callable[[str], None]) -> None:
    do("(folder / 'began').touch(); time.sleep(1000)")
    [run] = runs(tmp_path, "cpu")
    parent = os.getpid()

    class Impatient(Local):
        def has_ended(self, task: local.Task) -> bool:
            if (task.run.folder / "began").exists():
                assert os.getpid() == parent
                raise KeyboardInterrupt
            return super().has_ended(task)

    with pytest.raises(KeyboardInterrupt):
        Impatient().launch([run], workers=1)
    assert run.status["status"] == "interrupted"


def test_the_gpu_of_a_run_is_no_part_of_its_identity(tmp_path: Path) -> None:
    first, second = make_run(tmp_path, device="cuda"), make_run(tmp_path, device="cuda:3")
    assert first.identity == second.identity != make_run(tmp_path).identity


@pytest.mark.parametrize(
    ("launcher", "device", "words"),
    [
        (Local(), "cuda:7", r"device = 'cuda:7': torch finds \d CUDA devices"),
        (Slurm(), "cuda", r"launcher\.gpus_per_node = 0"),
        (Slurm(), "auto", "must be cpu or cuda"),
    ],
)
def test_a_device_that_cannot_be_is_refused(
    launcher: Any, device: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        launcher.check(runs(tmp_path, device))


def test_slurm_is_refused_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="there is no squeue here"):
        Slurm().check(runs(tmp_path, "cpu"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"mem_gb": -1}, "launcher.mem_gb = -1"),
        ({"gpus_per_nod": 1}, "did you mean launcher.gpus_per_node"),
        ({"timeout_min": "long"}, "launcher.timeout_min = 'long'"),
    ],
)
def test_settings_are_checked(setting: dict[str, Any], words: str) -> None:
    target = {"_target_": "experiments.launch.slurm.Slurm", "name": "slurm"}
    with pytest.raises(ConfigurationError, match=words):
        make_launcher(target | setting)


def test_a_task_has_ended_when_two_looks_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[dict[str, State] | Exception] = [
        {"7_0": State("COMPLETED"), "7_1": State("FAILED"), "7_2": State("RUNNING")},
        slurm.SlurmError("the controller is away"),
        {"7_0": State("COMPLETED"), "7_1": State("PENDING", "BeginTime")},
        {"7_1": State("RUNNING")},
    ]

    def faked_states() -> dict[str, State]:
        look = looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look

    monkeypatch.setattr(slurm, "task_states", faked_states)
    monkeypatch.setattr(slurm, "INTERVAL", 0.0)
    queue = slurm.Queue()
    found = [queue.look(["7_0", "7_1", "7_2"]) for _ in range(4)]
    assert found == [
        {"7_2": State("RUNNING")},
        {},
        {"7_0": State("COMPLETED"), "7_1": State("PENDING", "BeginTime")},
        {"7_0": slurm.FORGOTTEN, "7_1": State("RUNNING"), "7_2": slurm.FORGOTTEN},
    ]


def test_a_task_finds_its_run_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a 'b' $c\n\"d\" %e ü"
    [run, other] = runs(folder, "cpu", "cpu")
    for each in (run, other):
        assert each.prepare("pending")
    script = Slurm().script([run, other])
    Path(tmp_path / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    Path(tmp_path / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for index, each in enumerate([run, other]):
        subprocess.run(
            ["bash", "-c", script],
            env=environment | {"SLURM_ARRAY_TASK_ID": str(index)},
            check=True,
        )
        printed = (each.folder / "output.txt").read_text()
        assert f"--folder\n{each.folder}\n--task\n" in printed


def test_a_signal_waits_for_a_checkpoint_and_for_a_step() -> None:
    events: list[str] = []

    class FakedModel:
        num_timesteps = 0

    before = signal.getsignal(signal.SIGUSR2)
    try:
        checkpoint = Checkpoint(
            lambda: events.append("saved"), 1000, 1e9, lambda: events.append("left")
        )
        model = FakedModel()
        checkpoint.model = model  # type: ignore[assignment]
        checkpoint._on_training_start()
        checkpoint._on_rollout_start()
        os.kill(os.getpid(), signal.SIGUSR2)
        checkpoint._on_rollout_start()
        assert events == []  # it has come no further: Slurm decides
        model.num_timesteps = 10
        checkpoint._on_rollout_start()
        assert events == ["saved", "left"]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_comes_before_the_training_is_not_lost() -> None:
    script = """
import os, signal
from experiments import interrupts
interrupts.install()
os.kill(os.getpid(), signal.SIGUSR2)
from experiments.runs.checkpoints import Checkpoint
class FakedModel:
    num_timesteps = 0
checkpoint = Checkpoint(lambda: None, 1000, 1e9, lambda: print("left"))
checkpoint.model = FakedModel()
checkpoint._on_training_start()
checkpoint.model.num_timesteps = 10
checkpoint._on_rollout_start()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "left\n")
