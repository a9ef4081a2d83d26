"""The optimizer's step next to torch's optimizers and the author's loop, on the CPU.

python -m scripts.benchmark.optimizer

All optimizers step in turn in one process on tensors of the same shapes, so that whatever else the
machine does meets them all; what is timed is the process's own CPU time, and with several threads
the clock. Ratios are of medians, to torch's fused Adam. Writes results/benchmark/optimizer.csv,
.png and .pdf.
"""

import os
from argparse import ArgumentParser

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["KINETO_LOG_LEVEL"] = "5"  # the profiler says each time that it starts

import time
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from lion_pytorch import Lion
from torch import Tensor, nn
from torch.optim import SGD, Adam, Muon, Optimizer

from alphagrad import AlphaGrad, kernel
from experiments.mistakes import exit_on_mistake
from experiments.runs.run import REPOSITORY, provenance
from scripts.figures.plot import STYLE

RESULTS = REPOSITORY / "results" / "benchmark"
ROUNDS = 11
ROUND_SECONDS = 0.03  # of each optimizer


def mlp(*widths: int) -> list[tuple[int, ...]]:
    """Shapes of a multilayer perceptron's weights and biases."""
    layers = zip(widths[1:], widths[:-1], strict=True)
    return [shape for out, into in layers for shape in ((out, into), (out,))]


def residual_network(*blocks: int) -> list[tuple[int, ...]]:
    """Shapes of a ResNet of basic blocks, on images: ResNet-18 has (2, 2, 2, 2)."""
    convolutions = [(64, 3, 7, 7)]
    width = 64
    for stage, count in enumerate(blocks):
        for block in range(count):
            out = 64 << stage
            convolutions += [(out, width, 3, 3), (out, out, 3, 3)]
            if block == 0 and stage > 0:
                convolutions.append((out, width, 1, 1))
            width = out
    layers = [shape for c in convolutions for shape in (c, (c[0],), (c[0],))]  # with batch norms
    return [*layers, (1000, width), (1000,)]


def normal(shapes: list[tuple[int, ...]], **more: Any) -> list[Tensor]:
    """Draw a tensor of each shape; what has four dimensions, in a memory format if one is named."""
    return [torch.randn(s).to(**more) if len(s) == 4 else torch.randn(s) for s in shapes]


PPO = [*mlp(17, 64, 64, 6), *mlp(17, 64, 64, 1), (1, 6)]
ONE_MILLION = mlp(784, 900, 320, 10)
TEN_MILLION = mlp(784, 2048, 2048, 2048, 10)
RESNET_18 = residual_network(2, 2, 2, 2)

PARAMETERS: dict[str, Callable[[], list[Tensor]]] = {
    "PPO's networks": lambda: normal(PPO),
    "PPO's networks and one tensor in fp64": lambda: [
        *normal(PPO),
        torch.randn(6, dtype=torch.float64),
    ],
    "TD3's two critics": lambda: normal(2 * mlp(14, 256, 256, 1)),
    "200 small tensors": lambda: normal(100 * [(16, 16), (16,)]),
    "1M-parameter MLP": lambda: normal(ONE_MILLION),
    "10M-parameter MLP": lambda: normal(TEN_MILLION),
    "ResNet-18": lambda: normal(RESNET_18),
    "ResNet-18, channels_last": lambda: normal(RESNET_18, memory_format=torch.channels_last),
}
THREADS = {"1M-parameter MLP": (1, 2), "10M-parameter MLP": (1, 2)}  # where more than one helps
PANELS = ("PPO's networks", "TD3's two critics", "10M-parameter MLP")


