"""One run, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from support.runs import ROOT, in_process, records, run_module, start_module

from experiments.runs.run import Run
from experiments.validation import validate

TINY = {
    "dqn_cleanrl": ["total_steps=1200", "algorithm.learning_starts=200"],
    "td3_cleanrl": ["total_steps=700", "algorithm.learning_starts=500"],
    "ppo_cleanrl": ["total_steps=6200", "algorithm.n_epochs=1"],
}
FIELDS = {
    *("schema_version", "identity", "status", "reason", "arm", "seed", "configuration", "steps"),
    *("curve", "final_score", "final_episodes", "evaluation", "metrics", "optimizer", "timing"),
    *("diagnostics", "provenance"),
}
DQN = ["protocol=dqn_cleanrl", "optimizer=adam", *TINY["dqn_cleanrl"], "evaluation.points=0"]
# An environment that does something at its hundredth step, and optimizers, as users bring them.
MODULE = """
import os, signal, sys, time, gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Mine(CartPoleEnv):
    steps = 0
    def __init__(self, then="", render_mode=None):
        super().__init__()
        self.then = then
    def step(self, action):
        Mine.steps += 1
        if Mine.steps == 100:
            exec(self.then)
        return super().step(action)

gym.registry.pop("Mine-v0", None)
gym.register("Mine-v0", Mine, max_episode_steps=500)
"""


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("experiments.train", *arguments, f"runs={folder}")


def statuses(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/status.json"))]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a module of the user's own."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("optimizer", "word"),
    [("alphagrad", "gradients not clipped"), ("rmsprop", None)],
)
def test_a_record_says_what_the_algorithm_sets_for_the_optimizer(
    optimizer: str,
    word: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["algorithm=ppo_cleanrl", "environment.id=Pendulum-v1", f"optimizer={optimizer}"]
    tiny = ["total_steps=256", "algorithm.n_steps=128", "evaluation.points=0", "tracking=none"]
    code, output, _ = in_process(monkeypatch, capsys, *arguments, *tiny, f"runs={tmp_path}")
    assert code == 0
    [record] = records(tmp_path)
    said = record["configuration"]["optimizer_settings"]
    clipping = record["configuration"]["algorithm"]["max_grad_norm"]
    line = "CleanRLPPO has no settings made for rmsprop, and takes those given, gradients clip"
    assert (line in output) == (word is None)
    assert (said is None, clipping) == ((True, 0.5) if word is None else (False, None))
    assert word is None or said.startswith(word)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_run_of_each_protocol_leaves_its_record(protocol: str, tmp_path: Path) -> None:
    arguments = [
        f"protocol={protocol}",
        *["optimizer=alphagrad", "optimizer.alpha=10", "seed=3"],
        *["evaluation.points=2", "evaluation.episodes=1", *TINY[protocol]],
    ]
    outcome = train(tmp_path, *arguments)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr == ""
    assert "completed" in outcome.stdout
    [record] = records(tmp_path)
    assert set(record) == FIELDS
    total = record["configuration"]["total_steps"]
    assert record["status"] == "completed"
    assert record["arm"] == "alphagrad-alpha10"
    assert record["steps"] == (6144 if protocol == "ppo_cleanrl" else total)
    assert len(record["evaluation"]["step"]) == 2
    assert all(len(returns) == 1 for returns in record["evaluation"]["returns"])
    assert sum(record["curve"]["episodes"]) >= record["final_episodes"] > 0
    assert len(record["curve"]["step"]) == 200
    # Momentum keeps one fp32 number for each parameter.
    assert record["optimizer"]["state_bytes"] == 4 * record["optimizer"]["parameters"] > 0
    assert any("loss" in name for name in record["metrics"])
    progress = pd.read_csv(next(tmp_path.glob("*/progress.csv")))
    assert "rollout/ep_rew_mean" in progress

    again = train(tmp_path, *arguments)
    assert again.returncode == 0
    assert "finished before" in again.stdout
    assert records(tmp_path) == [record]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_run_is_determined_by_its_configuration(protocol: str, tmp_path: Path) -> None:
    arguments = [f"protocol={protocol}", "optimizer=adam", "evaluation.points=1", *TINY[protocol]]
    pair = []
    for name in ("first", "second"):
        assert train(tmp_path / name, *arguments).returncode == 0
        [record] = records(tmp_path / name)
        assert record["optimizer"]["state_bytes"] == 8 * record["optimizer"]["parameters"]
        del record["timing"], record["provenance"]
        pair.append(record)
    assert pair[0] == pair[1]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", TINY)
def test_a_diverged_run_is_a_result(protocol: str, tmp_path: Path) -> None:
    outcome = train(
        tmp_path,
        *[f"protocol={protocol}", "optimizer=sgd", "algorithm.learning_rate=1e30"],
        *["evaluation.points=0", *TINY[protocol]],
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Traceback" not in outcome.stdout + outcome.stderr
    [record] = records(tmp_path)
    assert record["status"] == "diverged"
    assert f"at step {record['steps']}" in record["reason"]
    assert 0 < record["steps"] <= record["configuration"]["total_steps"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "joblib"])
def test_a_sweep_runs_in_the_users_folder_with_the_users_modules(
    launcher: str, elsewhere: Path
) -> None:
    sweep = [
        "-m",
        *DQN,
        "environment.id=mine:Mine-v0",
        "optimizer=glob(a*,exclude=adamw)",
        "seed=range(2)",
    ]
    outcome = run_module(
        "experiments.train", *sweep, f"hydra/launcher={launcher}", folder=elsewhere
    )
    assert outcome.returncode == 0, outcome.stderr
    arms = [(record["arm"], record["seed"]) for record in records(elsewhere / "runs")]
    assert sorted(arms) == [
        *[("adam", 0), ("adam", 1), ("alphagrad-alpha1", 0), ("alphagrad-alpha1", 1)]
    ]
    command = records(elsewhere / "runs")[0]["provenance"]["command"]
    assert command.startswith("python -m experiments.train protocol=dqn_cleanrl optimizer=adam ")


@pytest.mark.slow
def test_a_sweep_with_a_failed_run_ends_with_1_and_the_others_finish(elsewhere: Path) -> None:
    sweep = ["-m", *DQN, "environment.id=mine:Mine-v0"]
    sweep += ["+environment.kwargs.then=pass,'os._exit(0)'", "hydra.launcher.workers=2"]
    outcome = run_module("experiments.train", *sweep, folder=elsewhere)
    assert outcome.returncode == 1
    assert len(records(elsewhere / "runs")) == 1
    assert "its process ended with exit code 0" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize(
    "swept",
    [
        "optimizer.alpha=1,10,-1",
        "optimizer.alpha=range(3,-2,-1)",
        "optimizer.alpha=choice(1,-1)",
        "optimizer.alpha=tag(a,choice(1,-1))",
        "optimizer=glob(a*) optimizer.eps=1,-1",
        "device=cpu,tpu",
        "optimizer.alpha=interval(1,2)",
    ],
)
def test_every_kind_of_sweep_is_checked_before_it_starts(
    swept: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sweep = ["-m", "protocol=dqn_cleanrl", *swept.split(), f"runs={tmp_path}"]
    code, output, errors = in_process(monkeypatch, capsys, *sweep)
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["protocol=dqn_cleanrl", "optimizer.alpha=-1"], "Invalid alpha value: -1"),
        (["protocol=dqn_cartpol"], "protocol/dqn_cartpol"),
        (["algorithm=td3", "environment.id=CartPole-v1"], "Discrete"),
        (["protocol=ppo_cleanrl", "total_steps=9"], "total_steps = 9"),
        (["protocol=dqn_cleanrl", "device=cuda:99"], "device = 'cuda:99': torch finds"),
        (["protocol=dqn_cleanrl", "seed=range(2)"], "seed"),
        (["protocol=dqn_cleanrl", "optimizer.alpha"], "optimizer.alpha"),
        (["protocol=dqn_cleanrl", "runs="], "runs = ''"),
        (["protocol=dqn_cleanrl", "runs=/proc/x"], "runs = '/proc/x'"),
        (["protocol=dqn_cleanrl", "runs=/dev/null"], "runs = '/dev/null'"),
        (["protocol=dqn_cleanrl", "+environment.kwargs.no=3"], "'no'"),
        (["protocol=dqn_cleanrl", "environment.id=HalfCheetah-v2"], "gymnasium-robotics"),
        (["environment.id=no_such:E-v0"], "no_such cannot be imported: No module named 'no_such'"),
        (["algorithm=dqn"], "environment.id is not set: it has no default\n"),
        (["protocol=dqn_cleanrl", "--no-such"], "unrecognized arguments: --no-such"),
        (["protocol=dqn_cleanrl", "algorithm.buffer_size=1e15"], "Unable to allocate"),
        (["protocol=dqn_cleanrl", "environment.n_envs=1e15", "total_steps=1e17"], "MemoryError"),
        (["protocol=dqn_cleanrl", "algorithm.policy_kwargs.net_arch=[-1]"], "negative dimension"),
        (["--folder", "nowhere"], "nowhere/config.yaml: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_created(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = in_process(monkeypatch, capsys, *arguments)
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line_in_a_process_too(tmp_path: Path) -> None:
    outcome = train(tmp_path, "protocol=dqn_cleanrl", "optimizer.alpha=-1")
    assert (outcome.returncode, outcome.stdout, outcome.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("raise RuntimeError('a\\x1b[2Jb\\nc')", r"RuntimeError: a\x1b[2Jb c"),
        ("raise RuntimeError('key=' + 'a1' * 20)", "RuntimeError: key=***"),
        ("raise ValueError", "ValueError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("sys.exit(0)", "SystemExit: 0"),
    ],
)
def test_whatever_an_environment_raises_the_run_has_failed(
    then: str,
    reason: str,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = prepared(elsewhere, then)
    code, output, errors = in_process(monkeypatch, capsys, "--folder", str(run.folder))
    assert (code, errors) == (1, "")
    assert f"failed: {reason}" in output
    assert run.status["reason"] == reason
    told = (run.folder / "traceback.txt").read_text()
    assert "Traceback" in told
    assert "a1" * 20 not in told


def prepared(folder: Path, then: str) -> Run:
    """A run of an environment that does something at its hundredth step, in a prepared folder."""
    sys.modules.pop("mine", None)
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        overrides = [*DQN, "environment.id=mine:Mine-v0", "tracking=none"]
        run = Run(validate(compose("train", overrides)), overrides)
    run.config.environment.kwargs["then"] = then
    run = Run(run.config, overrides)
    assert run.prepare("running")
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_says_so_and_goes_on_later(
    number: signal.Signals,
    elsewhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = prepared(elsewhere, f"os.kill(os.getpid(), {int(number)})")
    earlier = signal.signal(number, signal.SIG_DFL)  # a shell's background ignores SIGINT
    code, output, errors = in_process(monkeypatch, capsys, "--folder", str(run.folder))
    signal.signal(number, earlier)
    going_on = "interrupted; the same command goes on from the last checkpoint\n"
    assert (code, output, errors) == (130, "", going_on)
    assert run.status["status"] == "interrupted"
    code, output, _ = in_process(monkeypatch, capsys, "--folder", str(run.folder))
    assert (code, run.status["status"]) == (0, "completed")
    assert "completed" in output


def test_a_copy_of_the_process_that_an_environment_makes_does_not_train(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared(elsewhere, "open('pids', 'a').write(f'{os.fork() or os.getpid()} ')")
    code, _, _ = in_process(monkeypatch, capsys, "--folder", str(run.folder))
    assert (code, run.status["status"]) == (0, "completed")
    [copy] = set((elsewhere / "pids").read_text().split())
    assert os.waitstatus_to_exitcode(os.waitpid(int(copy), 0)[1]) == 1


@pytest.mark.parametrize(
    ("module", "library", "number"),
    [
        ("experiments.train", "torch", signal.SIGTERM),
        ("experiments.study", "torch", signal.SIGHUP),
        ("scripts.figures", "matplotlib", signal.SIGINT),
    ],
)
def test_a_program_that_is_interrupted_while_it_starts_ends_with_one_line(
    module: str, library: str, number: signal.Signals, tmp_path: Path
) -> None:
    # Python prints what it imports: the signal comes while a library is being imported.
    process = start_module(module, "study=dqn", folder=tmp_path, PYTHONVERBOSE="1")
    assert process.stderr is not None
    for line in process.stderr:
        if f"import '{library}" in line:
            break
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 130
    # The signal may have cut a line of Python's own, behind which ours then stands.
    assert errors.count("interrupted\n") == 1
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_is_at_is_left_alone(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared(elsewhere, "pass")
    overrides = [*run.overrides, "+environment.kwargs.then=pass"]
    with run.lock():
        code, output, errors = in_process(monkeypatch, capsys, *overrides)
    assert (code, output) == (os.EX_TEMPFAIL, "")
    assert errors == f"{run.folder}: another process is at work on it\n"


def test_a_run_that_raises_leaves_its_traceback(tmp_path: Path) -> None:
    outcome = train(
        tmp_path,
        *["algorithm=ppo", "environment.id=CartPole-v1", "total_steps=4096"],
        *["algorithm.batch_size=64", "algorithm.n_steps=64", "algorithm.ent_coef=high"],
    )
    assert outcome.returncode == 1
    assert "failed: TypeError" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "Traceback" in next(tmp_path.glob("*/traceback.txt")).read_text()
    assert statuses(tmp_path)[0]["status"] == "failed"


def test_what_is_checked_and_made_needs_no_compiler() -> None:
    """Its import takes a second of every start."""
    code = (
        "import sys; from hydra import compose, initialize_config_dir as at\n"
        "from experiments.training import Training; from experiments.validation import validate\n"
        f"with at('{ROOT}/configs', version_base='1.3'):\n"
        "    for optimizer in ('adam', 'alphagrad', 'sgd'):\n"
        "        overrides = ['protocol=dqn_cleanrl', f'optimizer={optimizer}']\n"
        "        Training(validate(compose('train', overrides)))\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
