# mypy: disable-error-code="union-attr"
"""The algorithms held against CleanRL's formulas, written out by hand, and against SB3's guards."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import nn

from experiments.agents import cleanrl, fast

MODULES = [cleanrl, fast]


def target(module: Any, algorithm: str) -> str:
    return f"algorithm._target_={module.__name__}.{algorithm}"


@pytest.mark.parametrize("module", MODULES)
def test_dqn_loss_is_cleanrls(make: Callable[..., Any], module: Any) -> None:
    model = make(
        *["protocol=dqn_cleanrl", "optimizer=adam", "algorithm.learning_starts=200"],
        target(module, "DQN"),
    )
    model.learn(300)
    batch = model.replay_buffer.sample(128)
    with torch.no_grad():
        target_max, _ = model.q_net_target(batch.next_observations).max(dim=1)
        td_target = batch.rewards.flatten() + 0.99 * target_max * (1 - batch.dones.flatten())
    old_val = model.q_net(batch.observations).gather(1, batch.actions).squeeze()
    expected = ((td_target - old_val) ** 2).mean()
    assert model.differentiate(batch) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("module", MODULES)
def test_dqn_discounts_a_value_by_the_steps_before_it(module: Any) -> None:
    model = module.DQN(
        "MlpPolicy",
        "CartPole-v1",
        n_steps=5,
        gamma=0.9,
        learning_starts=64,
        buffer_size=500,
        train_freq=1000,
        seed=0,
    )
    model.learn(300)
    batch = model.replay_buffer.sample(256)
    assert len(batch.discounts.unique()) > 1  # an episode's end cuts some short
    with torch.no_grad():  # every next state has the value 2
        for parameter in model.q_net_target.parameters():
            parameter.zero_()
        model.q_net_target.q_net[-1].bias.fill_(2.0)
        for parameter in model.q_net.parameters():
            parameter.zero_()
    targets = batch.rewards + 2 * batch.discounts * (1 - batch.dones)
    expected = targets.square().mean().item()
    assert model.differentiate(batch) == pytest.approx(expected, rel=1e-5)


def test_dqn_is_epsilon_greedy_before_learning_starts(make: Callable[..., cleanrl.DQN]) -> None:
    model = make("protocol=dqn_cleanrl", "optimizer=adam")
    observation: Any = model.env.reset()
    model._last_obs = observation
    model.exploration_rate = 0.0
    greedy, _ = model.predict(observation, deterministic=True)
    actions = [model._sample_action(model.learning_starts, None, 1)[0] for _ in range(20)]
    assert all(action == greedy for action in actions)


def test_dqn_exploration_and_target_schedule(make: Callable[..., cleanrl.DQN]) -> None:
    model = make("protocol=dqn_cleanrl", "optimizer=adam")
    # CleanRL's linear_schedule(1, 0.05, 0.5 * total, step).
    for done in (0.0, 0.1, 0.25, 0.5, 0.8):
        expected = max(0.05, 1 + (0.05 - 1) / 0.5 * done)
        assert model.exploration_schedule(1 - done) == pytest.approx(expected)
    assert (model.target_update_interval, model.tau) == (500, 1.0)
    assert model.train_freq.frequency == 10
    assert model.max_grad_norm == math.inf


def test_td3_losses_are_cleanrls(
    make: Callable[..., cleanrl.TD3], monkeypatch: pytest.MonkeyPatch
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
    make: Callable[..., cleanrl.TD3],
) -> None:
    model = make("protocol=td3_cleanrl", "optimizer=adam")
    observation: Any = model.env.reset()
    model._last_obs = observation
    model.action_space.seed(3)
    expected = [model.action_space.sample() for _ in range(10)]
    model.action_space.seed(3)
    warm_up = [model._sample_action(25_000, model.action_noise, 1)[0][0] for _ in range(10)]
    np.testing.assert_allclose(warm_up, expected, atol=1e-6)

    model.num_timesteps = 25_000
    mean, _ = model.predict(observation)
    actions = np.array(
        [model._sample_action(25_000, model.action_noise, 1)[0][0] for _ in range(2000)]
    )
    np.testing.assert_allclose(actions.mean(axis=0), mean[0], atol=0.01)
    np.testing.assert_allclose(actions.std(axis=0), 0.1, rtol=0.1)


def test_td3_keeps_a_noise_that_is_given() -> None:
    noise = NormalActionNoise(np.zeros(1), np.ones(1))
    assert cleanrl.TD3("MlpPolicy", "Pendulum-v1", action_noise=noise).action_noise is noise
    [scale] = cleanrl.TD3("MlpPolicy", "Pendulum-v1", exploration_noise=0.3).action_noise._sigma
    assert scale == 0.3


def minibatch(model: cleanrl.PPO) -> RolloutBufferSamples:
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
    model: cleanrl.PPO, b: RolloutBufferSamples
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


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("coefficient", [0.0, 0.01])
def test_ppo_loss_is_cleanrls(
    make: Callable[..., cleanrl.PPO], module: Any, coefficient: float
) -> None:
    model = make(
        "protocol=ppo_cleanrl",
        "optimizer=adam",
        f"algorithm.ent_coef={coefficient}",
        target(module, "PPO"),
    )
    batch = minibatch(model)
    expected = differentiate_as_cleanrl(model, batch)
    expected_gradients = {n: p.grad.clone() for n, p in model.policy.named_parameters()}
    statistics = model.differentiate(batch)
    torch.testing.assert_close(statistics, expected)
    gradients = {name: p.grad for name, p in model.policy.named_parameters()}
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("column", ["advantages", "returns", "observations"])
def test_ppo_hides_no_nan(make: Callable[..., cleanrl.PPO], module: Any, column: str) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", target(module, "PPO"))
    batch = minibatch(model)
    getattr(batch, column)[3] = math.nan
    statistics = model.differentiate(batch)
    actor = model.policy.get_parameter("action_net.weight").grad
    critic = model.policy.get_parameter("value_net.weight").grad
    if column != "returns":
        assert statistics["policy_gradient_loss"].isnan()
        assert actor.isnan().any()
    if column != "advantages":
        assert statistics["value_loss"].isnan()
        assert critic.isnan().any()


def test_ppo_learning_rate_is_cleanrls_at_every_update(
    make: Callable[..., cleanrl.PPO], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", "algorithm.n_epochs=1")
    rates = []
    train = cleanrl.PPO.train

    def keep_rate(model: cleanrl.PPO) -> None:
        train(model)
        rates.append(model.policy.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(cleanrl.PPO, "train", keep_rate)
    model.learn(10_000)  # no multiple of 2048: four whole rollouts
    assert model.num_timesteps == 4 * 2048
    num_iterations = 4
    expected = [(1.0 - (i - 1.0) / num_iterations) * 3e-4 for i in range(1, num_iterations + 1)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("optimizer", "clipped"), [("adam", True), ("alphagrad", False)])
def test_ppo_clips_adams_gradients_only(
    make: Callable[..., cleanrl.PPO], optimizer: str, clipped: bool
) -> None:
    model = make("protocol=ppo_cleanrl", f"optimizer={optimizer}", "algorithm.n_epochs=1")
    norms: list[float] = []

    def keep_norm(*_: object) -> None:
        gradients = [parameter.grad for parameter in model.policy.parameters()]
        norms.append(nn.utils.get_total_norm(g for g in gradients if g is not None).item())

    model.policy.optimizer.register_step_pre_hook(keep_norm)
    model.learn(2048)
    assert len(norms) == 32
    if clipped:
        assert max(norms) == pytest.approx(0.5, rel=1e-4)
    else:
        assert max(norms) > 0.6


def test_ppo_stops_at_target_kl_after_an_epoch(make: Callable[..., cleanrl.PPO]) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=adam", "algorithm.target_kl=1e-9")
    steps = []
    model.policy.optimizer.register_step_post_hook(lambda *_: steps.append(1))
    model.learn(2048)
    assert len(steps) == 32
    assert model._n_updates == 1  # epochs, as SB3 counts them


def test_ppo_network_is_cleanrls(make: Callable[..., cleanrl.PPO]) -> None:
    model = make("protocol=ppo_cleanrl", "optimizer=alphagrad")
    shapes = {name: tuple(p.shape) for name, p in model.policy.named_parameters()}
    hidden = {f"mlp_extractor.{net}_net.{i}" for net in ("policy", "value") for i in (0, 2)}
    for name in hidden:
        assert shapes[f"{name}.weight"] == ((64, 17) if name.endswith("0") else (64, 64))
    assert shapes["action_net.weight"] == (6, 64)
    assert shapes["value_net.weight"] == (1, 64)
    assert shapes["log_std"] == (6,)
    assert len(shapes) == 13


@pytest.mark.parametrize("module", [sb3, *MODULES])
@pytest.mark.parametrize("environment", ["Pendulum-v1", "CartPole-v1"])
def test_ppo_takes_a_last_minibatch_of_one(module: Any, environment: str) -> None:
    model = module.PPO("MlpPolicy", environment, n_steps=33, batch_size=32, n_epochs=2, seed=0)
    model.learn(66)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())


class Dictionaries(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(
        position=gym.spaces.Box(-1, 1, (3,), np.float32), kind=gym.spaces.Discrete(4)
    )

    def __init__(self, action_space: gym.Space[Any]) -> None:
        self.action_space = action_space

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 20, False, {}


CONTINUOUS, DISCRETE = gym.spaces.Box(-1, 1, (1,)), gym.spaces.Discrete(2)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("algorithm", "actions"),
    [("PPO", CONTINUOUS), ("PPO", DISCRETE), ("DQN", DISCRETE), ("TD3", CONTINUOUS)],
)
def test_dictionaries_are_observations(module: Any, algorithm: str, actions: Any) -> None:
    settings = {"n_steps": 64} if algorithm == "PPO" else {"learning_starts": 32, "batch_size": 8}
    model = getattr(module, algorithm)("MultiInputPolicy", Dictionaries(actions), **settings)
    before = [parameter.clone() for parameter in model.policy.parameters()]
    model.learn(128)
    pairs = zip(before, model.policy.parameters(), strict=True)
    assert not all(torch.equal(*pair) for pair in pairs)


def test_actions_keep_their_shape() -> None:
    environment = Dictionaries(gym.spaces.Box(-1, 1, (2, 3)))
    environment.observation_space = gym.spaces.Box(-1, 1, (3,))  # type: ignore[assignment]
    for module in MODULES:
        model = module.TD3("MlpPolicy", environment, learning_starts=32, batch_size=8).learn(64)
        action, _ = model.predict(np.zeros((5, 3), dtype=np.float32))
        assert action.shape == (5, 2, 3)
