"""The algorithm of a run as its configuration makes it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.trainings import assert_goes_on

from alphagrad import AlphaGrad
from alphagrad.sb3 import optimizers
from experiments import algorithms
from experiments.agents import fast
from experiments.mistakes import ConfigurationError
from experiments.training import Training
from experiments.validation import validate_settings


def test_the_names_in_the_runs_identities_stay() -> None:
    names = ("CleanRLDQN", "CleanRLTD3", "CleanRLPPO")
    assert [getattr(algorithms, name) for name in names] == [fast.DQN, fast.TD3, fast.PPO]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "ppo_cleanrl"])
def test_any_environment_without_a_protocol(make: Callable[..., Any], algorithm: str) -> None:
    model = make(f"algorithm={algorithm}", "environment.id=Acrobot-v1", "optimizer=alphagrad")
    if "ppo" in algorithm:
        model.n_steps = model.rollout_buffer.buffer_size = 64
        model.rollout_buffer.reset()
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(256)
    after = list(model.policy.parameters())
    assert any(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


SMALL = ["total_steps=120", "evaluation.points=1", "evaluation.episodes=1"]
ROLLOUTS = ["algorithm.n_steps=32", "algorithm.policy_kwargs.net_arch=[8]"]
REPLAY = ["algorithm.learning_starts=40", "algorithm.batch_size=16"]


@pytest.mark.parametrize(
    ("algorithm", "environment", "settings"),
    [
        ("sac", "Pendulum-v1", [*REPLAY, "algorithm.policy_kwargs.net_arch=[8]"]),
        ("ddpg", "Pendulum-v1", [*REPLAY, "algorithm.policy_kwargs.net_arch=[8]"]),
        ("a2c", "CartPole-v1", ["algorithm.policy_kwargs.net_arch=[8]"]),
        ("tqc", "Pendulum-v1", [*REPLAY, "algorithm.policy_kwargs.net_arch=[8]"]),
        ("qrdqn", "CartPole-v1", [*REPLAY, "algorithm.policy_kwargs.net_arch=[8]"]),
        ("trpo", "Pendulum-v1", [*ROLLOUTS, "algorithm.batch_size=16"]),
        ("crossq", "Pendulum-v1", [*REPLAY, "algorithm.policy_kwargs.net_arch={pi:[8],qf:[8]}"]),
    ],
)
def test_every_algorithm_trains_with_the_runs_optimizer_and_goes_on(
    make_training: Callable[..., Training], algorithm: str, environment: str, settings: list[str]
) -> None:
    arguments = [f"algorithm={algorithm}", f"environment.id={environment}", *SMALL, *settings]
    training = assert_goes_on(
        make_training, *arguments, "optimizer=alphagrad", "optimizer.alpha=10", same_episodes=True
    )
    apart = {"ent_coef_optimizer": "Adam"} if algorithm in ("sac", "tqc", "crossq") else {}
    assert training.outcome()["optimizer"].get("apart", {}) == apart
    own = {k: v for k, v in optimizers(training.model).items() if k not in apart}
    assert own
    assert {type(optimizer) for optimizer in own.values()} == {AlphaGrad}


@pytest.mark.parametrize("algorithm", ["sac", "ddpg", "a2c", "tqc", "qrdqn", "trpo", "crossq"])
def test_an_algorithm_with_adam_is_the_librarys_own(
    make: Callable[..., Any], algorithm: str
) -> None:
    environment = "CartPole-v1" if algorithm in ("a2c", "qrdqn") else "Pendulum-v1"
    model = make(f"algorithm={algorithm}", f"environment.id={environment}", "optimizer=adam")
    if algorithm in ("a2c", "trpo"):  # SB3's on-policy policies change Adam's epsilon
        policy_kwargs = {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": 1e-8}}
    else:
        policy_kwargs = None
    kind = type(model)
    stock = kind(model.policy_class, environment, policy_kwargs=policy_kwargs, seed=0)
    differing = {
        name
        for name, value in vars(stock).items()
        if isinstance(value, int | float | str | None) and value != vars(model)[name]
    }
    assert differing <= {"_custom_logger", "max_grad_norm"}  # infinite for None
    assert str(model.policy) == str(stock.policy)
    for name, optimizer in optimizers(stock).items():
        own = optimizers(model)[name].param_groups[0]
        for key in ("lr", "betas", "eps", "weight_decay"):
            assert own[key] == pytest.approx(optimizer.param_groups[0][key]), (name, key)


@pytest.mark.parametrize(("given", "fused"), [([], True), (["+optimizer.fused=false"], False)])
def test_adam_is_fused_unless_the_configuration_says_otherwise(
    make: Callable[..., Any], given: list[str], fused: bool
) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", *given)
    assert model.policy.optimizer.defaults["fused"] is fused


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["protocol=ppo_cleanrl", "total_steps=100"],
            r"total_steps = 100: should be at least one rollout of algorithm.n_steps \* .* = 2048",
        ),
        (
            ["protocol=dqn_cleanrl", "total_steps=20_000", "algorithm.train_freq=30_000"],
            r"at least one rollout of algorithm.train_freq \* environment.n_envs = 30000",
        ),
        (
            ["protocol=td3_cleanrl", "total_steps=25_000"],
            "total_steps = 25000: too few for an update with algorithm.learning_starts = 25000",
        ),
        (
            ["protocol=td3_cleanrl", "total_steps=25_001"],  # the critics', but not the actor's
            "algorithm.policy_delay = 2",
        ),
        (["protocol=dqn_cleanrl", "total_steps=10_000"], "learning_starts = 10000"),
        (["protocol=dqn_cleanrl", "algorithm.gradient_steps=0"], "gradient_steps = 0"),
    ],
)
def test_a_run_that_would_never_update_is_refused(
    make: Callable[..., Any], overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(*overrides, "optimizer=adam")


# By what their classes have as defaults: SAC and DDPG begin after 100 steps.
@pytest.mark.parametrize(
    ("algorithm", "settings", "n_envs", "least"),
    [
        ("SAC", {}, 1, 101),
        ("DDPG", {"learning_starts": 10}, 1, 11),
        ("TD3", {"learning_starts": 10, "train_freq": 2}, 1, 13),
        ("TD3", {"learning_starts": 10, "train_freq": 2, "gradient_steps": -1}, 1, 11),
        ("DQN", {}, 2, 97),
        ("A2C", {}, 3, 15),
        ("PPO", {"n_steps": 8}, 4, 32),
    ],
)
def test_every_algorithm_is_refused_before_it_is_made_if_it_would_never_update(
    algorithm: str, settings: dict[str, Any], n_envs: int, least: int
) -> None:
    def check(total_steps: int) -> None:
        validate_settings(
            {
                "algorithm": {
                    "_target_": f"stable_baselines3.{algorithm}",
                    **{"name": "any", "policy": "MlpPolicy", **settings},
                },
                "environment": {"id": "CartPole-v1", "n_envs": n_envs},
                "optimizer": {"_target_": "torch.optim.Adam", "name": "adam"},
                "total_steps": total_steps,
            }
        )

    check(least)
    with pytest.raises(ConfigurationError, match=f"total_steps = {least - 1}: "):
        check(least - 1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["protocol=td3_cleanrl", "algorithm.learning_starts=300", "total_steps=302"],
        ["protocol=dqn_cleanrl", "algorithm.learning_starts=300", "total_steps=301"],
        ["protocol=dqn_cleanrl", "algorithm.learning_starts=300", "total_steps=310"],
    ],
)
def test_the_shortest_run_that_is_accepted_updates_every_network(
    make: Callable[..., Any], overrides: list[str]
) -> None:
    model = make(*overrides, "optimizer=adam")
    model.learn(int(overrides[-1].partition("=")[2]))
    assert model._n_updates > 0
    for name, parameter in model.policy.named_parameters():
        assert parameter.grad is not None or "target" in name
