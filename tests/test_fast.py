"""The fast layer against the classes below it, which go through SB3's modules and autograd."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.envs import FakeImageEnv
from torch import Tensor

from alphagrad.sb3 import optimizers
from experiments.agents import fast, native

DQN = ["protocol=dqn_cleanrl", "algorithm.learning_starts=500"]
TD3 = ["protocol=td3_cleanrl", "algorithm.learning_starts=300"]
PPO = ["protocol=ppo_cleanrl", "algorithm.n_epochs=15"]
PLAIN = [
    *["algorithm=ppo_cleanrl", "algorithm.clip_range_vf=null", "algorithm.n_steps=512"],
    "algorithm.n_epochs=15",
]
CASES = {
    "dqn-adam": ("DQN", [*DQN, "optimizer=adam"], 900),
    "dqn-alphagrad": ("DQN", [*DQN, "optimizer=alphagrad", "optimizer.alpha=10"], 900),
    # Clipped gradients and two environments.
    "dqn-clipped": (
        "DQN",
        [*DQN, "optimizer=adam", "algorithm.max_grad_norm=0.5", "environment.n_envs=2"],
        1200,
    ),
    "td3-adam": ("TD3", [*TD3, "optimizer=adam"], 320),
    "td3-alphagrad": ("TD3", [*TD3, "optimizer=alphagrad"], 320),
    # Observations in float64, actions in [-2, 2], time limits.
    "td3-pendulum": (
        "TD3",
        [
            *["algorithm=td3_cleanrl", "environment.id=Pendulum-v1", "optimizer=adam"],
            *["algorithm.learning_starts=300", "algorithm.policy_delay=1"],
        ],
        320,
    ),
    "ppo-adam": ("PPO", [*PPO, "optimizer=adam"], 2048),
    "ppo-alphagrad": ("PPO", [*PPO, "optimizer=alphagrad", "optimizer.alpha=10"], 2048),
    # Time limits to bootstrap, two environments, entropy, and actions in [-2, 2].
    "ppo-pendulum": (
        "PPO",
        [
            *[*PLAIN, "optimizer=adam", "environment.id=Pendulum-v1", "environment.n_envs=2"],
            *["algorithm.normalize_advantage=false", "algorithm.ent_coef=0.01"],
        ],
        1024,
    ),
    # Observations in float64, and a last minibatch of its own size.
    "ppo-hopper": (
        "PPO",
        [*PLAIN, "optimizer=alphagrad", "environment.id=Hopper-v4", "algorithm.batch_size=100"],
        512,
    ),
}
ELU = [
    "+algorithm.policy_kwargs.activation_fn._target_=hydra.utils.get_class",
    "+algorithm.policy_kwargs.activation_fn.path=torch.nn.ELU",
]
OFF_POLICY = [case for case in CASES if not case.startswith("ppo")]


def pair(make: Callable[..., Any], case: str) -> tuple[Any, Any]:
    """The fast model, and the one with SB3's modules, autograd and optimizer loop."""
    algorithm, overrides, _ = CASES[case]
    slow = [f"algorithm._target_=experiments.agents.cleanrl.{algorithm}"]
    if "optimizer=adam" in overrides:
        slow.append("+optimizer.fused=false")
    return make(*overrides), make(*overrides, *slow)


