"""Hand-made records, valid by the schema of docs/records.md."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def make_record(
    arm: str = "adam",
    seed: int = 0,
    *,
    score: float | None = 100.0,
    returns: Sequence[float | None] = (10.0, 50.0, 90.0, 100.0),
    total_steps: int = 1000,
    protocol: str = "ppo_cleanrl",
    environment: str = "HalfCheetah-v4",
    diverged_at: int | None = None,
    learning_rate: float | None = None,
    saturated: Sequence[float] | None = None,
) -> dict[str, Any]:
    cells = len(returns)
    family, _, alpha = arm.partition("-alpha")
    optimizer = {"_target_": family} | ({"alpha": float(alpha)} if alpha else {})
    learning_rate = learning_rate or float(arm.partition("-lr")[2] or 3e-4)
    record = {
        "schema_version": 1,
        "identity": hashlib.sha256(f"{protocol} {arm} {seed}".encode()).hexdigest()[:12],
        "status": "completed" if diverged_at is None else "diverged",
        "reason": None if diverged_at is None else "train/value_loss is nan",
        "arm": arm,
        "seed": seed,
        "configuration": {
            "algorithm": {"learning_rate": learning_rate},
            "environment": {"id": environment},
            "optimizer": optimizer,
            "evaluation": {"episodes": 5},
            "protocol": protocol,
            "total_steps": total_steps,
            "seed": seed,
            "device": "cpu",
        },
        "steps": total_steps if diverged_at is None else diverged_at,
        "curve": {
            "step": [total_steps * (cell + 1) / cells for cell in range(cells)],
            "episodes": [0 if value is None else 1 for value in returns],
            "return_mean": list(returns),
            "length_mean": [None if value is None else 100.0 for value in returns],
        },
        "evaluation": {"step": [], "returns": []},
        "final_score": score,
        "final_episodes": 0 if score is None else 100,
        "metrics": {"train/value_loss": 0.5},
        "optimizer": {"parameters": 1000, "state_bytes": 4000 if alpha else 8000},
        "timing": {"wall_seconds": 2.0, "steps_per_second": 500.0 + seed},
        "provenance": {
            "started": "2025-01-01T00:00:00Z",
            "finished": "2025-01-01T00:00:02Z",
            "command": "python -m experiments.train",
            "git": {"commit": "6eed2d6c0ffee00000000000000000000000000a", "dirty": False},
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "cpu": {"model": "A CPU", "flags": ["avx2"]},
            "platform": "Linux",
            "threads": 1,
        },
    }
    if saturated is not None:
        tensor = {"update_rms": [1e-3] * len(saturated), "saturated_share": list(saturated)}
        steps = [total_steps * index // len(saturated) for index in range(len(saturated))]
        record["diagnostics"] = {"step": steps, "tensors": {"net.weight": tensor}}
    return record


def write_records(folder: Path, *records: dict[str, Any]) -> Path:
    """Writes the records of the study in `folder`, and returns `folder`."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        name = f"{record['arm']}-seed{record['seed']}-{number:012x}.json"
        (folder / "records" / name).write_text(json.dumps(record))
    return folder


def make_theory(**series: Any) -> dict[str, Any]:
    """A record of `experiments.convergence` with one case, which is below its bound."""
    row = {
        "function": "well",
        "step": "1/sqrt(T)",
        "sizes": [1],
        "alpha": 0.1,
        "eps": 0.0,
        "steps": [10],
        "min_gradient_norm": [0.5],
        "bound": [1.0],
        "bound_with_n": [2.0],
        "slope": -0.7,
    }
    summary = {"cases": 1, "below_bound": 1, "largest_share": 0.5, "smoothness_exceeded": 0}
    return {
        "summary": summary | {"counterexamples_stay": True},
        "series": [row | series],
        "counterexamples": [{"alpha": 0.1, "steps": [10], "constant": [0.05], "shrinking": [0.01]}],
        "provenance": {"command": "python -m experiments.convergence", "finished": "2025-01-01"},
    }
