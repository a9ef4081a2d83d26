"""Checks the bounds of `alphagrad.theory` with the optimizer itself, and leaves a record.

python -m experiments.convergence

Functions, bounds and symbols: docs/theory.md; the record: `check`.
"""

import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import linear_regression
from typing import Annotated, Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from alphagrad import AlphaGrad
from alphagrad.theory import (
    best_lr,
    gradient_norm_bound,
    noise_floor,
    single_tensor_constant,
    update_constant,
)
from experiments.config import STRICT, Count, NonNegative, Positive
from experiments.convergence.descent import (
    Setting,
    descend,
    estimated_smoothness,
    needed_smoothness,
    virtual_iterates,
)
from experiments.convergence.problems import PROFILES, Problem, network_problem, profile_problem
from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.runs.reading import read_json
from experiments.runs.records import digest
from experiments.runs.run import SCHEMA_VERSION, now, provenance
from experiments.runs.writing import write_json
from experiments.validation import typed

Sizes = Annotated[list[Count], Field(min_length=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


@dataclass
class ConvergenceConfig:
    """One check: the cases are all combinations.

    Attributes:
        tensors: problems by the sizes of their tensors, as ``[[10], [1, 10]]``; the network has
            sizes of its own.
        alphas: steepnesses.
        eps: of the functions with a known L, for exact gradients without momentum; of all else it
            is the optimizer's default.
        momenta: with a step of 1 / sqrt(T), for each T of ``momentum_steps``.
        noises: the mean norm of the noise over that of the gradient at the start, with each of
            ``momenta``; the network has exact gradients only.
        repeats: runs with noise, whose mean gradient norm is taken.
        steps: horizons T, growing; each learning rate is the best one for its T.
        momentum_steps: T with momentum or noise, growing.
        constant_steps: the T whose best learning rate a series of constant steps keeps for all T.
        fresh: replace the record of an earlier check; else it is left as it is.
        results: the record goes to its folder ``convergence``.
    """

    __pydantic_config__ = STRICT
    tensors: Annotated[list[Sizes], Field(min_length=1)] = field(
        default_factory=lambda: [[1], [100], [1, 10, 100]]
    )
    alphas: Annotated[list[Positive], Field(min_length=1)] = field(
        default_factory=lambda: [0.1, 1.0, 10.0, 100.0]
    )
    eps: Annotated[list[NonNegative], Field(min_length=1)] = field(
        default_factory=lambda: [0.0, 0.1]
    )
    momenta: Annotated[list[Momentum], Field(min_length=1)] = field(
        default_factory=lambda: [0.0, 0.9, 0.99]
    )
    noises: Annotated[list[NonNegative], Field(min_length=1)] = field(
        default_factory=lambda: [0.0, 0.5]
    )
    repeats: Count = 4
    steps: Annotated[list[Count], Field(min_length=2)] = field(
        default_factory=lambda: [10, 20, 40, 80, 160, 320]
    )
    momentum_steps: Annotated[list[Count], Field(min_length=2)] = field(
        default_factory=lambda: [20, 60, 180]
    )
    constant_steps: Count = 40
    fresh: bool = False
    results: str = "results"

    def content(self) -> dict[str, Any]:
        """Return all that the numbers depend on."""
        kept = asdict(self)
        del kept["results"], kept["fresh"]
        return kept

    def identity(self) -> str:
        """Return twelve hexadecimal digits that two checks share exactly if they are the same."""
        return digest(self.content())[:12]


ConfigStore.instance().store(name="convergence_schema", node=ConvergenceConfig)


def series(
    problem: Problem,
    setting: Setting,
    steps: list[int],
    *,
    constant_steps: int | None = None,
    repeats: int = 1,
) -> dict[str, Any]:
    """Measure gradient norms and compute their bounds for one problem and setting, for each T.

    Args:
        problem: what to minimize.
        setting: of the optimizer and its gradients.
        steps: T, growing.
        constant_steps: take the best learning rate for this T at each T; None takes each its own.
        repeats: runs with noise, over which norms are averaged; exact gradients need one.

    Returns:
        The setting; ``min_gradient_norm``, the smallest sum of the tensors' gradient norms, and at
        the same learning rate its ``bound``, that ``bound_with_n`` for K and, of a single tensor
        without noise, ``bound_one_tensor`` with the smaller K; ``floor``, what the noise adds to
        the bound. ``slope`` in T is None of a constant step and with noise. Where L is estimated,
        ``needed_smoothness`` is what the steps needed of it, else None.
    """
    alpha, eps, momentum, noise = setting
    sizes = problem.sizes
    gap = problem.value(problem.start).item()
    constant = update_constant(sizes, alpha)
    guess = problem.smoothness or problem.hessian_norm(problem.start)
    lrs = [
        best_lr(gap, guess, constant_steps or horizon, constant, momentum=momentum)
        for horizon in steps
    ]
    longest = [(lrs[0], steps[-1])] if constant_steps else list(zip(lrs, steps, strict=True))
    copies = repeats if noise else 1
    runs = [descend(problem, lr, setting, horizon, copies) for lr, horizon in longest]
    if constant_steps:
        measured = [min(runs[0].norms[:horizon]) for horizon in steps]
    else:
        measured = [min(run.norms) for run in runs]
    needed = None
    smoothness = problem.smoothness
    if smoothness is None:
        smoothness = max(
            estimated_smoothness(problem, virtual_iterates(run.iterates, momentum)) for run in runs
        )
        needed = max(needed_smoothness(problem, run.iterates, momentum) for run in runs)

    floor = noise_floor(setting.noise_by_tensor(sizes), sizes, alpha)

    def bounds(constant: float) -> list[float]:
        return [
            gradient_norm_bound(
                gap,
                smoothness,
                lr,
                horizon,
                alpha,
                constant,
                eps * len(sizes),
                momentum=momentum,
                floor=floor,
            )
            for lr, horizon in zip(lrs, steps, strict=True)
        ]

    bound = bounds(constant)
    single = len(sizes) == 1 and not noise
    return {
        "function": problem.name,
        "step": "constant" if constant_steps else "1/sqrt(T)",
        "sizes": sizes,
        "alpha": alpha,
        "eps": eps,
        "momentum": momentum,
        "noise": noise,
        "gap": gap,
        "smoothness": smoothness,
        "needed_smoothness": needed,
        "steps": steps,
        "lr": lrs,
        "min_gradient_norm": measured,
        "bound": bound,
        "bound_with_n": bounds(sum(sizes)),
        "bound_one_tensor": bounds(single_tensor_constant(sizes[0], alpha)) if single else None,
        "floor": floor,
        "slope": None if constant_steps or noise else slope(steps, measured),
        "below_bound": [low <= high for low, high in zip(measured, bound, strict=True)],
    }


def slope(steps: list[int], norms: list[float]) -> float | None:
    """Return the least-squares slope of log(norm) against log(T); None if a norm is 0."""
    if min(norms) == 0:
        return None
    return linear_regression([*map(math.log, steps)], [*map(math.log, norms)]).slope


def counterexample(alpha: float, steps: list[int]) -> dict[str, Any]:
    """f(x) = x^2 / 2 from x = lr tanh(alpha) / 2: steps of lr for each T against lr / sqrt(T).

    Gradient norms are the larger one of the last two of T: one alone may be small by luck, as the
    iterates jump from one side of the minimum to the other.
    """
    lr = 1.0
    predicted = lr * math.tanh(alpha) / 2
    start = [torch.tensor([predicted], dtype=torch.float64)]
    problem = Problem("square", start, lambda params: params[0].square().sum() / 2, 1.0)
    setting = Setting(alpha, eps=0.0)
    constant = descend(problem, lr, setting, steps[-1]).norms
    shrinking = [descend(problem, lr / horizon**0.5, setting, horizon).norms for horizon in steps]
    return {
        "function": problem.name,
        "alpha": alpha,
        "lr": lr,
        "steps": steps,
        "constant": [max(constant[max(horizon - 2, 0) : horizon]) for horizon in steps],
        "shrinking": [max(norms[-2:]) for norms in shrinking],
        "predicted": predicted,
        "floor": lr * update_constant([1], alpha) / (2 * math.tanh(alpha)),
        "stays": all(math.isclose(norm, predicted, rel_tol=1e-9) for norm in constant),
    }


def checks(
    config: ConvergenceConfig,
) -> Iterator[tuple[Problem, Setting, list[int], int | None]]:
    """Yield problem, setting, steps and constant steps, if any, of every series of a check."""
    problems = [profile_problem(name, sizes) for name in PROFILES for sizes in config.tensors]
    eps = AlphaGrad([torch.zeros(1)]).defaults["eps"]
    for problem in problems:
        for alpha, own_eps in product(config.alphas, config.eps):
            for constant_steps in (None, config.constant_steps):
                yield problem, Setting(alpha, own_eps), config.steps, constant_steps
        start = problem.gradient(problem.start).norm().item()
        for alpha, momentum, noise in product(config.alphas, config.momenta, config.noises):
            if momentum or noise:
                setting = Setting(alpha, eps, momentum, noise * start)
                yield problem, setting, config.momentum_steps, None
    for alpha, momentum in product(config.alphas, config.momenta):
        steps = config.momentum_steps if momentum else config.steps
        yield network_problem(), Setting(alpha, eps, momentum), steps, None


def check(config: ConvergenceConfig, command: str) -> tuple[Path, dict[str, Any]]:
    """Run all checks, and write the record unless one of the same configuration is to stay.

    Its fields are those of a run's record (docs/records.md) where they have a meaning, and

    - ``series``: one dict for each, from `series`; its lists are parallel to its ``steps``;
    - ``counterexamples``: for each alpha a dict from `counterexample`;
    - ``summary``: ``cases``, ``below_bound``, the ``largest_share`` of a bound that was measured,
      ``smoothness_exceeded`` (series in which a step needed a larger L than was estimated)
      and ``counterexamples_stay``.

    Returns:
        Where the record lies, and what this check found.

    Raises:
        ConfigurationError: if there is a record that cannot be read.
    """
    path = Path(config.results) / "convergence" / f"{config.identity()}.json"
    stays = not config.fresh and read_json(path) is not None
    started, began = now(), time.perf_counter()
    arguments = list(checks(config))
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} series"),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        disable=not sys.stdout.isatty(),
    )
    task = progress.add_task("convergence", total=len(arguments))
    found: list[dict[str, Any]] = []
    shown = ""
    with progress:
        for problem, setting, steps, constant_steps in arguments:
            if progress.disable and shown != problem.name:
                shown = problem.name
                print(
                    f"convergence: {problem.name}, {len(found)} of {len(arguments)} series",
                    flush=True,
                )
            found.append(
                series(
                    problem,
                    setting,
                    steps,
                    constant_steps=constant_steps,
                    repeats=config.repeats,
                )
            )
            progress.update(task, description=f"convergence: {problem.name}", advance=1)
    counterexamples = [counterexample(alpha, config.steps) for alpha in config.alphas]

    exceeded = sum((row["needed_smoothness"] or 0) > row["smoothness"] for row in found)
    shares = [
        measured / bound
        for row in found
        for measured, bound in zip(row["min_gradient_norm"], row["bound"], strict=True)
    ]
    record = {
        "schema_version": SCHEMA_VERSION,
        "identity": config.identity(),
        "status": "completed",
        "configuration": config.content(),
        "summary": {
            "cases": len(shares),
            "below_bound": sum(sum(row["below_bound"]) for row in found),
            "largest_share": max(shares),
            "smoothness_exceeded": exceeded,
            "counterexamples_stay": all(example["stays"] for example in counterexamples),
        },
        "series": found,
        "counterexamples": counterexamples,
        "timing": {"wall_seconds": time.perf_counter() - began},
        "provenance": {"started": started, "command": command} | provenance() | {"finished": now()},
    }
    if not stays:
        write_json(path, record)
    return path, record


@hydra.main(version_base="1.3", config_path="../../configs", config_name="convergence")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if a check fails."""
    with exit_on_mistake():
        config: ConvergenceConfig = typed("", ConvergenceConfig, OmegaConf.to_container(composed))
        for name in ("steps", "momentum_steps"):
            steps = getattr(config, name)
            if steps != sorted(set(steps)):
                raise ConfigurationError(f"{name} = {steps}: should grow")
    overrides = shlex.join(HydraConfig.get().overrides.task)
    path, record = check(config, f"python -m experiments.convergence {overrides}".strip())
    summary = record["summary"]
    print(
        f"{path}: {summary['below_bound']} of {summary['cases']} cases below the bound, at most "
        f"{summary['largest_share']:.0%} of it; L exceeded in {summary['smoothness_exceeded']} "
        f"series; constant steps stay: {summary['counterexamples_stay']}"
    )
    failed = (
        summary["below_bound"] < summary["cases"]
        or summary["smoothness_exceeded"]
        or not summary["counterexamples_stay"]
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    with exit_on_mistake():
        main()
