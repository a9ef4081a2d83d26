"""Whether the ways to compute an update learn the same: the same runs by each, with Adam.

python -m scripts.benchmark.equivalence dqn_cleanrl [--seeds 0 1 2] [--steps 100000]
    [--paths native torch sb3] [hydra overrides]

The paths are ``native``, what runs take; ``torch``, the same without ``native.cpp``; and ``sb3``,
SB3's modules, autograd and optimizer loop. After each seed, the mean return of the last 100
training episodes by each path goes to results/benchmark/equivalence.csv, in place of what was there
for the same seed, and Welch's t-test of the first path against the others is printed.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import argparse
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from scipy.stats import ttest_ind

from experiments.agents import native
from experiments.config import TrainConfig
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY
from experiments.runs.writing import write_text
from experiments.training import Training
from experiments.validation import validate

RESULTS = REPOSITORY / "results" / "benchmark" / "equivalence.csv"
PATHS = ("native", "torch", "sb3")
KEY = ["protocol", "settings", "steps", "seed"]


def without_fast_layer(config: TrainConfig) -> TrainConfig:
    """Return the same run with SB3's modules, autograd and optimizer loop."""
    base = get_class(config.algorithm["_target_"]).__mro__[1]
    return replace(
        config,
        algorithm=config.algorithm | {"_target_": f"{base.__module__}.{base.__qualname__}"},
        optimizer=config.optimizer | {"fused": False},
    )


def final_score(config: TrainConfig, path: str) -> float:
    """Return the mean return of the last 100 training episodes of a run by one of `PATHS`."""
    with nullcontext() if path == "native" else native.left_out():
        training = Training(without_fast_layer(config) if path == "sb3" else config)
        if diverged := training.learn():
            raise SystemExit(diverged)
    score = training.observers.curve.result()["final_score"]
    assert score is not None
    return float(score)


def comparisons(rows: pd.DataFrame, paths: list[str]) -> Iterator[str]:
    """Return a line for each path after the first, on the seeds that both have."""
    first = paths[0]
    for path in paths[1:]:
        both = rows.dropna(subset=[first, path])
        if len(both) < 2:
            continue
        test = ttest_ind(both[first], both[path], equal_var=False)
        low, high = test.confidence_interval()
        yield (
            f"{len(both)} seeds: {first} {both[first].mean():.1f}, {path} {both[path].mean():.1f}; "
            f"difference within [{low:.1f}, {high:.1f}] (95%), Welch's p = {test.pvalue:.2f}"
        )


def main() -> None:
    """Compare the paths on what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("protocol")
    parser.add_argument("overrides", nargs="*", metavar="setting=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(10)])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=[*PATHS])
    with exit_on_mistake():
        given = parser.parse_intermixed_args()
    warnings.filterwarnings("ignore", message=".*(out of date|settotalmass).*")  # v4 models
    with exit_on_mistake(), initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        settings = [f"protocol={given.protocol}", f"total_steps={given.steps}", *given.overrides]
        config = validate(compose("train", ["optimizer=adam", "evaluation.points=0", *settings]))
    common = {"protocol": given.protocol, "settings": " ".join(given.overrides)}
    for seed in given.seeds:
        row = common | {"steps": given.steps, "seed": seed}
        for path in given.paths:
            row[path] = final_score(replace(config, seed=seed), path)
            print(f"{given.protocol}, seed {seed}, {path}: {row[path]:.1f}", flush=True)
        rows = save(row)
        same = (rows[KEY[:3]] == pd.Series(row)[KEY[:3]]).all(axis=1)
        for line in comparisons(rows[same], given.paths):
            print(line, flush=True)


def save(row: dict[str, object]) -> pd.DataFrame:
    """Put a seed's scores into the results, and return all of them."""
    rows = pd.DataFrame([row]).set_index(KEY)
    if RESULTS.exists():
        earlier = pd.read_csv(RESULTS, keep_default_na=False, na_values={p: [""] for p in PATHS})
        rows = rows.combine_first(earlier.set_index(KEY))
    rows = rows.reset_index()[[*KEY, *(path for path in PATHS if path in rows)]]
    write_text(RESULTS, rows.to_csv(index=False, float_format="%.4g"))
    return rows


if __name__ == "__main__":
    main()
