"""What a run and a study cost: python -m scripts.benchmark.scaling.

For each protocol three short runs as a user would start them, without evaluations and checkpoints:
one that ends at its first update for the start-up, and two longer ones, whose difference in CPU
time gives the cost of a training step. From these, results/benchmark/scaling.csv has the cost of
the study at paper scale on some numbers of cores, one run on each at a time.
"""

import math
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY, provenance
from experiments.runs.writing import write_text
from experiments.study import StudyRunConfig
from experiments.study_config import STAGES
from experiments.validation import typed

RESULTS = REPOSITORY / "results" / "benchmark" / "scaling.csv"
CORES = (2, 16, 256)
OFF_POLICY = "algorithm.learning_starts=1000"
# Study, protocol, overrides, steps of the three runs.
CASES: tuple[tuple[str, str, list[str], tuple[int, int, int]], ...] = (
    ("dqn", "dqn_cleanrl", [OFF_POLICY], (1010, 5000, 25_000)),
    ("td3", "td3_cleanrl", [OFF_POLICY], (1002, 1500, 3500)),
    ("ppo", "ppo_cleanrl", [], (2048, 4096, 20_480)),
)


def run(protocol: str, steps: int, overrides: list[str]) -> tuple[float, float]:
    """Return CPU seconds and maximum resident memory in MB of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *[sys.executable, "-m", "experiments.train", f"protocol={protocol}", "optimizer=adam"],
            *[f"runs={folder}", f"total_steps={steps}", "evaluation.points=0"],
            *["checkpoint.points=0", *overrides],
        ]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def study_size(study: str) -> tuple[int, int]:
    """Return how many runs a study plans, as far as it is known, and the steps of the first."""
    with initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"):
        composed = OmegaConf.to_container(compose("study", [f"study={study}"]), resolve=True)
        plan = typed("", StudyRunConfig, composed).make_plan()
    return sum(len(plan.members(stage)) for stage in STAGES), plan.arms[0].config.total_steps


def main() -> None:
    """Measure all protocols and write the table."""
    rows = []
    for study, protocol, overrides, lengths in CASES:
        (start, _), (short, _), (long, memory) = (run(protocol, n, overrides) for n in lengths)
        step = (long - short) / (lengths[2] - lengths[1])
        runs, steps = study_size(study)
        hours = (start + steps * step) / 3600
        row = {
            "protocol": protocol,
            "cpu": provenance()["cpu"]["model"],
            "start_seconds": start,
            "steps_per_second": 1 / step,
            "memory_mb": memory,
            "run_hours": hours,
            "runs": runs,
        }
        row |= {f"study_hours_{n}_cores": math.ceil(runs / n) * hours for n in CORES}
        print(row, flush=True)
        rows.append(row)
    write_text(RESULTS, pd.DataFrame(rows).to_csv(index=False, float_format="%.3g"))


if __name__ == "__main__":
    with exit_on_mistake():
        ArgumentParser(description=__doc__).parse_args()  # there are none but --help
    main()
