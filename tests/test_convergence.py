"""The theory's statements hold for the optimizer, with equality where they say so."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from operator import le
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from alphagrad import AlphaGrad
from alphagrad.theory import (
    alignment_bounds,
    best_gradient_norm_bound,
    best_lr,
    decrease_bound,
    gradient_norm_bound,
    shrinkage,
    single_tensor_constant,
    update_constant,
    update_norm_bounds,
)

ROOT = Path(__file__).parents[1]
ROUNDING = 1 + 1e-9

elements = st.floats(1e-6, 1e6).flatmap(lambda x: st.sampled_from([x, -x]))
gradients = arrays("float64", st.integers(1, 60), elements=elements).map(torch.from_numpy)
alphas = st.floats(1e-3, 1e3)
epsilons = st.sampled_from([0.0, 1e-5, 0.1, 10.0])
positive = st.floats(1e-3, 1e3)
AlphaGrad([torch.zeros(1)])  # torch imports its compiler now, not in an example with a deadline
sizes = st.integers(1, 10_000)
steps = st.integers(1, 10_000)


def update(gradient: Tensor, alpha: float, eps: float) -> Tensor:
    """g' of one step."""
    param = torch.zeros_like(gradient, requires_grad=True)
    param.grad = gradient.clone()
    AlphaGrad([param], lr=1.0, alpha=alpha, eps=eps).step()
    return -param.detach()


def descend(x: Tensor, curvature: Tensor, lr: float, alpha: float, steps: int) -> list[Tensor]:
    """Gradients of f(x) = sum of curvature x^2 / 2 before each step, for eps = 0."""
    param = x.clone().requires_grad_()
    optimizer = AlphaGrad([param], lr=lr, alpha=alpha, eps=0.0)
    gradients = []
    for _ in range(steps):
        param.grad = curvature * param.detach()
        gradients.append(param.grad.clone())
        optimizer.step()
    return gradients


@given(gradients, alphas, epsilons)
def test_size_and_alignment_of_an_update(gradient: Tensor, alpha: float, eps: float) -> None:
    u, norm, size = update(gradient, alpha, eps), gradient.norm().item(), len(gradient)
    low, high = update_norm_bounds(size, alpha, shrinkage(norm, eps))
    assert low <= u.norm().item() * ROUNDING
    assert u.norm().item() <= high * ROUNDING
    assert high**2 <= update_constant([size], alpha) * ROUNDING
    low, high = alignment_bounds(norm, size, alpha, eps)
    aligned = torch.dot(gradient, u).item()
    assert math.tanh(alpha) * norm**2 / (norm + eps) <= low * ROUNDING
    assert low <= aligned * ROUNDING
    assert aligned <= high * ROUNDING


@given(gradients, alphas, epsilons)
def test_a_long_update_is_well_aligned(gradient: Tensor, alpha: float, eps: float) -> None:
    u, norm = update(gradient, alpha, eps), gradient.norm().item()
    aligned = torch.dot(gradient, u).item()
    assert u.square().sum().item() <= alpha / (norm + eps) * aligned * ROUNDING


@given(st.integers(1, 60), st.floats(0.01, 100), alphas, epsilons)
def test_both_bounds_are_attained(size: int, value: float, alpha: float, eps: float) -> None:
    one_hot = torch.zeros(size, dtype=torch.float64)
    one_hot[0] = value
    for gradient, side in ((one_hot, 0), (torch.full_like(one_hot, value), 1)):
        u, norm = update(gradient, alpha, eps), gradient.norm().item()
        expected = update_norm_bounds(size, alpha, shrinkage(norm, eps))[side]
        assert u.norm().item() == pytest.approx(expected, rel=1e-9)
        expected = alignment_bounds(norm, size, alpha, eps)[side]
        assert torch.dot(gradient, u).item() == pytest.approx(expected, rel=1e-9)


def test_a_zero_gradient_has_no_update() -> None:
    assert shrinkage(0.0, 0.0) == 0
    assert alignment_bounds(0.0, 5, alpha=2.0) == (0, 0)
    assert decrease_bound([0.0], [5], lr=0.1, alpha=2.0, smoothness=1.0) == 0


