"""Hand-made records and manifests, valid by the schema of docs/records.md."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.runs.records import compact, sealed


def make_family(
    title: str,
    tuned: str = "algorithm.learning_rate",
    symbol: str = "lr",
    default: float | None = None,
) -> dict[str, Any]:
    """A family of a manifest, without its name."""
    return {"title": title, "tuned": tuned, "symbol": symbol, "default": default}


FAMILIES = {
    "adam": make_family("Adam", default=3e-4),
    "alphagrad": make_family("AlphaGrad", "optimizer.alpha", "α"),
    "alphagrad-sqrt": make_family("AlphaGrad, α √n", "optimizer.alpha", "α"),
    "alphagrad-stateless": make_family("AlphaGrad without momentum", "optimizer.alpha", "α"),
    "normalized_sgd": make_family("normalised SGD"),
    "sgd": make_family("SGD"),
    "sign_sgd": make_family("sign SGD"),
}


def make_record(
    family: str = "adam",
    value: float = 3e-4,
    seed: int = 0,
    *,
    score: float | None = None,
    returns: Sequence[float | None] = (10.0, 50.0, 90.0, 100.0),
    evaluated: Sequence[float] | None = None,
    stage: str = "tune",
    total_steps: int = 1000,
    protocol: str = "ppo_cleanrl",
    environment: str = "HalfCheetah-v4",
    task: str | None = None,
    tuned: str | None = None,
    diverged_at: int | None = None,
    settings: Mapping[str, Any] | None = None,
    saturated: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A record, and the task, family and value of its arm, which `write_study` takes out.

    Args:
        family: A name in the families that `write_study` gets.
        value: Of the setting that the family tunes.
        seed: The run's.
        score: Of both measures: the end of the curve, instead of that of ``returns``.
        returns: The curve of the training returns, and of the evaluations.
        evaluated: Returns of the evaluations, evenly spaced, if they are not those of the curve.
        stage: ``tune`` or ``confirm``; a manifest calls the values of the latter chosen.
        total_steps: The task's.
        protocol: The task's.
        environment: The task's.
        task: The task's name; by default the environment's.
        tuned: The setting that is tuned; by default that of the family in `FAMILIES`.
        diverged_at: The step at which the run diverged, if it did.
        settings: Further settings, by their path in the configuration.
        saturated: Shares of saturated elements, if the record has diagnostics.
    """
    if score is not None:
        returns = [*returns[:-1], score]
    known = [value for value in returns if value is not None]
    cells = len(returns)
    steps = [total_steps * (cell + 1) / cells for cell in range(cells)]
    shown = returns if evaluated is None else evaluated
    evaluations = [
        (total_steps * point // len(shown), [value])
        for point, value in enumerate(shown, start=1)
        if value is not None
    ]
    configuration: dict[str, Any] = {
        "algorithm": {"learning_rate": 3e-4},
        "environment": {"id": environment},
        "optimizer": {"_target_": family},
        "evaluation": {"episodes": 5},
        "protocol": protocol,
        "total_steps": total_steps,
        "seed": seed,
        "device": "cpu",
    }
    tuned = tuned or FAMILIES[family]["tuned"]
    for path, setting in {tuned: value, **(settings or {})}.items():
        group, _, name = path.partition(".")
        configuration[group][name] = setting
    run = f"{protocol} {environment} {total_steps} {family} {value} {seed}"
    record = {
        "task": task or environment,
        "family": family,
        "value": value,
        "stage": stage,
        "schema_version": 1,
        "identity": hashlib.sha256(run.encode()).hexdigest()[:12],
        "status": "completed" if diverged_at is None else "diverged",
        "reason": None if diverged_at is None else "train/value_loss is nan",
        "arm": "what the arm was called once",
        "seed": seed,
        "configuration": configuration,
        "steps": total_steps if diverged_at is None else diverged_at,
        "curve": {
            "step": steps,
            "episodes": [0 if value is None else 1 for value in returns],
            "return_mean": list(returns),
            "length_mean": [None if value is None else 100.0 for value in returns],
        },
        "evaluation": {
            "step": [at for at, _ in evaluations],
            "returns": [values for _, values in evaluations],
        },
        "final_score": known[-1] if known else None,
        "final_episodes": 100 if known else 0,
        "metrics": {"train/value_loss": 0.5},
        "optimizer": {"parameters": 1000, "state_bytes": 8000 if family == "adam" else 4000},
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
        record["diagnostics"] = {
            "step": steps,
            "elements": {"net.weight": 1000},
            "tensors": {"net.weight": tensor},
        }
    return record


def write_study(
    results: Path,
    name: str,
    *records: dict[str, Any],
    families: Mapping[str, dict[str, Any]] = FAMILIES,
    scale: str = "paper",
    **fields: Any,
) -> Path:
    """Write records, and the manifest of the study that has exactly their arms and runs.

    Args:
        results: The folder of the results.
        name: The study's.
        *records: As `make_record` gives them; tasks, families and arms come in their order.
        families: By name, as `make_family` gives them.
        scale: ``paper``, or ``quick``, which writes below ``<results>/quick``.
        **fields: Of the manifest, instead of those that are made.

    Returns:
        The study's folder.
    """
    folder = results / "quick" if scale == "quick" else results
    tasks: dict[str, dict[str, Any]] = {}
    arms: dict[tuple[str, str, float], dict[str, Any]] = {}
    for record in records:
        configuration = record["configuration"]
        task = record["task"]
        tasks[task] = {
            "name": task,
            "title": f"{name.upper()}, {task}",
            "role": "main",
            "protocol": configuration["protocol"],
            "algorithm": name,
            "environment": configuration["environment"]["id"],
            "total_steps": configuration["total_steps"],
            "sensitivity_of": None,
            "families": [],
            "seeds": {"tune": 10, "confirm": 0},
            "chosen": {},
            "reward_threshold": None,
        } | tasks.get(task, {})
        family, value = record["family"], record["value"]
        default, symbol = families[family]["default"], families[family]["symbol"]
        setting = "" if value == default else f"-{ {'α': 'alpha'}.get(symbol, symbol) }{value:g}"
        arm = arms.setdefault(
            (task, family, value),
            {"task": task, "family": family, "value": value, "name": family + setting, "runs": []},
        )
        about = tasks[task]
        about["families"] = [*dict.fromkeys([*about["families"], family])]
        if record["stage"] == "confirm":
            about["chosen"][family] = {"value": value, "arm": arm["name"], "by": {}}
            confirmed = sum(run["stage"] == "confirm" for run in arm["runs"]) + 1
            about["seeds"]["confirm"] = max(about["seeds"]["confirm"], confirmed)
        run = {"stage": record["stage"], "seed": record["seed"], "identity": record["identity"]}
        arm["runs"].append(run)
    found = dict.fromkeys(family for _, family, _ in arms)
    manifest = {
        "schema_version": 2,
        "name": name,
        "title": name.upper(),
        "scale": scale,
        "baseline": "adam",
        "subject": "alphagrad",
        "overview": None,
        "tasks": list(tasks.values()),
        "families": [{"name": family} | families[family] for family in found],
        "arms": list(arms.values()),
    }
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "study.json").write_text(json.dumps(manifest | fields))
    (folder / "records").mkdir(exist_ok=True)
    for record in records:
        write_record(folder, record)
    return folder / name


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record below the results' folder of its scale; return its path."""
    content = {
        key: value
        for key, value in record.items()
        if key not in ("task", "family", "value", "stage")
    }
    path = folder / "records" / f"a-run-{record['identity']}.json"
    path.write_text(compact(sealed(content)) + "\n")
    return path


def make_convergence(**series: Any) -> dict[str, Any]:
    """A record of `experiments.convergence` with one case, which is below its bound."""
    row = {
        "function": "well",
        "step": "1/sqrt(T)",
        "sizes": [1],
        "alpha": 0.1,
        "eps": 0.0,
        "momentum": 0.0,
        "noise": 0.0,
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
