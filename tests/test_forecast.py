"""What is left of a study, by its records and their speed."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from support.runs import publish

from experiments.forecast import Part, as_table, forecast
from experiments.plan import Plan
from experiments.study import StudyRunConfig
from experiments.validation import typed

ROOT = Path(__file__).parents[1]
RATE = {"tuned": "algorithm.learning_rate", "values": [1e-3, 1e-2]}
STUDY: dict[str, Any] = {
    "tasks": {
        "CartPole-v1": {"protocol": "dqn_cleanrl", "total_steps": 40_000},
        "Acrobot-v1": {"protocol": "dqn_cleanrl", "total_steps": 80_000, "families": ["adam"]},
        "Pendulum-v1": {"algorithm": "ppo", "total_steps": 40_000, "families": ["sgd"]},
    },
    "families": {
        "adam": {"title": "Adam", "optimizer": "adam", "default": 1e-3} | RATE,
        "sgd": {"title": "SGD", "optimizer": "sgd"} | RATE,
    },
    "seeds": {"tune": 2, "confirm": 3},
    "quick": {},
}


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        overrides = ["study=dqn", f"results={tmp_path}", f"runs={tmp_path}/runs"]
        composed = OmegaConf.to_container(compose("study", overrides), throw_on_missing=True)
        assert isinstance(composed, dict)
        composed["study"] |= STUDY
        config: StudyRunConfig = typed("", StudyRunConfig, composed)
        yield config.make_plan()


def test_hours_are_those_of_the_task_or_of_its_protocol_or_unknown(
    plan: Plan, tmp_path: Path
) -> None:
    none = {"tune": 0, "confirm": 0}
    assert {part.hours for part in forecast(plan)} == {None}
    for member in plan.members("tune", "CartPole-v1")[:6]:  # both arms of both families, and two
        publish(member.run, tmp_path)  # each has taken two hours
    assert forecast(plan) == [
        # Adam's confirm runs are of its default and of a choice that is open.
        Part(
            "CartPole-v1", "adam", {"tune": 4, "confirm": 6}, none | {"tune": 4}, 12, "CartPole-v1"
        ),
        Part(
            "CartPole-v1", "sgd", {"tune": 4, "confirm": 3}, none | {"tune": 2}, 10, "CartPole-v1"
        ),
        Part("Acrobot-v1", "adam", {"tune": 4, "confirm": 6}, none, 40, "CartPole-v1"),
        Part("Pendulum-v1", "sgd", {"tune": 4, "confirm": 3}, none, None, None),
    ]
    plan.choose()  # Adam's is its default: the runs are shared
    assert forecast(plan)[0].hours == 6
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(as_table(forecast(plan)))
    lines = console.export_text().splitlines()
    assert any("Pendulum-v1" in line and "unknown" in line for line in lines)
    assert any(
        "6 of 16" in line and "0 of 15" in line and "56.0 + unknown" in line for line in lines
    )