@given(sizes, alphas)
def test_what_min_n_alpha_squared_loses(size: int, alpha: float) -> None:
    exact = update_norm_bounds(size, alpha)[1] ** 2
    share = exact / update_constant([size], alpha)
    assert math.tanh(1) ** 2 <= share * ROUNDING
    assert share <= ROUNDING
    assert single_tensor_constant(size, alpha) <= update_constant([size], alpha)


@given(
    st.lists(gradients, min_size=1, max_size=4),
    alphas,
    epsilons,
    st.floats(1e-3, 10),
    st.floats(1e-3, 10),
)
def test_no_step_changes_a_quadratic_by_more_than_the_bound(
    xs: list[Tensor], alpha: float, eps: float, lr: float, smoothness: float
) -> None:
    curvatures = [torch.linspace(-smoothness, smoothness, len(x)).double() for x in xs]
    grads = [curvature * x for curvature, x in zip(curvatures, xs, strict=True)]
    change = sum(  # f(x - s) - f(x), without the cancellation of a difference
        (curvature * (step**2 / 2) - grad * step).sum().item()
        for curvature, grad, step in zip(
            curvatures, grads, [lr * update(grad, alpha, eps) for grad in grads], strict=True
        )
    )
    norms = [grad.norm().item() for grad in grads]
    bound = decrease_bound(norms, [len(x) for x in xs], lr, alpha, smoothness, eps)
    scale = sum(norm * lr * alpha for norm in norms) + abs(bound)
    assert change <= bound + 1e-9 * scale


@given(elements, alphas, epsilons, positive, positive)
def test_the_descent_inequality_is_an_equality_for_one_variable(
    x: float, alpha: float, eps: float, lr: float, smoothness: float
) -> None:
    gradient = smoothness * x
    step = lr * update(torch.tensor([gradient], dtype=torch.float64), alpha, eps).item()
    change = smoothness * step**2 / 2 - gradient * step
    bound = decrease_bound([abs(gradient)], [1], lr, alpha, smoothness, eps)
    assert change == pytest.approx(bound, rel=1e-6, abs=1e-9 * abs(gradient * step))


@given(positive, positive, positive, steps, alphas, positive, st.floats(0, 10))
def test_closed_forms(
    gap: float, smoothness: float, lr: float, steps: int, alpha: float, constant: float, eps: float
) -> None:
    bound = gradient_norm_bound(gap, smoothness, lr, steps, alpha, constant)
    expected = gap / (lr * steps) + smoothness * lr * constant / 2
    assert bound * math.tanh(alpha) == pytest.approx(expected)

    best = best_gradient_norm_bound(gap, smoothness, steps, alpha, constant, eps)
    optimum = best_lr(gap, smoothness, steps, constant)
    setting = (steps, alpha, constant)
    assert best == pytest.approx(gradient_norm_bound(gap, smoothness, optimum, *setting, eps))
    assert best <= gradient_norm_bound(gap, smoothness, lr, *setting, eps) * ROUNDING

    with_eps = gradient_norm_bound(gap, smoothness, lr, steps, alpha, constant, eps)
    assert with_eps**2 / (with_eps + eps) == pytest.approx(bound)
    assert bound <= with_eps * ROUNDING
    assert with_eps <= (bound + eps) * ROUNDING


def test_the_bound_of_gradient_descent_for_a_small_alpha() -> None:
    bound = best_gradient_norm_bound(3.0, 2.0, 50, 1e-4, update_constant([1000], 1e-4))
    assert bound == pytest.approx(math.sqrt(2 * 2.0 * 3.0 / 50))


def test_tensors_add_up() -> None:
    assert update_constant([4, 400, 4], alpha=3.0) == 4 + 9 + 4
    assert single_tensor_constant(400, 3.0) == 3 * math.tanh(3)


@given(
    arrays("float64", st.integers(1, 8), elements=st.floats(0.1, 10)).map(torch.from_numpy),
    st.floats(0.01, 100),
    st.floats(0.01, 1),
    st.sampled_from([1, 10, 50]),
)
def test_the_smallest_gradient_norm_of_quadratics(
    x: Tensor, alpha: float, lr: float, steps: int
) -> None:
    curvature = torch.linspace(1, 2, len(x), dtype=torch.float64)
    gap = (curvature * x**2).sum().item() / 2
    measured = min(g.norm().item() for g in descend(x, curvature, lr, alpha, steps))
    for constant in (update_constant([len(x)], alpha), single_tensor_constant(len(x), alpha)):
        bound = gradient_norm_bound(gap, 2.0, lr, steps, alpha, constant)
        assert measured <= bound * ROUNDING


