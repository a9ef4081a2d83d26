"""The protocols held against CleanRL's formulas, written out by hand on the same batches."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from experiments.algorithms import CleanRLDQN, CleanRLTD3


def test_dqn_loss_is_cleanrls(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cleanrl", "optimizer=adam", "algorithm.learning_starts=200")
    model.learn(300)
    batch = model.replay_buffer.sample(128)
    with torch.no_grad():
        target_max, _ = model.q_net_target(batch.next_observations).max(dim=1)
        td_target = batch.rewards.flatten() + 0.99 * target_max * (1 - batch.dones.flatten())
    old_val = model.q_net(batch.observations).gather(1, batch.actions).squeeze()
    expected = ((td_target - old_val) ** 2).mean()
    torch.testing.assert_close(model.loss(batch), expected)


def test_dqn_is_epsilon_greedy_before_learning_starts(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cleanrl", "optimizer=adam")
    model._last_obs = model.env.reset()
    model.exploration_rate = 0.0
    greedy, _ = model.predict(model._last_obs, deterministic=True)
    actions = [model._sample_action(model.learning_starts, None, 1)[0] for _ in range(20)]
    assert all(action == greedy for action in actions)


def test_dqn_exploration_and_target_schedule(make: Callable[..., CleanRLDQN]) -> None:
    model = make("protocol=dqn_cleanrl", "optimizer=adam")
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
    model = make("protocol=td3_cleanrl", "optimizer=adam", "algorithm.learning_starts=300")
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
    model = make("protocol=td3_cleanrl", "optimizer=adam")
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
