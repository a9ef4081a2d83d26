import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# As experiments/__init__.py does, but before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "disabled"  # it adds a second to each run; tests/test_tracking.py has it

from hydra import compose, initialize_config_dir
from stable_baselines3.common.logger import configure as configure_logger

from experiments import algorithms, environments
from experiments.config import TrainConfig
from experiments.training import Training
from experiments.validation import validate

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture(scope="module")
def composed() -> Iterator[Callable[..., TrainConfig]]:
    """Composes the configuration that Hydra's overrides describe."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield lambda *overrides: validate(compose("train", list(overrides)))


@pytest.fixture(scope="module")
def make(composed: Callable[..., TrainConfig]) -> Callable[..., Any]:
    """Builds the model that a list of Hydra overrides describes."""

    def make_model(*overrides: str) -> Any:
        config = composed(*overrides)
        gamma = config.algorithm.get("gamma", 0.99)
        environment = environments.make_vector(config.environment, gamma)
        model = algorithms.make(config, environment)
        model.set_logger(configure_logger(None, []))
        return model

    return make_model


@pytest.fixture(scope="module")
def make_training(composed: Callable[..., TrainConfig]) -> Callable[..., Training]:
    """Makes the training that a list of Hydra overrides describes."""
    return lambda *overrides: Training(composed(*overrides))
