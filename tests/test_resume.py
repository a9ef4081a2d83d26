"""A run that is killed goes on by itself, and ends with the same bits as one that was not."""

import csv
import json
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from support.trainings import assert_same_bits, without_times

from experiments.runs.checkpoints import CheckpointFolder

ROOT = Path(__file__).parents[1]
ALPHAGRAD = ["optimizer=alphagrad", "optimizer.alpha=10"]
RUNS = {
    "dqn_cleanrl": ["total_steps=6000", "algorithm.learning_starts=500", "optimizer=adam"],
    "td3_cleanrl": ["total_steps=900", "algorithm.learning_starts=300", *ALPHAGRAD],
    "ppo_cleanrl": ["total_steps=12500", "algorithm.n_epochs=1", *ALPHAGRAD],
}


def command(folder: Path, protocol: str, *more: str) -> list[str]:
    return [
        *[sys.executable, "-m", "experiments.train", f"protocol={protocol}", f"runs={folder}"],
        *["seed=1", *RUNS[protocol]],
        *["evaluation.points=3", "evaluation.episodes=1", "checkpoint.keep=true", *more],
    ]


def kill_at(arguments: list[str], folder: Path, step: int) -> None:
    """Start a run and kill it as soon as it has a checkpoint from ``step`` or later."""
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.returncode is None:
        with suppress(subprocess.TimeoutExpired):  # leaves the core to the run
            process.wait(timeout=0.02)
        steps = [int(path.name.split("-")[1]) for path in folder.glob("*/checkpoints/step-*.pt")]
        if steps and max(steps) >= step:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert process.returncode == -signal.SIGKILL


def outcome(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record without what may differ, and the training at its end."""
    record = json.loads(next(folder.glob("*/record.json")).read_text())
    del record["timing"]
    record["provenance"] = {"resumed": record["provenance"]["resumed"]}
    checkpoint = CheckpointFolder(next(folder.glob("*/checkpoints"))).load()
    assert checkpoint is not None
    return record, checkpoint["training"]["snapshot"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", RUNS)
def test_a_killed_run_ends_with_the_same_bits(protocol: str, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    total = int(RUNS[protocol][0].partition("=")[2])
    subprocess.run(command(undisturbed, protocol), cwd=ROOT, check=True, capture_output=True)
    generator = random.Random(protocol)
    first, second = sorted(generator.uniform(0.05, 0.8) * total for _ in range(2))
    kill_at(command(killed, protocol), killed, int(first))
    kill_at(command(killed, protocol), killed, int(second))
    subprocess.run(command(killed, protocol), cwd=ROOT, check=True, capture_output=True)

    expected, expected_training = outcome(undisturbed)
    record, training = outcome(killed)
    resumed = record["provenance"].pop("resumed")
    assert expected["provenance"].pop("resumed") == []
    assert 1 <= len(resumed) <= 2
    assert all(0 < resumption["step"] < total for resumption in resumed)
    assert all(resumption["same_episodes"] for resumption in resumed)
    assert record == expected
    assert_same_bits(without_times(training), without_times(expected_training))
    assert progress(killed) == progress(undisturbed)


def progress(folder: Path) -> list[dict[str, float]]:
    """All rows of a run's progress, by step, without what times them and what is empty."""
    timed = ("time/fps", "time/time_elapsed", "time/iterations")  # those of a process
    rows = [
        {name: float(value) for name, value in row.items() if value and name not in timed}
        for path in folder.glob("*/progress*.csv")
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    return sorted(rows, key=lambda row: row["time/total_timesteps"])


def test_a_damaged_checkpoint_is_reported_and_the_one_before_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.load() is None
    for step in (100, 200, 300):
        folder.save(step, {"step": step, "values": torch.arange(step)})
    newest, older = folder.paths()
    assert folder.load() == {"step": 300, "values": pytest.approx(torch.arange(300))}

    newest.write_bytes(newest.read_bytes()[:-10])
    loaded = folder.load()
    assert loaded is not None
    assert loaded["step"] == 200
    assert f"{newest}: damaged" in capsys.readouterr().err

    content = bytearray(older.read_bytes())
    content[len(content) // 2] ^= 1
    older.write_bytes(content)
    assert folder.load() is None
    folder.delete()
    assert not folder.folder.exists()


def test_a_checkpoint_cannot_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"path": Path("anything but plain data")})
    assert folder.load() is None
    assert "cannot be loaded: UnpicklingError" in capsys.readouterr().err