class AuthorsLoop(Optimizer):
    """The rule tensor by tensor, as the author's code has it."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                update = torch.tanh(grad / (grad.norm(p=2) + 1e-5))
                if group["momentum"] != 0:
                    state = self.state[param]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.clone(update).detach()
                    else:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                    update = state["momentum_buffer"]
                param.add_(update, alpha=-group["lr"])


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "Adam, fused": lambda params: Adam(params, lr=1e-6, fused=True),
    "Adam, foreach": lambda params: Adam(params, lr=1e-6, foreach=True),
    "Adam, loop": lambda params: Adam(params, lr=1e-6, foreach=False),
    "SGD with momentum, fused": lambda params: SGD(params, lr=1e-6, momentum=0.9, fused=True),
    "Lion, loop": lambda params: Lion(params, lr=1e-6),
    "Muon (matrices only)": lambda params: Muon([p for p in params if p.ndim == 2], lr=1e-6),
    **{
        f"{name}, momentum {momentum:g}": lambda params, kind=kind, momentum=momentum, more=more: (
            kind(params, lr=1e-6, momentum=momentum, **more)
        )
        for momentum in (0.0, 0.9)
        for name, kind, more in (
            ("AlphaGrad, kernel", AlphaGrad, {"fused": True}),
            ("AlphaGrad, foreach", AlphaGrad, {"foreach": True}),
            ("AlphaGrad, loop", AlphaGrad, {"foreach": False}),
            ("Author's loop", AuthorsLoop, {}),
        )
    },
}


def make_parameters(values: list[Tensor]) -> list[nn.Parameter]:
    """Parameters with gradients."""
    params = [nn.Parameter(value) for value in values]
    for param in params:
        param.grad = torch.randn_like(param)
    return params


def measure(make_values: Callable[[], list[Tensor]], threads: int = 1) -> pd.DataFrame:
    """Microseconds a step, temporary memory and state of every optimizer."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    size = sum(value.numel() for value in make_values())
    rows: dict[str, dict[str, Any]] = {}
    steps: dict[str, Callable[[], Any]] = {}
    repeats: dict[str, int] = {}
    for name, make in OPTIMIZERS.items():
        if "Muon" in name and size > 1_000_000:
            continue  # seconds a step
        optimizer = make(make_parameters(make_values()))
        for _ in range(3):  # state is made and the step compiled
            optimizer.step()
        begin = clock()
        optimizer.step()
        repeats[name] = max(1, int(ROUND_SECONDS / (clock() - begin + 1e-6)))
        steps[name] = optimizer.step
        rows[name] = {"temporary_bytes": peak_memory(optimizer), "state_bytes": state(optimizer)}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            begin = clock()
            for _ in range(repeats[name]):
                step()
            times[name].append((clock() - begin) / repeats[name] * 1e6)
    table = pd.DataFrame(rows).T
    table.insert(0, "microseconds", pd.DataFrame(times).median())
    table.insert(1, "ratio", table["microseconds"] / table["microseconds"]["Adam, fused"])
    return table.rename_axis("optimizer")


def state(optimizer: Optimizer) -> int:
    """Bytes of the tensors that an optimizer keeps."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def peak_memory(optimizer: Optimizer) -> int:
    """Return the most bytes that a step has allocated at one time."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        optimizer.step()
    events = profile.profiler.kineto_results.events()
    allocations = pd.Series(
        [event.nbytes() for event in events if event.name() == "[memory]"], dtype=float
    )
    return int(max(0, allocations.cumsum().max())) if len(allocations) else 0


def draw(table: pd.DataFrame) -> None:
    """Draw the ratios as dots, one panel for each of `PANELS`."""
    plt.style.use(STYLE)
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 4), sharey=True, layout="constrained")
    for axis, name in zip(axes, PANELS, strict=True):
        panel = table[(table["parameters"] == name) & (table["threads"] == 1)].iloc[::-1]
        axis.plot(panel["ratio"], panel["optimizer"], "o", markersize=5)
        for optimizer, ratio in zip(panel["optimizer"], panel["ratio"], strict=True):
            axis.annotate(
                f"{ratio:.2f}", (ratio, optimizer), (5, 0), textcoords="offset points", va="center"
            )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(title=name, xlabel="time of a step, ratio to fused Adam", xlim=(0.3, 150))
        axis.set_xscale("log")
    for suffix in ("png", "pdf"):
        figure.savefig(RESULTS / f"optimizer.{suffix}")


def main() -> None:
    """Measure, print and write."""
    if not kernel.is_built():
        raise SystemExit("the kernel is not built: install a C++ compiler, then make setup")
    torch.manual_seed(0)
    tables = []
    rows = [(name, make, n) for name, make in PARAMETERS.items() for n in THREADS.get(name, (1,))]
    for name, make, threads in rows:
        table = measure(make, threads).reset_index()
        print(f"{name}, {threads} threads\n{table.to_string(index=False, float_format='%.2f')}\n")
        table.insert(0, "parameters", name)
        table.insert(1, "threads", threads)
        tables.append(table)
        table = pd.concat(tables).assign(cpu=provenance()["cpu"]["model"], torch=torch.__version__)
        table.to_csv(RESULTS / "optimizer.csv", index=False, float_format="%.3f")
    draw(table)


if __name__ == "__main__":
    with exit_on_mistake():
        ArgumentParser(description=__doc__).parse_args()  # there are none but --help
    main()
