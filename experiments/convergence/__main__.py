"""Checks the bounds of `alphagrad.theory` with the optimizer itself, and leaves a record.

python -m experiments.convergence

Functions, bounds and symbols: docs/theory.md; the record: `check`.
"""

import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise, product
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
from torch import Tensor

from alphagrad import AlphaGrad
from alphagrad.theory import (
    best_lr,
    gradient_norm_bound,
    single_tensor_constant,
    update_constant,
)
from experiments.config import STRICT, Count, NonNegative, Positive
from experiments.convergence.problems import PROFILES, Problem, network_problem, profile_problem
from experiments.mistakes import ConfigurationError, exit_on_mistake
from experiments.runs.files import write_json
from experiments.runs.run import SCHEMA_VERSION, now, provenance
from experiments.validation import typed

Sizes = Annotated[list[Count], Field(min_length=1)]


@dataclass
class ConvergenceConfig:
    """One check: the cases are all combinations.

    Attributes:
        tensors: problems by the sizes of their tensors, as ``[[10], [1, 10]]``; the network has
            sizes of its own.
        alphas: steepnesses.
        eps: of the functions with a known L; the network's is the optimizer's default.
        steps: horizons T, growing; each learning rate is the best one for its T.
        constant_steps: the T whose best learning rate a series of constant steps keeps for all T.
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
    steps: Annotated[list[Count], Field(min_length=2)] = field(
        default_factory=lambda: [10, 20, 40, 80, 160, 320]
    )
    constant_steps: Count = 40
    results: str = "results"

    def identity(self) -> str:
        """Twelve hexadecimal digits that two checks share exactly if they are the same."""
        configuration = asdict(self)
        del configuration["results"]
        canonical = json.dumps(configuration, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]


ConfigStore.instance().store(name="convergence_schema", node=ConvergenceConfig)


@dataclass(frozen=True)
class Descent:
    """What a run of the optimizer went through.

    Attributes:
        norms: for each step the sum of the tensors' gradient norms before it.
        iterates: the parameters before each step and after the last; empty where L is known.
    """

    norms: list[float]
    iterates: list[list[Tensor]]


def descend(problem: Problem, lr: float, alpha: float, eps: float, steps: int) -> Descent:
    """Minimize with AlphaGrad and one learning rate."""
    params = [tensor.clone().requires_grad_() for tensor in problem.start]
    optimizer = AlphaGrad(params, lr=lr, alpha=alpha, eps=eps)
    norms, iterates = [], [problem.start]
    for _ in range(steps):
        grads = torch.autograd.grad(problem.value(params), params)
        norms.append(sum(grad.norm().item() for grad in grads))
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        optimizer.step()
        if problem.smoothness is None:
            iterates.append([param.detach().clone() for param in params])
    return Descent(norms, iterates if problem.smoothness is None else [])


HESSIANS = 20
"""At how many of a run's iterates the Hessian is looked at."""


