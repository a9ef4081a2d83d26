"""Launchers: which GPU each run gets, what is refused before anything starts, tasks at their end.

What needs a real Slurm is in tests/slurm.
"""

import os
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from support.runs import make_run

from experiments.launch import launchers, slurm
from experiments.launch.launchers import Local, Slurm, make_launcher
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
    assert Local(runs_per_gpu=3).places(many, workers=100) == ["cuda:0", "cuda:1"] * 3
    assert Local(runs_per_gpu=3).places(many, workers=3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert Local().places(runs(tmp_path, "cpu"), workers=4) == [None] * 4
    assert Local().places(runs(tmp_path, "cuda:1"), workers=2) == [None] * 2


@pytest.mark.usefixtures("two_faked_gpus")
def test_with_a_faked_count_of_gpus_no_run_starts_on_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: Counter[str] = Counter()
    most: Counter[str] = Counter()

    class FakedProcess:
        def __init__(self, run: Run, place: str) -> None:
            self.place, self.looks = place, 2 + run.config.seed % 3
            busy[place] += 1
            most[place] = max(most[place], busy[place])

        def poll(self) -> int | None:
            self.looks -= 1
            if self.looks:
                return None
            busy[self.place] -= 1
            return 0

    monkeypatch.setattr(launchers, "start_process", FakedProcess)
    Local(runs_per_gpu=2).launch(runs(tmp_path, *["cuda"] * 9), workers=8)
    assert most == {"cuda:0": 2, "cuda:1": 2}
    assert not +busy


def test_what_another_study_is_at_is_waited_for_and_what_it_finished_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished, busy, free = runs(tmp_path, *["cpu"] * 3)
    finished.start()
    finished.finish(None, {"steps": 500})
    status = finished.status
    started: list[Run] = []

    class FakedProcess:
        def __init__(self, run: Run, place: None) -> None:
            started.append(run)

        def poll(self) -> int:
            lock.close()  # when the free run ends, so does what the other study was at
            return 0

    monkeypatch.setattr(launchers, "start_process", FakedProcess)
    with ExitStack() as lock:
        lock.enter_context(make_run(tmp_path, seed=1).lock())
        Local().launch([finished, busy, free], workers=1)
    assert started == [free, busy]
    assert finished.status == status
    assert free.status["status"] == "running"


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
    target = {"_target_": "experiments.launch.launchers.Slurm", "name": "slurm"}
    with pytest.raises(ConfigurationError, match=words):
        make_launcher(target | setting)


def test_a_task_has_ended_when_two_looks_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[dict[str, str] | Exception] = [
        {"7_0": "COMPLETED", "7_1": "FAILED", "7_2": "RUNNING"},
        slurm.SlurmError("the controller is away"),
        {"7_0": "COMPLETED", "7_1": "PENDING"},
        {"7_1": "RUNNING"},
    ]

    def faked_states() -> dict[str, str]:
        look = looks.pop(0)
        if isinstance(look, Exception):
            raise look
        return look

    monkeypatch.setattr(slurm, "task_states", faked_states)
    monkeypatch.setattr(slurm, "INTERVAL", 0.0)
    queue = slurm.Queue()
    found = [queue.ended(["7_0", "7_1", "7_2"]) for _ in range(4)]
    assert found == [{}, {}, {"7_0": "COMPLETED"}, {"7_0": slurm.UNKNOWN, "7_2": slurm.UNKNOWN}]


def test_a_signal_waits_for_a_checkpoint() -> None:
    events: list[str] = []

    def requeue(number: int, frame: FrameType | None) -> None:
        events.append("requeued")

    class FakedModel:
        num_timesteps = 0

    before = signal.signal(signal.SIGUSR2, requeue)
    try:
        checkpoint = Checkpoint(
            lambda: events.append("saved"), 1000, 1e9, lambda: events.append("pending")
        )
        checkpoint.model = FakedModel()  # type: ignore[assignment]
        checkpoint._on_training_start()
        checkpoint._on_rollout_start()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert events == []
        checkpoint._on_rollout_start()
        assert events == ["saved", "pending", "requeued"]
        checkpoint._on_training_end()
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
