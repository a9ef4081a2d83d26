"""What tracking costs a run: its share of the CPU time, with wandb and TensorBoard both on.

python -m scripts.benchmark.tracking [total_steps=100_000] [overrides]

One run of PPO on HalfCheetah is trained at full length, offline. Its training takes one thread, so
that what tracking takes can be counted in the same run: the time of the main thread inside the
trackers, that of all other threads of the process, and that of wandb's service, a process of its
own. The figures go to results/benchmark/tracking.csv.
"""

import os
from argparse import ArgumentParser

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["WANDB_MODE"] = "offline"

import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir

from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY, Run, provenance
from experiments.runs.writing import write_text
from experiments.train import train
from experiments.validation import validate
from experiments.views.tracking import Trackers

RESULTS = REPOSITORY / "results" / "benchmark" / "tracking.csv"


def timed(seconds: dict[str, float], part: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``method``, whose CPU time in its thread is added to ``seconds[part]``."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        begin = time.thread_time()
        try:
            return method(*arguments, **keywords)
        finally:
            seconds[part] += time.thread_time() - begin

    return call


def main() -> None:
    """Train one run and write where its CPU time went."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="total_steps=100_000, and other settings")
    with (
        tempfile.TemporaryDirectory() as folder,
        exit_on_mistake(),
        initialize_config_dir(str(REPOSITORY / "configs"), version_base="1.3"),
    ):
        overrides = ["protocol=ppo_cleanrl", "optimizer=alphagrad", "optimizer.alpha=10"]
        overrides += ["tracking=both", f"runs={folder}", *parser.parse_args().overrides]
        run = Run(validate(compose("train", overrides)), [])
        seconds: dict[str, float] = defaultdict(float)
        for part, name in (("start", "__enter__"), ("write", "write"), ("finish", "__exit__")):
            setattr(Trackers, name, timed(seconds, part, getattr(Trackers, name)))
        process, thread = time.process_time(), time.thread_time()
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = train(run, bar=sys.stdout.isatty())
        process, thread = time.process_time() - process, time.thread_time() - thread
        import wandb

        wandb.teardown()  # waits for the service, whose time can then be read
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds["other threads"] = process - thread
    seconds["service"] = after.ru_utime - children.ru_utime + after.ru_stime - children.ru_stime
    seconds["training"] = thread - sum(seconds[part] for part in ("start", "write", "finish"))
    rows = pd.DataFrame({"part": list(seconds), "cpu_seconds": list(seconds.values())})
    rows["percent_of_training"] = 100 * rows["cpu_seconds"] / seconds["training"]
    print(rows.to_string(index=False, float_format="{:.2f}".format))
    overhead = sum(seconds.values()) / seconds["training"] - 1
    print(f"tracking costs {overhead:.2%} of the CPU time of training {record['steps']:,} steps")
    rows = rows.assign(steps=record["steps"], cpu=provenance()["cpu"]["model"])
    write_text(RESULTS, rows.to_csv(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