@given(st.floats(0.01, 100), st.floats(0.01, 10), st.floats(0.1, 10))
def test_a_constant_step_does_not_converge(alpha: float, lr: float, smoothness: float) -> None:
    x = torch.tensor([lr * math.tanh(alpha) / 2], dtype=torch.float64)
    gradients = descend(x, torch.tensor(smoothness, dtype=torch.float64), lr, alpha, 20)
    stuck = smoothness * lr * math.tanh(alpha) / 2
    torch.testing.assert_close(
        torch.cat(gradients).abs(), torch.full((20,), stuck, dtype=torch.float64)
    )

    floor = gradient_norm_bound(0.0, smoothness, lr, 20, alpha, update_constant([1], alpha))
    assert math.tanh(1) ** 2 <= stuck / floor * ROUNDING
    assert stuck / floor <= ROUNDING


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_the_floor_is_attained_at_both_ends_of_alpha(alpha: float) -> None:
    floor = gradient_norm_bound(0.0, 3.0, 0.1, 1, alpha, update_constant([1], alpha))
    assert 3.0 * 0.1 * math.tanh(alpha) / 2 == pytest.approx(floor, rel=1e-5)


def test_a_constant_step_below_two_eps_converges() -> None:
    smoothness, alpha, eps = 2.0, 3.0, 0.1
    param = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
    optimizer = AlphaGrad([param], lr=1.9 * eps / (smoothness * alpha), alpha=alpha, eps=eps)
    values = []
    for _ in range(300):
        param.grad = smoothness * param.detach()
        values.append(smoothness * param.detach().square().sum().item() / 2)
        optimizer.step()
    assert all(after <= before for before, after in pairwise(values))
    assert values[-1] < 1e-20


def test_an_unbiased_gradient_may_lead_uphill() -> None:
    samples = [4.0, -1.0, -1.0, -1.0]
    updates = [update(torch.tensor([g]), alpha=1.0, eps=0.0).item() for g in samples]
    assert sum(samples) / 4 == 1 / 4
    assert sum(updates) / 4 == pytest.approx(-math.tanh(1) / 2)


def run(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "experiments.convergence", f"results={folder}", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_experiment_leaves_a_record(tmp_path: Path) -> None:
    done = run(tmp_path, "tensors=[[3],[1,2]]", "alphas=[1]", "steps=[10,30]")
    assert done.returncode == 0, done.stderr
    assert "convergence: network" in done.stdout
    [path] = (tmp_path / "convergence").iterdir()
    record: dict[str, Any] = json.loads(path.read_text())
    assert record["status"] == "completed"
    assert path.name == f"{record['identity']}.json"
    assert record["configuration"]["alphas"] == [1.0]
    assert record["provenance"]["command"].startswith("python -m experiments.convergence results=")
    assert {"started", "finished", "git", "versions", "cpu"} <= set(record["provenance"])

    # Three functions, two splits, two eps, two kinds of steps; the network; two horizons each.
    assert record["summary"]["cases"] == (3 * 2 * 2 * 2 + 1) * 2
    assert record["summary"]["below_bound"] == record["summary"]["cases"]
    assert record["summary"]["smoothness_exceeded"] == 0
    for row in record["series"]:
        assert row["steps"] == [10, 30]
        for bounds in (row["bound"], row["bound_one_tensor"] or row["bound"]):
            assert all(map(le, row["min_gradient_norm"], bounds))
        assert (row["slope"] is None) == (row["step"] == "constant")
        assert (row["needed_smoothness"] is None) == (row["function"] != "network")
    [example] = record["counterexamples"]
    assert example["stays"]
    assert example["constant"] == pytest.approx([math.tanh(1) / 2] * 2)
    for horizon, norm in zip(example["steps"], example["shrinking"], strict=True):
        assert norm <= example["lr"] * math.tanh(1) / math.sqrt(horizon)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=[30,10]", "steps"),
        ("alphas=[0]", "alphas"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, override: str, message: str) -> None:
    done = run(tmp_path, override)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
