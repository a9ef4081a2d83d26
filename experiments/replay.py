"""SB3's replay buffer, with a faster way to the same batches."""

import numpy as np
import torch
from gymnasium.spaces import Dict
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize


class TensorReplayBuffer(ReplayBuffer):
    """Draws what `ReplayBuffer` draws, to the bit, with one gather for each array and no copy."""

    def _get_samples(
        self, batch_inds: np.ndarray, env: VecNormalize | None = None
    ) -> ReplayBufferSamples:
        if env is not None or self.optimize_memory_usage:
            return super()._get_samples(batch_inds, env)
        env_indices = np.random.randint(0, high=self.n_envs, size=len(batch_inds))  # noqa: NPY002
        rows = torch.from_numpy(batch_inds * self.n_envs + env_indices)

        def gather(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).flatten(0, 1).index_select(0, rows).to(self.device)

        dones, timeouts = gather(self.dones), gather(self.timeouts)
        return ReplayBufferSamples(
            observations=gather(self.observations),
            actions=gather(self.actions),
            next_observations=gather(self.next_observations),
            dones=(dones * (1 - timeouts))[:, None],
            rewards=gather(self.rewards)[:, None],
        )


def use_tensor_buffer(model: OffPolicyAlgorithm) -> None:
    """Let a model that is about to be set up take this buffer where SB3 would take its own."""
    arrays = not isinstance(model.observation_space, Dict)
    if model.replay_buffer_class is None and model.n_steps == 1 and arrays:
        model.replay_buffer_class = TensorReplayBuffer