def assert_same_training(fast: Any, slow: Any) -> None:
    assert fast._n_updates == slow._n_updates >= 15
    logged = [
        {name: value for name, value in model.logger.name_to_value.items() if "train/" in name}
        for model in (fast, slow)
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5, abs=1e-5)
    torch.testing.assert_close(
        dict(fast.policy.named_parameters()),
        dict(slow.policy.named_parameters()),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("case", OFF_POLICY)
def test_the_first_updates_are_the_same(make: Callable[..., Any], case: str) -> None:
    fast, slow = pair(make, case)
    assert fast.networks is not None
    for model in (fast, slow):
        model.set_random_seed(model.seed)
        model.learn(CASES[case][2])
    assert fast.replay_buffer.pos == slow.replay_buffer.pos
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        value, expected = (
            getattr(m.replay_buffer, name)[: m.replay_buffer.pos] for m in (fast, slow)
        )
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert_same_training(fast, slow)


@pytest.mark.parametrize("case", [case for case in CASES if case not in OFF_POLICY])
def test_updates_on_a_rollout_are_the_same(make: Callable[..., Any], case: str) -> None:
    """MuJoCo makes much of the actions' rounding, so that both learn from the fast one's steps."""
    fast, slow = pair(make, case)
    assert fast.networks is not None
    for model in (fast, slow):
        model.set_random_seed(model.seed)
        _, callback = model._setup_learn(CASES[case][2])
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    steps = slice(None) if case == "ppo-pendulum" else slice(0, 3)
    for name in ("observations", "actions", "episode_starts", "rewards", "values", "log_probs"):
        value, expected = (getattr(m.rollout_buffer, name)[steps] for m in (fast, slow))
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    buffer = slow.rollout_buffer = fast.rollout_buffer
    tensors = [
        torch.from_numpy(array).flatten(0, 1) for array in (buffer.observations, buffer.actions)
    ]
    values, log_probability, _ = slow.policy.evaluate_actions(tensors[0].float(), tensors[1])
    np.testing.assert_allclose(buffer.values.flatten(), values.detach().flatten(), 1e-5, 1e-5)
    np.testing.assert_allclose(buffer.log_probs.flatten(), log_probability.detach(), 1e-5, 1e-5)
    for model in (fast, slow):
        model.set_random_seed(model.seed)
        model.train()
    assert_same_training(fast, slow)


@pytest.mark.parametrize("case", OFF_POLICY)
def test_every_later_update_is_the_same_from_the_same_parameters(
    make: Callable[..., Any], case: str
) -> None:
    """Rounding would grow from step to step, so each begins anew, and compared steps have length 0.

    Adam's first steps take nothing but the sign of an element; TD3's actor sees the critic's step.
    """
    fast, slow = pair(make, case)
    gradients: dict[Any, list[Tensor]] = {fast: [], slow: []}
    for model in (fast, slow):

        def keep(optimizer: Any, *_: object, found: list[Tensor] = gradients[model]) -> None:
            every = [p.grad for group in optimizer.param_groups for p in group["params"]]
            found.append(torch.cat([gradient.flatten() for gradient in every]))

        for optimizer in optimizers(model).values():
            optimizer.register_step_pre_hook(keep)
    fast.learn(CASES[case][2])
    slow.set_logger(fast.logger)
    slow.learn(1)
    slow.replay_buffer = fast.replay_buffer
    losses: list[dict[str, float]] = []
    rate, slow.lr_schedule = fast.lr_schedule, lambda _: 0.0
    for update in range(30):
        fast.lr_schedule = rate
        fast.train(gradient_steps=1, batch_size=64)
        fast.lr_schedule = slow.lr_schedule
        slow.set_parameters(fast.get_parameters())
        slow._n_updates = fast._n_updates
        losses.clear()
        for model in (fast, slow):
            gradients[model].clear()
            np.random.seed(update)  # noqa: NPY002, from which SB3 draws batches
            torch.manual_seed(update)
            model.train(gradient_steps=1, batch_size=64)
            losses.append({k: v for k, v in model.logger.name_to_value.items() if "loss" in k})
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
        for gradient, expected in zip(gradients[fast], gradients[slow], strict=True):
            assert (gradient - expected).norm() <= 1e-5 * expected.norm()
        targets = [
            {name: value for name, value in model.policy.state_dict().items() if "target" in name}
            for model in (fast, slow)
        ]
        torch.testing.assert_close(*targets)


@pytest.mark.parametrize("case", ["dqn-adam", "td3-adam"])
@pytest.mark.parametrize("column", ["rewards", "observations", "next_observations"])
def test_the_fast_path_hides_no_nan(make: Callable[..., Any], case: str, column: str) -> None:
    model = make(*CASES[case][1])
    model.learn(520)
    getattr(model.replay_buffer, column)[:520] = math.nan
    model.train(gradient_steps=1, batch_size=32)
    losses = [value for name, value in model.logger.name_to_value.items() if "loss" in name]
    assert any(math.isnan(loss) for loss in losses)
    assert any(parameter.isnan().any() for parameter in model.policy.parameters())


@pytest.mark.parametrize("case", ["dqn-adam", "td3-adam", "ppo-pendulum"])
def test_a_loaded_model_trains_its_own_parameters(
    make: Callable[..., Any], case: str, tmp_path: Path
) -> None:
    _, overrides, steps = CASES[case]
    model = make(*overrides)
    model.learn(steps)
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.get_env())
    torch.testing.assert_close(
        loaded.policy.state_dict(), model.policy.state_dict(), rtol=0, atol=0
    )
    observation = model.get_env().reset()
    action, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)
    before = [parameter.clone() for parameter in loaded.policy.parameters()]
    loaded.learn(steps, reset_num_timesteps=True)
    after = list(loaded.policy.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


PENDULUM_PPO = ["algorithm=ppo_cleanrl", "environment.id=Pendulum-v1", "algorithm.n_steps=64"]
NOT_FAST = {
    "td3": [*TD3, *ELU],
    "dqn": [*DQN, *ELU],
    "ppo": [*PENDULUM_PPO, *ELU],
    "discrete": ["algorithm=ppo_cleanrl", "environment.id=CartPole-v1", "algorithm.n_steps=64"],
    "gsde": [*PENDULUM_PPO, "+algorithm.use_sde=true"],
}


@pytest.mark.parametrize("case", NOT_FAST)
def test_other_policies_go_through_sb3_which_is_said(
    make: Callable[..., Any], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    native.say.cache_clear()
    model = make(*NOT_FAST[case], "optimizer=adam")
    assert model.networks is None
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(510 if case == "dqn" else 310)
    after = list(model.policy.parameters())
    changed = [not torch.equal(b, a) for b, a in zip(before, after, strict=True)]
    assert sum(changed) >= len(changed) / 2  # DQN's target does not move yet
    [line] = capsys.readouterr().err.splitlines()
    assert "MlpPolicy" in line


def test_images_go_through_sb3() -> None:
    images = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    model = fast.DQN("CnnPolicy", images, buffer_size=100, learning_starts=10)
    model.learn(20)
    assert model.networks is None


def test_another_optimizers_steps_are_its_own_which_is_said(
    make: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    native.say.cache_clear()
    model = make(*DQN, "optimizer=rmsprop")
    slow = make(*DQN, "optimizer=rmsprop", "algorithm._target_=experiments.agents.cleanrl.DQN")
    for each in (model, slow):
        each.set_random_seed(0)
        each.learn(600)
    for own, expected in zip(model.policy.parameters(), slow.policy.parameters(), strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
    [line] = capsys.readouterr().err.splitlines()
    assert "RMSprop" in line


@pytest.mark.parametrize("case", ["dqn-adam", "td3-adam", "ppo-pendulum"])
def test_parameters_that_are_set_or_copied_are_used(make: Callable[..., Any], case: str) -> None:
    _, overrides, steps = CASES[case]
    model, other = make(*overrides), make(*overrides, "seed=7")
    model.learn(steps)
    observation = model.get_env().reset()
    expected, _ = model.predict(observation, deterministic=True)
    copied = copy.deepcopy(model.policy), copy.deepcopy(model.networks)
    other.set_parameters(model.get_parameters())
    np.testing.assert_array_equal(other.predict(observation, deterministic=True)[0], expected)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(1)
    np.testing.assert_array_equal(other.predict(observation, deterministic=True)[0], expected)
    model.policy, model.networks = copied
    np.testing.assert_array_equal(model.predict(observation, deterministic=True)[0], expected)
    before = [parameter.clone() for parameter in other.policy.parameters()]
    other.learn(steps)
    after = list(other.policy.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))
