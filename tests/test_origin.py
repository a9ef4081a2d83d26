"""Runs that begin where another one ended, or with a model's networks."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import stable_baselines3 as sb3
import torch
from hydra import compose, initialize_config_dir
from support.runs import ROOT, in_process, records
from support.trainings import assert_same_bits, without_times

from experiments.config import override
from experiments.runs.checkpoints import CheckpointFolder
from experiments.runs.run import Run
from experiments.train import train as do
from experiments.validation import validate

DQN = [
    *["algorithm=dqn", "environment.id=CartPole-v1", "algorithm.policy_kwargs.net_arch=[8]"],
    *["tracking=none", "algorithm.learning_starts=40", "evaluation.points=2"],
    # What depends on a run's length is the same in both.
    *["evaluation.episodes=1", "algorithm.exploration_initial_eps=0.05", "optimizer=alphagrad"],
]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: in_process(monkeypatch, capsys, *arguments)


def only(runs: Path) -> Path:
    [folder] = runs.glob("dqn-*")
    return folder


def test_a_finished_run_goes_on_to_more_steps_with_the_same_bits(
    train: Command, tmp_path: Path
) -> None:
    keep = ["checkpoint.keep=true", "total_steps=300"]
    code, _, errors = train(*DQN, *keep, "runs=whole")
    assert (code, errors) == (0, "")
    assert train(*DQN, *keep, "runs=half", "total_steps=200")[0] == 0
    origin = only(tmp_path / "half")
    code, _, errors = train(*DQN, *keep, "runs=more", f"origin={origin}")
    assert (code, errors) == (0, "")

    [half], [whole], [more] = (records(tmp_path / name) for name in ("half", "whole", "more"))
    assert (half["steps"], more["steps"]) == (200, 300)
    assert more["identity"] not in (half["identity"], whole["identity"])
    named = f"run {half['identity']} at step 200"
    assert more["configuration"] == whole["configuration"] | {"origin_name": named}
    ends = []
    for name in ("more", "whole"):
        checkpoint = CheckpointFolder(only(tmp_path / name) / "checkpoints").load()
        assert checkpoint is not None
        ends.append(without_times(checkpoint["training"]["snapshot"]))
    assert_same_bits(ends[0], ends[1])
    # Its curve is of its own steps.
    assert sum(more["curve"]["episodes"][:130]) == 0
    assert sum(half["curve"]["episodes"]) + sum(more["curve"]["episodes"]) == sum(
        whole["curve"]["episodes"]
    )
    assert more["evaluation"]["returns"][-1] == whole["evaluation"]["returns"][-1]

    code, output, _ = train(*DQN, *keep, "runs=more", f"origin={origin}")
    assert (code, "finished before" in output) == (0, True)


def test_a_run_begins_with_the_networks_of_a_model(train: Command, tmp_path: Path) -> None:
    assert train(*DQN, "total_steps=60", "keep_model=true", "runs=first")[0] == 0
    model = only(tmp_path / "first") / "model.zip"
    other = ["optimizer=adam", "total_steps=48", "keep_model=true"]
    other += ["algorithm.learning_rate=1e-30"]  # which leaves the networks as they were
    code, _, errors = train(*DQN, *other, "runs=second", f"origin={model}")
    assert (code, errors) == (0, "")
    policies = [
        sb3.DQN.load(only(tmp_path / name) / "model.zip").policy for name in ("first", "second")
    ]
    assert all(map(torch.equal, *(list(policy.parameters()) for policy in policies)))
    [record] = records(tmp_path / "second")
    name = record["configuration"]["origin_name"]
    assert name.startswith("model ")

    copy = tmp_path / "copy.zip"
    copy.write_bytes(model.read_bytes())
    code, output, _ = train(*DQN, *other, "runs=second", f"origin={copy}")  # by its content
    assert "finished before" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["origin=nowhere"], "origin = 'nowhere': should be a run's folder or a model.zip"),
        (["origin=half/ended"], "that was made with checkpoint.keep=true, or a model.zip"),
        (["origin=half/kept"], "total_steps = 60: should be more than the 60 that are done there"),
        (["origin=half/kept", "optimizer.alpha=3"], "optimizer should be as there"),
        (["origin=half/kept", "seed=3"], "seed should be as there, 0, and is 3; a model.zip"),
        (["origin=model.zip", "algorithm.policy_kwargs.net_arch=[9]"], "does not fit this run"),
        (["origin=broken.zip"], "origin = 'broken.zip': should be a run's folder or a model.zip"),
    ],
)
def test_an_origin_that_does_not_fit_is_refused_and_nothing_starts(
    arguments: list[str], words: str, halves: Path, train: Command
) -> None:
    for name in ("half", "model.zip", "broken.zip"):
        Path(name).symlink_to(halves / name)
    code, output, errors = train(*DQN, "total_steps=60", "runs=more", *arguments)
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1
    assert not Path("more").exists()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint of its end, one without, and a model."""
    folder = tmp_path_factory.mktemp("halves")
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        settings = [*DQN, "total_steps=60", "checkpoint.keep=true", "keep_model=true"]
        overrides = [*settings, override("runs", str(folder / "runs"))]
        run = Run(validate(compose("train", overrides)), overrides)
    do(run)
    (folder / "half").mkdir()
    (folder / "model.zip").write_bytes((run.folder / "model.zip").read_bytes())
    (folder / "broken.zip").write_bytes((run.folder / "model.zip").read_bytes()[:-300])
    shutil.copytree(run.folder, folder / "half/kept")
    shutil.copytree(run.folder, folder / "half/ended", ignore=lambda *_: ["checkpoints"])
    return folder
