"""SB3's DQN as CleanRL runs it.

Any policy works through its modules and autograd. SB3's ``MlpPolicy`` goes through `Mlp` instead,
with the same random numbers and, within rounding, the same losses and gradients.
"""

import math
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.dqn.policies import DQNPolicy
from torch.nn.functional import mse_loss

from experiments.agents.mlp import Mlp


class CleanRLDQN(DQN):
    """DQN with the mean squared error and the exploration of CleanRL's ``dqn.py``.

    SB3 has no option for the loss; with its smooth L1 loss Adam diverges under this protocol.

    Attributes:
        networks: the Q-network and its target without modules, if the policy has layers for it.
    """

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self.networks: tuple[Mlp, Mlp] | None = None
        if type(self.policy) is DQNPolicy and Mlp.supports(self.policy):
            self.networks = Mlp(self.q_net.q_net), Mlp(self.q_net_target.q_net)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "networks"]

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Greedy or epsilon-greedy actions; see SB3's ``DQN.predict``."""
        if self.networks is None or observation.ndim != 2 or len(observation) != 1:
            return super().predict(observation, state, episode_start, deterministic)
        if not deterministic and np.random.rand() < self.exploration_rate:  # noqa: NPY002
            return np.array([self.action_space.sample()]), state
        values = self.networks[0].forward(torch.from_numpy(observation).float().to(self.device))
        return values.argmax(dim=1).cpu().numpy(), state

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        # CleanRL is epsilon-greedy from the first step; SB3 acts at random until learning starts.
        return super()._sample_action(0, action_noise, n_envs)

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take ``gradient_steps`` optimizer steps; see SB3's ``DQN.train``."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses = []
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            losses.append(self.differentiate(batch))
            if self.max_grad_norm < math.inf:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def differentiate(self, batch: ReplayBufferSamples) -> float:
        """Set the gradients of the loss of a batch, and return it."""
        if self.networks is None:
            loss = self.loss(batch)
            self.policy.optimizer.zero_grad()
            loss.backward()
            return loss.item()
        network, target_network = self.networks
        with torch.no_grad():
            targets = self._targets(batch, target_network.forward(batch.next_observations.float()))
            values = network.forward(batch.observations.float())
            actions = batch.actions.long()
            errors = values.gather(dim=1, index=actions) - targets
            by_chosen = errors * (2 / len(errors))
            network.backward(torch.zeros_like(values).scatter_(1, actions, by_chosen))
            return errors.square().mean().item()

    def loss(self, batch: ReplayBufferSamples) -> torch.Tensor:
        """Mean squared one-step temporal-difference error of a batch."""
        with torch.no_grad():
            targets = self._targets(batch, self.q_net_target(batch.next_observations))
        values = self.q_net(batch.observations).gather(dim=1, index=batch.actions.long())
        return mse_loss(values, targets)

    def _targets(self, batch: ReplayBufferSamples, next_values: torch.Tensor) -> torch.Tensor:
        best = next_values.amax(dim=1, keepdim=True)
        return batch.rewards + self.gamma * best * (1 - batch.dones)
