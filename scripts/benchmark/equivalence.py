"""Whether the fast algorithms learn what the classes below them learn: the same runs of both.

python -m scripts.benchmark.equivalence dqn_cleanrl [seeds [steps [hydra overrides]]]

Each seed trains twice, with Adam. Results go to results/benchmark/equivalence.csv after each seed,
in place of earlier ones of the protocol: the mean return of the last 100 training episodes on
either path, and Welch's t-test between the paths over all seeds so far.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import sys
import warnings
from dataclasses import replace

import pandas as pd
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from scipy.stats import ttest_ind

from experiments.config import TrainConfig
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY
from experiments.runs.writing import write_text
from experiments.training import Training
from experiments.validation import validate

RESULTS = REPOSITORY / "results" / "benchmark" / "equivalence.csv"


def without_fast_layer(config: TrainConfig) -> TrainConfig:
    """Return the same run with SB3's modules, autograd and optimizer loop."""
    base = get_class(config.algorithm["_target_"]).__mro__[1]
    return replace(
        config,
        algorithm=config.algorithm | {"_target_": f"{base.__module__}.{base.__qualname__}"},
        optimizer=config.optimizer | {"fused": False},
    )


def final_score(config: TrainConfig) -> float:
    """Return the mean return of the last 100 training episodes of a run."""
    training = Training(config)
    if diverged := training.learn():
        raise SystemExit(diverged)
    score = training.observers.curve.result()["final_score"]
    assert score is not None
    return float(score)


def main() -> None:
    """Compare the paths on the protocol, seeds and steps of the command line."""
    given = sys.argv[1:]
    if not given or not all(number.isdecimal() for number in given[1:3]):
        command = "python -m scripts.benchmark.equivalence"
        sys.exit(f"usage: {command} <protocol> [<seeds> [<steps> [<setting>=<value>]]]")
    protocol, seeds, steps, *overrides = [*given, *["5", "100000"][len(given) - 1 :]]
    warnings.filterwarnings("ignore", message=".*(out of date|settotalmass).*")  # v4 models
    rows = []
    for seed in range(int(seeds)):
        common = [f"protocol={protocol}", f"total_steps={steps}", f"seed={seed}", *overrides]
        configs = str(REPOSITORY / "configs")
        with exit_on_mistake(), initialize_config_dir(configs, version_base="1.3"):
            config = validate(compose("train", ["optimizer=adam", "evaluation.points=0", *common]))
        fast = final_score(config)
        sb3 = final_score(without_fast_layer(config))
        rows.append({"protocol": protocol, "steps": int(steps), "seed": seed})
        rows[-1] |= {"fast": fast, "sb3": sb3}
        print(f"{protocol}, seed {seed}: fast path {fast:.1f}, SB3's {sb3:.1f}", flush=True)
        if seed > 0:
            save(pd.DataFrame(rows))


def save(rows: pd.DataFrame) -> None:
    """Put a protocol's rows into the results, with the test over its seeds."""
    test = ttest_ind(rows["fast"], rows["sb3"], equal_var=False)
    rows = rows.assign(welch_t=test.statistic, p=test.pvalue)
    print(f"Welch's t = {test.statistic:.2f}, p = {test.pvalue:.2f}", flush=True)
    if RESULTS.exists():
        earlier = pd.read_csv(RESULTS)
        rows = pd.concat([earlier[earlier["protocol"] != rows["protocol"].iloc[0]], rows])
    write_text(RESULTS, rows.to_csv(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
