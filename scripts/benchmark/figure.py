"""Draw the ratios of results/benchmark/throughput.csv: python -m scripts.benchmark.figure."""

from argparse import ArgumentParser
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pandas as pd

from experiments.mistakes import exit_on_mistake
from scripts.figures.plot import STYLE

FOLDER = Path(__file__).parents[2] / "results" / "benchmark"


def main() -> None:
    """One dot for each chunk, a bar for the median, in a row for each protocol and optimizer."""
    plt.style.use(STYLE)
    chunks = pd.read_csv(FOLDER / "throughput.csv")
    chunks["ratio"] = chunks["ours"] / chunks["stock"]
    groups = chunks.groupby(["protocol", "environment", "optimizer", "cpu"])["ratio"]
    figure, axes = plt.subplots(figsize=(7, 0.8 + 0.5 * groups.ngroups), layout="constrained")
    labels = []
    for row, ((protocol, environment, optimizer, cpu), ratio) in enumerate(groups):
        axes.plot(ratio, [row] * len(ratio), "o", alpha=0.4, color="C0")
        axes.plot(ratio.median(), row, "|", markersize=18, markeredgewidth=2.5, color="C1")
        labels.append(f"{protocol}, {environment}, {optimizer}\n{cpu}")
    axes.set_yticks(range(len(labels)), labels)
    axes.axvline(1, color="0.5", linestyle="--", linewidth=1)
    axes.set_xlim(left=0)
    axes.set_xlabel("steps per CPU second, ratio to stock Stable-Baselines3")
    figure.savefig(FOLDER / "throughput.png", dpi=150)


if __name__ == "__main__":
    with exit_on_mistake():
        ArgumentParser(description=__doc__).parse_args()  # there are none but --help
    main()
