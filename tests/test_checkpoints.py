"""Checkpoints: which are kept, which is read, and what else lies in their folder."""

import os
from pathlib import Path

import pytest
import torch

from experiments.runs.checkpoints import CheckpointFolder


def saved(folder: CheckpointFolder, *steps: int) -> list[Path]:
    for step in steps:
        folder.save(step, {"step": step, "tensor": torch.ones(100)})
    return folder.paths()


def step_of(folder: CheckpointFolder) -> int | None:
    state = folder.load()
    return None if state is None else state["step"]


def test_the_last_two_are_kept_and_the_last_is_read(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert (folder.step, folder.load(), folder.paths()) == (0, None, [])
    assert len(saved(folder, 10, 20, 30)) == 2
    assert (folder.step, step_of(folder)) == (30, 30)
    folder.delete()
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_damaged_costs_one_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(tmp_path)
    newest, _ = saved(folder, 10, 20)
    os.truncate(newest, 100)
    assert step_of(folder) == 10
    assert capsys.readouterr().err == f"{newest}: damaged, passed over\n"


def test_after_two_that_are_damaged_new_ones_of_earlier_steps_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for path in saved(folder, 10, 20):
        os.truncate(path, 100)
    assert folder.load() is None
    saved(folder, 5)
    assert step_of(folder) == 5
    saved(folder, 8)
    assert step_of(folder) == 8
    assert [path.name[:17] for path in folder.paths()] == ["step-000000000008", "step-000000000005"]


def test_one_that_cannot_be_read_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = CheckpointFolder(tmp_path)
    newest, _ = saved(folder, 10, 20)
    newest.unlink()
    newest.mkdir()  # reading it is an error of the system's, as EIO is
    assert step_of(folder) == 10
    assert capsys.readouterr().err == f"{newest}: cannot be read: Is a directory, passed over\n"
    saved(folder, 15)
    assert step_of(folder) == 15


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    saved(folder, 10)
    foreign = [folder.folder / name for name in ("notes.txt", "step-12.pt", "step-x.pt")]
    for path in foreign:
        path.write_text("mine")
    saved(folder, 20, 30)
    assert step_of(folder) == 30
    folder.delete()
    assert sorted(folder.folder.iterdir()) == sorted(foreign)


def test_one_that_torch_refuses_is_passed_over(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    saved(folder, 10)
    folder.save(20, {"object": Path("x")})  # whole, but no plain data
    assert step_of(folder) == 10