def estimated_smoothness(problem: Problem, iterates: list[list[Tensor]]) -> float:
    """The largest norm of the Hessian at some of a run's iterates, evenly spaced."""
    return max(map(problem.hessian_norm, iterates[:: max(len(iterates) // HESSIANS, 1)]))


def needed_smoothness(problem: Problem, iterates: list[list[Tensor]]) -> float:
    """The smallest L with which all of a run's steps obey what the derivation needs of it.

    That is f(x+) <= f(x) + <g, x+ - x> + L |x+ - x|^2 / 2.
    """
    needed = 0.0
    for before, after in pairwise(iterates):
        params = [param.clone().requires_grad_() for param in before]
        value = problem.value(params)
        grad = torch.cat([part.flatten() for part in torch.autograd.grad(value, params)])
        moves = [new - old for new, old in zip(after, before, strict=True)]
        move = torch.cat([part.flatten() for part in moves])
        excess = problem.value(after) - value - grad @ move
        needed = max(needed, 2 * excess.item() / (move @ move).item())
    return needed


def series(
    problem: Problem, alpha: float, eps: float, steps: list[int], constant_steps: int | None
) -> dict[str, Any]:
    """Measured gradient norms and their bounds for one problem and setting, for each T.

    Args:
        problem: what to minimize.
        alpha: steepness.
        eps: added to the norm.
        steps: T, growing.
        constant_steps: take the best learning rate for this T at each T; None takes each its own.

    Returns:
        The setting; ``min_gradient_norm``, the smallest sum of the tensors' gradient norms, and at
        the same learning rate its ``bound``, that ``bound_with_n`` for K and, of a single tensor,
        ``bound_one_tensor`` with the smaller K; the ``slope`` in T, of a constant step None. Where
        L is estimated, ``needed_smoothness`` is what the steps needed of it, else None.
    """
    sizes = problem.sizes
    gap = problem.value(problem.start).item()
    constant = update_constant(sizes, alpha)
    guess = problem.smoothness or problem.hessian_norm(problem.start)
    lrs = [best_lr(gap, guess, constant_steps or horizon, constant) for horizon in steps]
    if constant_steps is None:
        pairs = zip(lrs, steps, strict=True)
        runs = [descend(problem, lr, alpha, eps, horizon) for lr, horizon in pairs]
        measured = [min(run.norms) for run in runs]
    else:
        runs = [descend(problem, lrs[0], alpha, eps, steps[-1])]
        measured = [min(runs[0].norms[:horizon]) for horizon in steps]
    needed = None
    smoothness = problem.smoothness
    if smoothness is None:
        smoothness = max(estimated_smoothness(problem, run.iterates) for run in runs)
        needed = max(needed_smoothness(problem, run.iterates) for run in runs)

    def bounds(constant: float) -> list[float]:
        return [
            gradient_norm_bound(gap, smoothness, lr, horizon, alpha, constant, eps * len(sizes))
            for lr, horizon in zip(lrs, steps, strict=True)
        ]

    bound = bounds(constant)
    single = len(sizes) == 1
    return {
        "function": problem.name,
        "step": "1/sqrt(T)" if constant_steps is None else "constant",
        "sizes": sizes,
        "alpha": alpha,
        "eps": eps,
        "gap": gap,
        "smoothness": smoothness,
        "needed_smoothness": needed,
        "steps": steps,
        "lr": lrs,
        "min_gradient_norm": measured,
        "bound": bound,
        "bound_with_n": bounds(sum(sizes)),
        "bound_one_tensor": bounds(single_tensor_constant(sizes[0], alpha)) if single else None,
        "slope": slope(steps, measured) if constant_steps is None else None,
        "below_bound": [low <= high for low, high in zip(measured, bound, strict=True)],
    }


def slope(steps: list[int], norms: list[float]) -> float | None:
    """The least-squares slope of log(norm) against log(T); None if a norm is 0."""
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
    constant = descend(problem, lr, alpha, 0.0, steps[-1]).norms
    shrinking = [
        descend(problem, lr / horizon**0.5, alpha, 0.0, horizon).norms for horizon in steps
    ]
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


def checks(config: ConvergenceConfig) -> Iterator[tuple[Problem, float, float, int | None]]:
    """The arguments of `series`, less the steps, for every series of a check."""
    problems = [profile_problem(name, sizes) for name in PROFILES for sizes in config.tensors]
    network_eps = AlphaGrad([torch.zeros(1)]).defaults["eps"]
    for problem in problems:
        for alpha, eps in product(config.alphas, config.eps):
            yield problem, alpha, eps, None
            yield problem, alpha, eps, config.constant_steps
    for alpha in config.alphas:
        yield network_problem(), alpha, network_eps, None


def check(config: ConvergenceConfig, command: str) -> tuple[Path, dict[str, Any]]:
    """Run all checks and write the record, in place of an earlier one of the same configuration.

    Its fields are those of a run's record (docs/records.md) where they have a meaning, and

    - ``series``: one dict for each, from `series`; its lists are parallel to its ``steps``;
    - ``counterexamples``: for each alpha a dict from `counterexample`;
    - ``summary``: ``cases``, ``below_bound``, the ``largest_share`` of a bound that was measured,
      ``smoothness_exceeded`` (series in which a step needed a larger L than was estimated)
      and ``counterexamples_stay``.

    Returns:
        Where the record lies, and the record.
    """
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
        for problem, alpha, eps, constant_steps in arguments:
            if progress.disable and shown != problem.name:
                shown = problem.name
                print(
                    f"convergence: {problem.name}, {len(found)} of {len(arguments)} series",
                    flush=True,
                )
            found.append(series(problem, alpha, eps, config.steps, constant_steps))
            progress.update(task, description=f"convergence: {problem.name}", advance=1)
    counterexamples = [counterexample(alpha, config.steps) for alpha in config.alphas]

    exceeded = sum((row["needed_smoothness"] or 0) > row["smoothness"] for row in found)
    shares = [
        measured / bound
        for row in found
        for measured, bound in zip(row["min_gradient_norm"], row["bound"], strict=True)
    ]
    configuration = asdict(config)
    del configuration["results"]
    record = {
        "schema_version": SCHEMA_VERSION,
        "identity": config.identity(),
        "status": "completed",
        "configuration": configuration,
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
    path = Path(config.results) / "convergence" / f"{config.identity()}.json"
    write_json(path, record)
    return path, record


@hydra.main(version_base="1.3", config_path="../../configs", config_name="convergence")
def main(composed: DictConfig) -> None:
    """Run what Hydra has composed; the exit code is 1 if a check fails."""
    with exit_on_mistake():
        config: ConvergenceConfig = typed("", ConvergenceConfig, OmegaConf.to_container(composed))
        if config.steps != sorted(set(config.steps)):
            raise ConfigurationError(f"steps = {config.steps}: should grow")
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
