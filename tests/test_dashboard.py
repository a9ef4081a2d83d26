"""The workspace as it would be sent to wandb, and what is there without a key."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.views import dashboard, tracking

ROOT = Path(__file__).parents[1]


def test_the_workspace() -> None:
    workspace = dashboard.workspace("team", "alphagrad")
    model: dict[str, Any] = json.loads(
        workspace._to_model().model_dump_json(by_alias=True, exclude_none=True)
    )
    sections = {
        section["name"]: section["panels"]
        for section in model["spec"]["section"]["panelBankConfig"]["sections"]
    }
    assert list(sections) == ["Returns", "Alpha", "Stability", "Saturation", "Videos", "System"]
    returns = sections["Returns"][0]["config"]
    assert returns["metrics"] == ["rollout/ep_rew_mean"]
    assert returns["xAxis"] == dashboard.STEP == tracking.STEP
    assert (returns["groupBy"], returns["groupArea"]) == ("arm.value", "stderr")
    kinds = [panel["viewType"] for panel in sections["Alpha"]]
    assert kinds == ["Parallel Coordinates Plot", "Scatter Plot", "Parameter Importance"]
    columns = [c["accessor"] for c in sections["Alpha"][0]["config"]["columns"]]
    assert columns[0] == "config:alpha.value"
    assert columns[-1] == "summary:final_score"
    [runs] = model["spec"]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group.value", "family.value", "arm.value"]


def test_without_a_key_and_without_runs_one_line_says_so(tmp_path: Path) -> None:
    environment = os.environ | {"WANDB_MODE": "online", "NETRC": str(tmp_path / "none")}
    command = [sys.executable, "-m", "experiments.views.dashboard", "--runs", str(tmp_path)]
    outcome = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 1
    assert outcome.stderr == f"no tracked runs in {tmp_path}/wandb: train one first\n"
