"""The protocols held against CleanRL's formulas, written out by hand on the same batches."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from stable_baselines3.common.logger import configure as configure_logger

from experiments import algorithms, environments
from experiments.algorithms import CleanRLDQN, CleanRLPPO, CleanRLTD3
from experiments.config import validate


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Any]]:
    """Builds the model that a list of Hydra overrides describes."""

    def make_model(*overrides: str) -> Any:
        config = validate(compose("train", list(overrides)))
        gamma = config.algorithm.get("gamma", 0.99)
        environment = environments.make_vector(config.environment, gamma)
        model = algorithms.make(config, environment)
        model.set_logger(configure_logger(None, []))
        return model

    configs = Path(__file__).parents[1] / "configs"
    with initialize_config_dir(str(configs), version_base="1.3"):
        yield make_model


def test_dqn_loss_is_cleanrls(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cartpole", "optimizer=adam", "algorithm.learning_starts=200")
    model.learn(300)
    batch = model.replay_buffer.sample(128)
    with torch.no_grad():
        target_max, _ = model.q_net_target(batch.next_observations).max(dim=1)
        td_target = batch.rewards.flatten() + 0.99 * target_max * (1 - batch.dones.flatten())
    old_val = model.q_net(batch.observations).gather(1, batch.actions).squeeze()
    expected = ((td_target - old_val) ** 2).mean()
    torch.testing.assert_close(model.loss(batch), expected)


def test_dqn_is_epsilon_greedy_before_learning_starts(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cartpole", "optimizer=adam")
    model._last_obs = model.env.reset()
    model.exploration_rate = 0.0
    greedy, _ = model.predict(model._last_obs, deterministic=True)
    actions = [model._sample_action(model.learning_starts, None, 1)[0] for _ in range(20)]
    assert all(action == greedy for action in actions)


def test_dqn_exploration_and_target_schedule(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cartpole", "optimizer=adam")
    # CleanRL's linear_schedule(1, 0.05, 0.5 * total, step).
    for done in (0.0, 0.1, 0.25, 0.5, 0.8):
        expected = max(0.05, 1 + (0.05 - 1) / 0.5 * done)
        assert model.exploration_schedule(1 - done) == pytest.approx(expected)
    assert (model.target_update_interval, model.tau) == (500, 1.0)
    assert model.train_freq.frequency == 10
    assert model.max_grad_norm == math.inf


def test_td3_losses_are_cleanrls(
    make: Callable[..., CleanRLTD3], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("protocol=td3_hopper", "optimizer=adam", "algorithm.learning_starts=300")
    model.learn(302)
    batch = model.replay_buffer.sample(256)
    assert batch.observations.dtype == torch.float32
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *_, **__: batch)
    policy = model.policy
    torch.manual_seed(5)
    with torch.no_grad():
        clipped_noise = (torch.randn_like(batch.actions) * 0.2).clamp(-0.5, 0.5)
        next_actions = (policy.actor_target(batch.next_observations) + clipped_noise).clamp(-1, 1)
        qf1_next, qf2_next = policy.critic_target(batch.next_observations, next_actions)
        min_next = torch.min(qf1_next, qf2_next)
        next_q_value = batch.rewards + (1 - batch.dones) * 0.99 * min_next
    qf1, qf2 = policy.critic(batch.observations, batch.actions)
    expected = ((qf1 - next_q_value) ** 2).mean() + ((qf2 - next_q_value) ** 2).mean()
    torch.manual_seed(5)
    model.train(gradient_steps=1, batch_size=256)
    loss = model.logger.name_to_value["train/critic_loss"]
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_td3_warm_up_is_uniform_and_later_actions_are_noisy(
    make: Callable[..., CleanRLTD3],
) -> None:
    model = make("protocol=td3_hopper", "optimizer=adam")
    model._last_obs = model.env.reset()
    model.action_space.seed(3)
    expected = [model.action_space.sample() for _ in range(10)]
    model.action_space.seed(3)
    warm_up = [model._sample_action(25_000, model.action_noise, 1)[0][0] for _ in range(10)]
    np.testing.assert_allclose(warm_up, expected, atol=1e-6)

    model.num_timesteps = 25_000
    mean, _ = model.predict(model._last_obs)
    actions = np.array(
        [model._sample_action(25_000, model.action_noise, 1)[0][0] for _ in range(2000)]
    )
    np.testing.assert_allclose(actions.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(actions.std(axis=0), 0.1, rtol=0.1)


def ppo_batch(model: CleanRLPPO) -> Any:
    """A minibatch far enough from the policy that every clipping takes effect."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    observations, actions = normal(64, 17), normal(64, 6)
    with torch.no_grad():
        values, log_probability, _ = model.policy.evaluate_actions(observations, actions)
    return SimpleNamespace(
        observations=observations,
        actions=actions,
        old_log_prob=log_probability + 0.3 * normal(64),
        old_values=values.flatten() + 0.5 * normal(64),
        advantages=normal(64),
        returns=normal(64),
    )


