"""PPO held against CleanRL's formulas, and its fast path against SB3's rollouts and autograd."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from experiments.agents.gaussian_mlp import GaussianMlp
from experiments.agents.ppo import CleanRLPPO
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from experiments import algorithms


def minibatch(model: CleanRLPPO) -> RolloutBufferSamples:
    """A minibatch far enough from the policy that every clipping takes effect."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    observations, actions = normal(64, 17), normal(64, 6)
    with torch.no_grad():
        values, log_probability, _ = model.policy.evaluate_actions(observations, actions)
    return RolloutBufferSamples(
        observations=observations,
        actions=actions,
        old_log_prob=log_probability + 0.3 * normal(64),
        old_values=values.flatten() + 0.5 * normal(64),
        advantages=normal(64),
        returns=normal(64),
    )


def differentiate_as_cleanrl(
    model: CleanRLPPO, b: RolloutBufferSamples, networks: object = None
) -> dict[str, torch.Tensor]:
    """The loss of ppo_continuous_action.py, with its names, through SB3's modules and autograd."""
    newvalue, newlogprob, entropy = model.policy.evaluate_actions(b.observations, b.actions)
    newvalue = newvalue.view(-1)
    logratio = newlogprob - b.old_log_prob
    ratio = logratio.exp()
    approx_kl = ((ratio - 1) - logratio).mean()
    clipfrac = ((ratio - 1.0).abs() > 0.2).float().mean()
    mb_advantages = b.advantages
    if model.normalize_advantage:
        mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
    pg_loss1 = -mb_advantages * ratio
    pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - 0.2, 1 + 0.2)
    pg_loss = torch.max(pg_loss1, pg_loss2).mean()
    v_loss_unclipped = (newvalue - b.returns) ** 2
    v_loss_max = v_loss_unclipped
    if model.clip_range_vf is not None:
        v_clipped = b.old_values + torch.clamp(newvalue - b.old_values, -0.2, 0.2)
        v_loss_max = torch.max(v_loss_unclipped, (v_clipped - b.returns) ** 2)
    v_loss = 0.5 * v_loss_max.mean()
    entropy_loss = entropy.mean()
    model.policy.optimizer.zero_grad()
    (pg_loss - model.ent_coef * entropy_loss + v_loss * model.vf_coef).backward()
    parts = {
        "policy_gradient_loss": pg_loss,
        "value_loss": v_loss,
        "entropy_loss": -entropy_loss,
        "approx_kl": approx_kl,
        "clip_fraction": clipfrac,
    }
    return {name: part.detach() for name, part in parts.items()}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("coefficient", [0.0, 0.01])
def test_ppo_loss_is_cleanrls(
    make: Callable[..., CleanRLPPO], fast: bool, coefficient: float
) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", f"algorithm.ent_coef={coefficient}")
    batch = minibatch(model)
    expected = differentiate_as_cleanrl(model, batch)
    expected_gradients = {n: p.grad.clone() for n, p in model.policy.named_parameters()}
    statistics = model.differentiate(batch, GaussianMlp(model.policy) if fast else None)
    torch.testing.assert_close(statistics, expected)
    gradients = {name: p.grad for name, p in model.policy.named_parameters()}
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("column", ["advantages", "returns", "observations"])
def test_ppo_hides_no_nan(make: Callable[..., CleanRLPPO], fast: bool, column: str) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam")
    batch = minibatch(model)
    getattr(batch, column)[3] = math.nan
    statistics = model.differentiate(batch, GaussianMlp(model.policy) if fast else None)
    actor, critic = model.policy.action_net.weight.grad, model.policy.value_net.weight.grad
    if column != "returns":
        assert statistics["policy_gradient_loss"].isnan()
        assert actor.isnan().any()
    if column != "advantages":
        assert statistics["value_loss"].isnan()
        assert critic.isnan().any()


