"""The optimizer's step on a GPU next to torch's fused Adam, and a short study there.

python -m scripts.benchmark.gpu [--device cpu] [--largest ELEMENTS] [--steps STEPS]

`make test-gpu` runs it after the tests. All optimizers step in turn the same parameters of 10k, 1M
and 100M elements (6 GB of memory); a round of steps ends when the device has done them. Writes
gpu_optimizer.csv (medians, ratios to fused Adam, the most memory that a step takes beside what is
kept) and gpu_study.json (a study of PPO in which all runs finish: returns, seconds).
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from alphagrad import AlphaGrad
from experiments.runs.run import REPOSITORY, provenance
from experiments.runs.writing import write_json, write_text
from scripts.benchmark.optimizer import ONE_MILLION, PPO, mlp

PARAMETERS_ON_GPU = {
    "10k": PPO,
    "1M": ONE_MILLION,
    "100M": mlp(4096, 8192, 8192),
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "Adam, fused": lambda params: Adam(params, lr=1e-6, fused=True),
    "Adam, foreach": lambda params: Adam(params, lr=1e-6, foreach=True),
    "SGD with momentum, fused": lambda params: SGD(params, lr=1e-6, momentum=0.9, fused=True),
    **{
        f"AlphaGrad, {name}, momentum {momentum:g}": lambda params, path=path, momentum=momentum: (
            AlphaGrad(params, lr=1e-6, momentum=momentum, **path)
        )
        for momentum in (0.0, 0.9)
        for name, path in (("fused", {"fused": True}), ("foreach", {"foreach": True}))
    },
}
GRAPHS: dict[str, Callable[..., Optimizer]] = {
    "Adam, fused, CUDA graph": lambda params: Adam(params, lr=1e-6, fused=True, capturable=True),
    "AlphaGrad, foreach, CUDA graph, momentum 0.9": lambda params: AlphaGrad(
        params, lr=1e-6, momentum=0.9, foreach=True, capturable=True
    ),
}
WARM_UP = 4  # steps: state is made, kernels are compiled
ROUNDS = 11
ROUND_SECONDS = 0.05  # of each optimizer


def captured(optimizer: Optimizer) -> Callable[[], None]:
    """Return what replays a step of the optimizer that was captured in a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    replay: Callable[[], None] = graph.replay
    return replay


def steps(params: list[nn.Parameter], device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each optimizer's step, ready to be timed."""
    for name, make in OPTIMIZERS.items():
        optimizer = make(params)
        for _ in range(WARM_UP):
            optimizer.step()
        yield name, optimizer.step
    for name, make in GRAPHS.items() if device == "cuda" else ():
        yield name, captured(make(params))


def seconds(step: Callable[[], Any], repeats: int, device: str) -> float:
    """Return how long a step takes, of so many in a row."""
    synchronize = torch.get_device_module(device).synchronize
    synchronize()
    begin = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronize()
    return (time.perf_counter() - begin) / repeats


def temporary_bytes(step: Callable[[], Any], device: str) -> float:
    """Return the most memory that a step takes beside what is kept; NaN on the CPU."""
    if device == "cpu":
        return math.nan
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return torch.cuda.max_memory_allocated() - before


def measure(shapes: list[tuple[int, ...]], device: str) -> pd.DataFrame:
    """Microseconds and temporary memory of every optimizer's step."""
    params = [nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for param in params:
        param.grad = torch.randn_like(param)
    all_steps = dict(steps(params, device))
    repeats = {
        name: max(1, int(ROUND_SECONDS / (seconds(step, 2, device) + 1e-6)))
        for name, step in all_steps.items()
    }
    times: dict[str, list[float]] = {name: [] for name in all_steps}
    for _ in range(ROUNDS):
        for name, step in all_steps.items():
            times[name].append(seconds(step, repeats[name], device))
    adam = median(times["Adam, fused"])
    rows = [
        {
            "optimizer": name,
            "microseconds": median(times[name]) * 1e6,
            "ratio": median(times[name]) / adam,
            "temporary_bytes": temporary_bytes(step, device),
        }
        for name, step in all_steps.items()
    ]
    return pd.DataFrame(rows)


def hardware(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    name = torch.cuda.get_device_name() if device == "cuda" else provenance()["cpu"]["model"]
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda}


def study(device: str, total_steps: int) -> dict[str, Any]:
    """Train a short study of PPO on the device, and return its returns and seconds.

    Raises:
        SystemExit: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *[sys.executable, "-m", "experiments.study", "study=ppo", "scale=quick"],
            *["task=HalfCheetah-v4", f"runs={folder}/runs", f"results={folder}/results"],
            f'overrides=["device={device}","total_steps={total_steps}","evaluation.points=2"]',
            *(["launcher.runs_per_gpu=4"] if device == "cuda" else []),
        ]
        begin = time.perf_counter()
        if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        wall = time.perf_counter() - begin
        records = [json.loads(path.read_text()) for path in Path(folder).rglob("record.json")]
    runs = [
        {name: record[name] for name in ("arm", "seed", "status", "steps", "final_score", "timing")}
        for record in records
    ]
    return {**hardware(device), "total_steps": total_steps, "wall_seconds": wall, "runs": runs}


def main() -> None:
    """Measure the step, train the study, print and write both."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--largest", type=int, default=200_000_000, help="elements of a model")
    parser.add_argument("--steps", type=int, default=20_480, help="of each run of the study")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results" / "benchmark")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: torch finds no CUDA GPU here; or cpu", file=sys.stderr)
        raise SystemExit(2)
    torch.manual_seed(0)
    tables = []
    for name, shapes in PARAMETERS_ON_GPU.items():
        if sum(map(math.prod, shapes)) <= arguments.largest:
            table = measure(shapes, arguments.device)
            print(f"{name}\n{table.to_string(index=False, float_format='%.2f')}\n", flush=True)
            table.insert(0, "parameters", name)
            tables.append(table.assign(**hardware(arguments.device)))
    content = pd.concat(tables).to_csv(index=False, float_format="%.3f")
    write_text(arguments.results / "gpu_optimizer.csv", content)
    result = study(arguments.device, arguments.steps)
    write_json(arguments.results / "gpu_study.json", result)


if __name__ == "__main__":
    main()