def test_ppo_loss_is_cleanrls(make: Callable[..., CleanRLPPO]) -> None:
    model = make("protocol=ppo_halfcheetah", "optimizer=adam")
    b = ppo_batch(model)

    # ppo_continuous_action.py, with its names.
    distribution = torch.distributions.Normal(
        model.policy.action_net(model.policy.mlp_extractor.forward_actor(b.observations)),
        model.policy.log_std.exp(),
    )
    newlogprob = distribution.log_prob(b.actions).sum(1)
    newvalue = model.policy.value_net(model.policy.mlp_extractor.forward_critic(b.observations))
    newvalue = newvalue.view(-1)
    ratio = (newlogprob - b.old_log_prob).exp()
    mb_advantages = (b.advantages - b.advantages.mean()) / (b.advantages.std() + 1e-8)
    pg_loss1 = -mb_advantages * ratio
    pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - 0.2, 1 + 0.2)
    pg_loss = torch.max(pg_loss1, pg_loss2).mean()
    v_loss_unclipped = (newvalue - b.returns) ** 2
    v_clipped = b.old_values + torch.clamp(newvalue - b.old_values, -0.2, 0.2)
    v_loss_max = torch.max(v_loss_unclipped, (v_clipped - b.returns) ** 2)
    v_loss = 0.5 * v_loss_max.mean()
    entropy_loss = distribution.entropy().sum(1).mean()
    expected = pg_loss - 0.0 * entropy_loss + v_loss * 0.5

    loss, parts = model.loss(b)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(parts["value_loss"], v_loss)
    torch.testing.assert_close(parts["entropy_loss"], -entropy_loss)
    model.policy.optimizer.zero_grad()
    loss.backward()
    gradients = [p.grad.clone() for p in model.policy.parameters()]
    model.policy.optimizer.zero_grad()
    expected.backward()
    torch.testing.assert_close(gradients, [p.grad for p in model.policy.parameters()])


def test_ppo_learning_rate_is_cleanrls_at_every_update(
    make: Callable[..., CleanRLPPO], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("protocol=ppo_halfcheetah", "optimizer=adam", "algorithm.n_epochs=1")
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
    model = make("protocol=ppo_halfcheetah", f"optimizer={optimizer}", "algorithm.n_epochs=1")
    calls = []
    clip = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, n: (calls.append(n), clip(p, n))
    )
    model.learn(2048)
    assert calls == ([0.5] * 32 if clipped else [])


def test_ppo_stops_at_target_kl_after_an_epoch(make: Callable[..., CleanRLPPO]) -> None:
    model = make("protocol=ppo_halfcheetah", "optimizer=adam", "algorithm.target_kl=1e-9")
    steps = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    model.learn(2048)
    assert len(steps) == 32


def test_ppo_needs_one_whole_rollout(make: Callable[..., CleanRLPPO]) -> None:
    with pytest.raises(ValueError, match="total_steps = 100: should be at least one rollout"):
        make("protocol=ppo_halfcheetah", "optimizer=adam", "total_steps=100")


def test_ppo_network_is_cleanrls(make: Callable[..., CleanRLPPO]) -> None:
    model = make("protocol=ppo_halfcheetah", "optimizer=alphagrad")
    shapes = {name: tuple(p.shape) for name, p in model.policy.named_parameters()}
    hidden = {f"mlp_extractor.{net}_net.{i}" for net in ("policy", "value") for i in (0, 2)}
    for name in hidden:
        assert shapes[f"{name}.weight"] == ((64, 17) if name.endswith("0") else (64, 64))
    assert shapes["action_net.weight"] == (6, 64)
    assert shapes["value_net.weight"] == (1, 64)
    assert shapes["log_std"] == (6,)
    assert len(shapes) == 13


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