PLAIN = ["algorithm=ppo_cleanrl", "algorithm.clip_range_vf=null", "algorithm.n_steps=512"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["protocol=ppo_cleanrl", "optimizer=adam"],
        ["protocol=ppo_cleanrl", "optimizer=alphagrad", "optimizer.alpha=10"],
        # Time limits to bootstrap, two environments, entropy, and actions in [-2, 2].
        [
            *[*PLAIN, "optimizer=adam", "environment.id=Pendulum-v1", "environment.n_envs=2"],
            *["algorithm.normalize_advantage=false", "algorithm.ent_coef=0.01"],
        ],
        # Observations in float64, and a last minibatch of its own size.
        [*PLAIN, "optimizer=alphagrad", "environment.id=Hopper-v4", "algorithm.batch_size=100"],
    ],
    ids=["adam", "alphagrad", "pendulum", "hopper"],
)
def test_the_fast_path_is_the_same_algorithm(
    make: Callable[..., CleanRLPPO], monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    overrides = [*overrides, "algorithm.n_epochs=15"]
    fast = make(*overrides)
    assert GaussianMlp.supports(fast.policy)
    fast.learn(fast.n_steps * fast.n_envs)
    with monkeypatch.context() as patch:
        patch.setattr(algorithms, "FUSED", ())
        patch.setattr(CleanRLPPO, "collect_rollouts", PPO.collect_rollouts)
        patch.setattr(CleanRLPPO, "differentiate", differentiate_as_cleanrl)
        stock = make(*overrides)
        stock.learn(stock.n_steps * stock.n_envs)

    for name in ("observations", "actions", "episode_starts"):
        expected = getattr(stock.rollout_buffer, name)
        np.testing.assert_array_equal(getattr(fast.rollout_buffer, name), expected)
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        expected = getattr(stock.rollout_buffer, name)
        np.testing.assert_allclose(getattr(fast.rollout_buffer, name), expected, 1e-5, 1e-5)
    logged = [
        {name: value for name, value in model.logger.name_to_value.items() if "train/" in name}
        for model in (fast, stock)
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-5, abs=1e-5)
    torch.testing.assert_close(
        dict(fast.policy.named_parameters()),
        dict(stock.policy.named_parameters()),
        rtol=0,
        atol=1e-5,
    )


def test_ppo_learning_rate_is_cleanrls_at_every_update(
    make: Callable[..., CleanRLPPO], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", "algorithm.n_epochs=1")
    rates = []
    train = CleanRLPPO.train
    monkeypatch.setattr(
        CleanRLPPO,
        "train",
        lambda self: (train(self), rates.append(self.policy.optimizer.param_groups[0]["lr"])),
    )
    model.learn(10_000)  # no multiple of 2048: four whole rollouts
    assert model.num_timesteps == 4 * 2048
    num_iterations = 4
    expected = [(1.0 - (i - 1.0) / num_iterations) * 3e-4 for i in range(1, num_iterations + 1)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("optimizer", "clipped"), [("adam", True), ("alphagrad", False)])
def test_ppo_clips_adams_gradients_only(
    make: Callable[..., CleanRLPPO],
    optimizer: str,
    clipped: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make("protocol=ppo_cleanrl", f"optimizer={optimizer}", "algorithm.n_epochs=1")
    calls = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, n: (calls.append(n), clip(p, n))
    )
    model.learn(2048)
    assert calls == ([0.5] * 32 if clipped else [])


def test_ppo_stops_at_target_kl_after_an_epoch(make: Callable[..., CleanRLPPO]) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", "algorithm.target_kl=1e-9")
    steps = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    model.learn(2048)
    assert len(steps) == 32


def test_ppo_needs_one_whole_rollout(make: Callable[..., CleanRLPPO]) -> None:
    with pytest.raises(ValueError, match="total_steps = 100: should be at least one rollout"):
        make("protocol=ppo_cleanrl", "optimizer=adam", "total_steps=100")


def test_ppo_network_is_cleanrls(make: Callable[..., CleanRLPPO]) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=alphagrad")
    shapes = {name: tuple(p.shape) for name, p in model.policy.named_parameters()}
    hidden = {f"mlp_extractor.{net}_net.{i}" for net in ("policy", "value") for i in (0, 2)}
    for name in hidden:
        assert shapes[f"{name}.weight"] == ((64, 17) if name.endswith("0") else (64, 64))
    assert shapes["action_net.weight"] == (6, 64)
    assert shapes["value_net.weight"] == (1, 64)
    assert shapes["log_std"] == (6,)
    assert len(shapes) == 13


def test_other_policies_go_through_sb3(make: Callable[..., CleanRLPPO]) -> None:
    model = make(
        *["algorithm=ppo_cleanrl", "environment.id=Pendulum-v1", "optimizer=adam"],
        *[
            "algorithm.n_steps=64",
            "+algorithm.policy_kwargs.activation_fn._target_=hydra.utils.get_class",
        ],
        "+algorithm.policy_kwargs.activation_fn.path=torch.nn.ELU",
    )
    assert not GaussianMlp.supports(model.policy)
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(64)
    after = list(model.policy.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))
