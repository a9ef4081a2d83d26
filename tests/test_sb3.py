"""The policy_kwargs hook: six algorithms, saving and loading, refused inputs."""

import copy
import pickle
import runpy
import sys
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from support.sb3_models import (
    ALGORITHMS,
    APART,
    LEARNING_RATE,
    ONE_OPTIMIZER,
    TWO_OPTIMIZERS,
    alphas,
    assert_same,
    make,
    settings_of,
    tiny,
)

import alphagrad.sb3
from alphagrad import AlphaGrad
from alphagrad.sb3 import optimizers, policy_kwargs


class StepRecorder:
    """Checks every step of an optimizer against the rule, in float64 and by hand."""

    def __init__(self, optimizer: torch.optim.Optimizer, alpha: float, momentum: float) -> None:
        self.alpha, self.momentum, self.steps = alpha, momentum, 0
        self.before: list[np.ndarray[Any, Any]] = []
        self.gradients: list[np.ndarray[Any, Any]] = []
        self.velocities: dict[int, np.ndarray[Any, Any]] = {}
        optimizer.register_step_pre_hook(self.look)
        optimizer.register_step_post_hook(self.check)

    def look(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.tensors = [t for t in optimizer.param_groups[0]["params"] if t.grad is not None]
        self.before = [tensor.detach().double().numpy().copy() for tensor in self.tensors]
        self.gradients = [tensor.grad.double().numpy().copy() for tensor in self.tensors]

    def check(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for index, tensor in enumerate(self.tensors):
            gradient = self.gradients[index]
            update = np.tanh(self.alpha * gradient / (np.sqrt((gradient**2).sum()) + 1e-5))
            velocity = self.momentum * self.velocities.get(index, 0.0) + update
            self.velocities[index] = velocity
            expected = self.before[index] - LEARNING_RATE * velocity
            np.testing.assert_allclose(tensor.detach().numpy(), expected, atol=3e-7)
            moved = np.abs(tensor.detach().numpy() - self.before[index]).max()
            assert moved > 0 or not gradient.any()
        self.steps += 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_training_follows_the_rule(name: str) -> None:
    model = make(name, tiny(alpha=3.0, momentum=0.9))
    recorders = [
        StepRecorder(optimizer, 3.0, 0.9)
        for optimizer in optimizers(model).values()
        if isinstance(optimizer, AlphaGrad)
    ]
    assert len(recorders) == (2 if name in TWO_OPTIMIZERS else 1)
    model.learn(32)
    assert all(recorder.steps >= 4 for recorder in recorders)


@pytest.mark.parametrize("name", TWO_OPTIMIZERS)
def test_actor_and_critic_apart(name: str) -> None:
    hook = tiny(alpha=3.0, momentum=0.9, foreach=False, **APART)
    for _ in range(2):  # the hook can be used again
        model = make(name, hook)
        policy: Any = model.policy
        actor, critic = policy.actor, policy.critic
        assert_same(list(actor.parameters()), settings_of(model, "actor.optimizer")["params"])
        assert settings_of(model, "actor.optimizer")["alpha"] == 0.5
        assert settings_of(model, "actor.optimizer")["momentum"] == 0.9
        assert_same(list(critic.parameters()), settings_of(model, "critic.optimizer")["params"])
        assert settings_of(model, "critic.optimizer")["alpha"] == 30.0
        assert settings_of(model, "critic.optimizer")["momentum"] == 0.5
        for optimizer in (actor.optimizer, critic.optimizer):
            assert optimizer.param_groups[0]["foreach"] is False
            assert optimizer.param_groups[0]["lr"] == LEARNING_RATE
    recorders = [
        StepRecorder(actor.optimizer, 0.5, 0.9),
        StepRecorder(critic.optimizer, 30.0, 0.5),
    ]
    model.learn(14)
    assert all(recorder.steps >= 2 for recorder in recorders)


@pytest.mark.parametrize("name", TWO_OPTIMIZERS)
def test_only_one_of_two_given(name: str) -> None:
    model = make(name, tiny(alpha=3.0, critic={"alpha": 7.0}))
    assert alphas(model) == {"actor.optimizer": 3.0, "critic.optimizer": 7.0}
    model = make(name, tiny(torch.optim.Adam, actor={"betas": (0.5, 0.9)}))
    assert settings_of(model, "actor.optimizer")["betas"] == (0.5, 0.9)
    assert settings_of(model, "critic.optimizer")["betas"] == (0.9, 0.999)


def test_shared_features_extractor() -> None:
    # TD3's critic then starts with tensors of the actor, and SAC's gets a list without them.
    for name in ("td3", "sac"):
        model = make(name, tiny(share_features_extractor=True, **APART))
        assert alphas(model) == {"actor.optimizer": 0.5, "critic.optimizer": 30.0}


@pytest.mark.parametrize("name", ONE_OPTIMIZER)
def test_one_optimizer_has_no_actor_and_critic(name: str) -> None:
    hook = tiny(actor={"alpha": 1.0})
    with pytest.raises(ValueError, match=r"two optimizers \(TD3, DDPG, SAC\); \w+Policy has one$"):
        make(name, hook)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_optimizers_are_named_as_saved(name: str) -> None:
    found = optimizers(make(name, tiny()))
    roles = ["actor", "critic"] if name in TWO_OPTIMIZERS else ["policy"]
    expected = [f"{role}.optimizer" for role in roles]
    assert list(found) == expected + ["ent_coef_optimizer"] * (name == "sac")
    assert all(type(found[key]) is AlphaGrad for key in expected)
    if name == "sac":  # SB3 makes it, and policy_kwargs does not reach it
        assert type(found["ent_coef_optimizer"]) is torch.optim.Adam
        fixed = make(name, tiny(), ent_coef=0.1)
        assert list(optimizers(fixed)) == expected


@pytest.mark.parametrize(
    ("name", "apart"),
    [*((name, False) for name in ALGORITHMS), *((name, True) for name in TWO_OPTIMIZERS)],
)
def test_saved_and_loaded(name: str, apart: bool, tmp_path: Any) -> None:
    hook = tiny(alpha=3.0, momentum=0.9, alpha_scaling="sqrt", **(APART if apart else {}))
    model: Any = make(name, hook)
    model.learn(24)
    for optimizer in optimizers(model).values():
        if isinstance(optimizer, AlphaGrad):
            optimizer.param_groups[0]["alpha"] += 0.5  # as a schedule leaves it
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.env, policy_kwargs=hook, device="cpu")

    assert_same(model.get_parameters(), loaded.get_parameters())
    assert set(alphas(loaded).values()) == ({1.0, 30.5} if apart else {3.5})
    for optimizer in optimizers(loaded).values():
        if isinstance(optimizer, AlphaGrad):
            assert all("momentum_buffer" in state for state in optimizer.state.values())
            assert len(optimizer.state) > 0

    # The loaded model makes the same updates from the same data and random numbers.
    for one in (model, loaded):
        one.set_logger(model.logger)
        set_random_seed(1)
        if isinstance(one, OffPolicyAlgorithm):
            one.replay_buffer = model.replay_buffer
            one.train(gradient_steps=4, batch_size=4)
        else:
            one.rollout_buffer = model.rollout_buffer
            one.train()
    assert_same(model.get_parameters(), loaded.get_parameters())
    loaded.learn(24)


@pytest.mark.parametrize("name", TWO_OPTIMIZERS)
def test_policy_alone_is_saved_and_loaded(name: str, tmp_path: Any) -> None:
    policy = make(name, tiny(**APART)).policy
    policy.save(tmp_path / "policy")
    loaded: Any = type(policy).load(tmp_path / "policy", device="cpu")
    assert loaded.actor.optimizer.param_groups[0]["alpha"] == 0.5
    assert loaded.critic.optimizer.param_groups[0]["alpha"] == 30.0


def test_result_is_copied_and_pickled() -> None:
    hook = tiny(**APART)
    assert copy.deepcopy(hook) == hook
    assert pickle.loads(pickle.dumps(hook)) == hook


def test_arguments_are_sorted() -> None:
    result = policy_kwargs(alpha=2.0, weight_decay=0.1, net_arch=[4], ortho_init=False)
    assert result == {
        "optimizer_class": AlphaGrad,
        "optimizer_kwargs": {"alpha": 2.0, "weight_decay": 0.1, "eps": 1e-5},
        "net_arch": [4],
        "ortho_init": False,
    }
    assert policy_kwargs(torch.optim.SGD, momentum=0.9)["optimizer_kwargs"] == {"momentum": 0.9}
    assert policy_kwargs(eps=1e-3)["optimizer_kwargs"] == {"eps": 1e-3}
    rmsprop = policy_kwargs(torch.optim.RMSprop, alpha=0.9)
    assert rmsprop["optimizer_kwargs"] == {"alpha": 0.9, "eps": 1e-8}


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_eps_of_adam_is_its_own(name: str) -> None:
    bare = ALGORITHMS[name][0]("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]})
    assert settings_of(bare, "policy.optimizer")["eps"] == 1e-5  # SB3's choice
    model = make(name, tiny(torch.optim.Adam))
    assert type(model.policy.optimizer) is torch.optim.Adam
    assert settings_of(model, "policy.optimizer")["eps"] == 1e-8
    model = make(name, tiny(torch.optim.Adam, eps=1e-4))
    assert settings_of(model, "policy.optimizer")["eps"] == 1e-4


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"alpha": -1.0}, ValueError, "alpha"),
        ({"alpha": 0.0}, ValueError, "alpha"),
        ({"momentum": -0.1}, ValueError, "momentum"),
        ({"eps": -1e-5}, ValueError, "eps"),
        ({"actor": {"alpha": -1.0}}, ValueError, "alpha"),
        ({"critic": {"momentum": -1.0}}, ValueError, "momentum"),
        ({"actor": {"alfa": 1.0}}, TypeError, "alfa"),
        ({"critic": {"net_arch": [4]}}, TypeError, "net_arch"),
        ({"lr": 1e-3}, TypeError, "lr is set by the algorithm's learning_rate"),
        ({"actor": {"lr": 1e-3}}, TypeError, "lr is set by the algorithm's learning_rate"),
        ({"params": []}, TypeError, "params is set by SB3"),
        ({"optimizer": torch.optim.Adam, "alpha": 1.0}, TypeError, "Adam.* 'alpha'"),
        ({"optimizer": torch.optim.Adam, "momentum": 0.9}, TypeError, "Adam.* 'momentum'"),
        ({"optimizer": torch.optim.Adam, "critic": {"alpha": 1.0}}, TypeError, "'alpha'"),
        ({"optimizer": "adam"}, TypeError, "class of torch optimizers, not 'adam'"),
        ({"optimizer": torch.nn.Linear}, TypeError, "class of torch optimizers"),
        ({"optimizer_kwargs": {"alpha": 1.0}}, TypeError, "optimizer_kwargs"),
    ],
)
def test_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        policy_kwargs(**arguments)
    assert "\n" not in str(caught.value)


def test_without_sb3_the_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "alphagrad.sb3")
    for name in [name for name in sys.modules if name.partition(".")[0] == "stable_baselines3"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])  # nothing can be found
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'alphagrad\[sb3\]'"):
        runpy.run_path(alphagrad.sb3.__file__)
