"""Optimizers of other origin: any class of torch's conventions, in every algorithm's hands."""

import sys
from collections.abc import Callable

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from support.trainings import assert_goes_on

from alphagrad.sb3 import optimizers
from experiments.mistakes import ConfigurationError
from experiments.optimizers import Muon
from experiments.runs.run import third_party
from experiments.training import Training

MODULE = '''
import torch

class Mine(torch.optim.SGD):
    """Steps by the sign; its arguments have no types, and one goes by ** alone."""
    def __init__(self, params, lr, half=False, **others):
        super().__init__(params, lr=lr, **others)
        self.half = half
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(p.grad.sign(), alpha=group["lr"] / (1 + self.half))

class Open(torch.optim.Optimizer):
    def __init__(self, params, lr: "Rate" = 1e-3, **defaults):
        super().__init__(params, {"lr": lr, **defaults})
    step = Mine.step
    half = False

class Closure(Mine):
    def step(self, closure):
        closure()

class Forgetful(Mine):
    """Keeps the momentum where no state_dict has it."""
    steps = 0
    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(p.grad, alpha=group["lr"] / self.steps)
'''
DQN = [
    *[
        "algorithm=dqn",
        "environment.id=CartPole-v1",
        "evaluation.points=2",
        "evaluation.episodes=1",
    ],
    *["total_steps=160", "algorithm.learning_starts=40", "algorithm.policy_kwargs.net_arch=[8]"],
]


@pytest.fixture(scope="module", autouse=True)
def _module(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("users")
    (folder / "users_optimizers.py").write_text(MODULE)
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(folder)


def custom(target: str, *settings: str) -> list[str]:
    return [*DQN, "optimizer=custom", f"optimizer._target_={target}", *settings]


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("users_optimizers.Mine", ["optimizer.half=true", "optimizer.momentum=0.5"]),
        ("users_optimizers.Open", ["optimizer.anything=3"]),
        ("lion_pytorch.Lion", ["optimizer.betas=[0.9,0.98]"]),
        ("schedulefree.AdamWScheduleFree", ["optimizer.warmup_steps=10"]),
        ("torch.optim.NAdam", []),
        ("experiments.optimizers.Muon", ["optimizer.momentum=0.8"]),
    ],
)
def test_any_class_trains_and_goes_on_from_a_checkpoint(
    target: str, settings: list[str], make_training: Callable[..., Training]
) -> None:
    training = assert_goes_on(make_training, *custom(target, *settings), same_episodes=True)
    [optimizer] = optimizers(training.model).values()
    assert f"{type(optimizer).__module__}.{type(optimizer).__name__}".startswith(target[:4])
    assert training.config.optimizer["name"] == target.rpartition(".")[2].lower()
    for setting in settings:
        name, value = setting.removeprefix("optimizer.").split("=")
        found = vars(optimizer) | optimizer.param_groups[0]
        assert str(found[name]).lower().replace(" ", "").strip("()[]") == value.strip("[]")


def test_a_record_has_the_version_or_the_digest_of_an_optimizers_module(
    make_training: Callable[..., Training],
) -> None:
    assert third_party(make_training(*DQN, "optimizer=lion").config).keys() == {"lion-pytorch"}
    [(module, digest)] = third_party(make_training(*custom("users_optimizers.Mine")).config).items()
    assert module == "users_optimizers"
    assert digest.startswith("sha256:")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("users_optimizers.Closure", r"optimizer \(Closure\): its step needs a closure"),
        ("torch.optim.LBFGS", r"optimizer \(LBFGS\): its step needs a closure"),
        ("torch.optim.SparseAdam", "does not support dense gradients"),
        ("torch.optim.Muon", "only supports 2D parameters"),
        ("users_optimizers.Forgetful", r"checkpoint\.points = 20: Forgetful cannot go on"),
        ("users_optimizers.Missing", "no attribute 'Missing'"),
        ("no_such_package.Lion", "cannot be imported: No module named 'no_such_package'$"),
        ("???", r"optimizer\._target_ is not set"),
    ],
)
def test_what_cannot_be_driven_is_refused_by_name(
    target: str, message: str, make_training: Callable[..., Training]
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_training(*custom(target))


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, make_training: Callable[..., Training]
) -> None:
    monkeypatch.setitem(sys.modules, "lion_pytorch", None)
    with pytest.raises(ConfigurationError, match="pip install 'lion-pytorch' brings it"):
        make_training(*DQN, "optimizer=lion")


def test_a_schedule_free_optimizer_acts_with_its_average(
    make_training: Callable[..., Training],
) -> None:
    training = make_training(*custom("schedulefree.AdamWScheduleFree"))
    [optimizer] = optimizers(training.model).values()
    modes: list[tuple[str, bool]] = []

    class Acting(BaseCallback):
        def _on_step(self) -> bool:
            modes.append(("act", optimizer.param_groups[0]["train_mode"]))
            return True

    optimizer.register_step_pre_hook(
        lambda *_: modes.append(("learn", optimizer.param_groups[0]["train_mode"]))
    )
    assert training.learn(Acting()) is None
    assert set(modes) == {("act", False), ("learn", True)}
    assert optimizer.param_groups[0]["train_mode"] is False


def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest() -> None:
    torch.manual_seed(0)
    own = [torch.randn(4, 3), torch.randn(4), torch.randn(2, 1, 3, 3)]
    others = [tensor.clone() for tensor in own]
    muon = Muon(own, lr=0.1, weight_decay=0.5)
    expected = [
        torch.optim.Muon(others[:1], lr=0.1, weight_decay=0.5, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others[1:], lr=0.1, weight_decay=0.5),
    ]
    for step in range(4):
        for group in (g for optimizer in (muon, *expected) for g in optimizer.param_groups):
            group["lr"] = 0.1 / (step + 1)  # as SB3 sets it
        if step == 2:
            muon.load_state_dict(muon.state_dict())
        for tensor, other in zip(own, others, strict=True):
            tensor.grad = other.grad = torch.randn_like(tensor)
        assert muon.step(lambda: 3.0) == 3.0
        for optimizer in expected:
            optimizer.step()
        assert all(map(torch.equal, own, others))


def test_muon_takes_tensors_of_either_kind_alone() -> None:
    for tensor in (torch.ones(2, 2), torch.ones(2)):
        tensor.grad = torch.ones_like(tensor)
        Muon([tensor], lr=0.1).step()
        assert not torch.equal(tensor, torch.ones_like(tensor))
    with pytest.raises(ValueError, match="momentum"):
        Muon([torch.ones(2, 2)], momentum=-1)
