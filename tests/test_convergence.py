"""The theory's statements hold for the optimizer, with equality where they say so."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from operator import le
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
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
    momentum_factor,
    noise_floor,
    shrinkage,
    single_tensor_constant,
    update_constant,
    update_norm_bounds,
)
from experiments.convergence.__main__ import ConvergenceConfig, check
from experiments.mistakes import ConfigurationError

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
momenta = st.floats(0, 0.99)
starts = arrays("float64", st.integers(1, 8), elements=st.floats(0.1, 10)).map(torch.from_numpy)


def update(gradient: Tensor, alpha: float, eps: float) -> Tensor:
    """g' of one step."""
    param = torch.zeros_like(gradient, requires_grad=True)
    param.grad = gradient.clone()
    AlphaGrad([param], lr=1.0, alpha=alpha, eps=eps).step()
    return -param.detach()


def descend(
    x: Tensor,
    curvature: Tensor,
    lrs: list[float],
    alpha: float,
    *,
    eps: float = 0.0,
    momentum: float = 0.0,
    noise: Callable[[Tensor], Tensor] = torch.zeros_like,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return gradients of f(x) = sum of curvature x^2 / 2 before each step, and their noise."""
    param = x.clone().requires_grad_()
    optimizer = AlphaGrad([param], alpha=alpha, eps=eps, momentum=momentum)
    gradients, noises = [], []
    for lr in lrs:
        optimizer.param_groups[0]["lr"] = lr
        gradients.append(curvature * param.detach())
        noises.append(noise(param.detach()))
        param.grad = gradients[-1] + noises[-1]
        optimizer.step()
    return gradients, noises


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


@given(
    positive,
    positive,
    positive,
    steps,
    alphas,
    positive,
    st.floats(0, 10),
    momenta,
    st.floats(0, 10),
)
def test_closed_forms(
    gap: float,
    smoothness: float,
    lr: float,
    steps: int,
    alpha: float,
    constant: float,
    eps: float,
    momentum: float,
    floor: float,
) -> None:
    more: dict[str, Any] = {"momentum": momentum, "floor": floor}
    bound = gradient_norm_bound(gap, smoothness, lr, steps, alpha, constant, **more)
    effective = lr / (1 - momentum)
    curvature = smoothness * momentum_factor(momentum, steps)
    expected = gap / (effective * steps) + curvature * effective * constant / 2
    assert bound == pytest.approx(expected / math.tanh(alpha) + floor)

    best = best_gradient_norm_bound(gap, smoothness, steps, alpha, constant, eps, **more)
    optimum = best_lr(gap, smoothness, steps, constant, momentum=momentum)
    rest = (steps, alpha, constant, eps)
    assert best == pytest.approx(gradient_norm_bound(gap, smoothness, optimum, *rest, **more))
    assert best <= gradient_norm_bound(gap, smoothness, lr, *rest, **more) * ROUNDING

    with_eps = gradient_norm_bound(gap, smoothness, lr, *rest, **more)
    assert with_eps**2 / (with_eps + eps) == pytest.approx(bound)
    assert bound <= with_eps * ROUNDING
    assert with_eps <= (bound + eps) * ROUNDING


def test_the_bound_of_gradient_descent_for_a_small_alpha() -> None:
    bound = best_gradient_norm_bound(3.0, 2.0, 50, 1e-4, update_constant([1000], 1e-4))
    assert bound == pytest.approx(math.sqrt(2 * 2.0 * 3.0 / 50))


def test_tensors_add_up() -> None:
    noise = [noise_floor([sigma], [size], 3.0) for sigma, size in ((0.1, 4), (2.0, 400))]
    assert noise_floor([0.1, 2.0], [4, 400], 3.0) == pytest.approx(sum(noise))
    assert noise[1] == pytest.approx(2 * 3 / math.tanh(3))
    assert update_constant([4, 400, 4], alpha=3.0) == 4 + 9 + 4
    assert single_tensor_constant(400, 3.0) == 3 * math.tanh(3)


@given(
    starts,
    st.floats(0.01, 100),
    st.floats(0.01, 1),
    st.sampled_from([1, 10, 50]),
    momenta,
    epsilons,
)
def test_the_smallest_gradient_norm_of_quadratics(
    x: Tensor, alpha: float, lr: float, steps: int, momentum: float, eps: float
) -> None:
    curvature = torch.linspace(1, 2, len(x), dtype=torch.float64)
    gap = (curvature * x**2).sum().item() / 2
    gradients, _ = descend(x, curvature, [lr] * steps, alpha, eps=eps, momentum=momentum)
    measured = min(g.norm().item() for g in gradients)
    for constant in (update_constant([len(x)], alpha), single_tensor_constant(len(x), alpha)):
        bound = gradient_norm_bound(gap, 2.0, lr, steps, alpha, constant, eps, momentum=momentum)
        assert measured <= bound * ROUNDING


@given(starts, st.floats(0.01, 100), st.floats(0.01, 1), momenta)
def test_steps_that_fall_to_0(x: Tensor, alpha: float, lr: float, momentum: float) -> None:
    curvature = torch.linspace(1, 2, len(x), dtype=torch.float64)
    gap = (curvature * x**2).sum().item() / 2
    lrs = [lr * (1 - step / 20) for step in range(20)]
    gradients, _ = descend(x, curvature, lrs, alpha, momentum=momentum)
    ahead = [sum(momentum**j * lr for j, lr in enumerate(lrs[step:])) for step in range(20)]
    squares = sum(a**2 for a in ahead) * update_constant([len(x)], alpha)
    bound = (gap + (1 + momentum) / (1 - momentum) * squares) / (math.tanh(alpha) * sum(ahead))
    assert min(g.norm().item() for g in gradients) <= bound * ROUNDING


@given(
    starts, st.floats(0.01, 100), st.floats(0.01, 1), momenta, st.floats(0, 30), st.integers(0, 99)
)
def test_no_noise_lifts_quadratics_above_the_bound(
    x: Tensor, alpha: float, lr: float, momentum: float, scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    curvature = torch.linspace(1, 2, len(x), dtype=torch.float64)
    gradients, noises = descend(
        x,
        curvature,
        [lr] * 20,
        alpha,
        momentum=momentum,
        noise=lambda x: scale * torch.randn(len(x), generator=generator, dtype=x.dtype),
    )
    # For this one run the noise may well not be 0 in the mean.
    sigma = fmean(noise.norm().item() for noise in noises)
    floor = noise_floor([sigma], [len(x)], alpha) + sigma
    gap = (curvature * x**2).sum().item() / 2
    constant = update_constant([len(x)], alpha)
    bound = gradient_norm_bound(gap, 2.0, lr, 20, alpha, constant, momentum=momentum, floor=floor)
    assert min(g.norm().item() for g in gradients) <= bound * ROUNDING


@given(
    st.integers(1, 20).flatmap(
        lambda size: arrays("float64", (5, size), elements=st.floats(-100, 100))
    ),
    alphas,
    epsilons,
)
def test_the_mean_alignment_of_gradients_that_are_right_in_the_mean(
    samples: np.ndarray, alpha: float, eps: float
) -> None:
    gradients = torch.from_numpy(samples)
    exact = gradients.mean(dim=0)
    norm, size = exact.norm().item(), len(exact)
    assume(norm > 1e-6)
    aligned = fmean(torch.dot(exact, update(sample, alpha, eps)).item() for sample in gradients)
    sigma = (gradients - exact).norm(dim=1).mean().item()
    lost = noise_floor([sigma], [size], alpha)
    bound = math.tanh(alpha) * (norm**2 / (norm + eps) - lost)
    assert bound <= aligned + 1e-9 * (norm + lost) * math.sqrt(size)


@given(momenta, steps)
def test_what_momentum_costs(momentum: float, steps: int) -> None:
    factor = momentum_factor(momentum, steps)
    assert momentum_factor(0.0, steps) == momentum_factor(momentum, 1) == 1
    assert factor <= momentum_factor(momentum, steps + 1) * ROUNDING
    assert factor <= (1 + momentum) / (1 - momentum) * ROUNDING
    assert momentum_factor(0.9, 10_000) == pytest.approx(19)


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
@pytest.mark.parametrize(
    ("samples", "exact"), [((2.001, -0.001), 1.0), ((1.0, -0.001), 1.0)], ids=["unbiased", "biased"]
)
def test_no_smaller_floor_will_do_for_one_variable(
    samples: tuple[float, ...], exact: float, alpha: float
) -> None:
    updates = [update(torch.tensor([g]).double(), alpha, eps=0.0).item() for g in samples]
    assert fmean(updates) == pytest.approx(0, abs=1e-12)
    sigma = fmean(abs(g - exact) for g in samples)
    floor = noise_floor([sigma], [1], alpha)
    if fmean(samples) != pytest.approx(exact):
        floor += sigma
    assert floor == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("momentum", [0.9, 0.95, 0.99])
def test_balls_with_momentum_roll_for_ever(momentum: float) -> None:
    alpha, lr, smoothness = 1e3, 0.1, 3.0
    unit = lr * math.tanh(alpha) / (1 - momentum) ** 2
    width, period = 0.2 * unit, 1.5 * unit
    balls = list(torch.linspace(0, 0.4 * unit, 4, dtype=torch.float64))
    optimizer = AlphaGrad(balls, lr=lr, alpha=alpha, eps=0.0, momentum=momentum)
    norms = []
    for _ in range(round(20 / (1 - momentum))):
        place = torch.remainder(torch.stack(balls), period) - (period - width / 2)
        rise = (width / 2 - place.abs()).clamp(min=0) - width**2 / (4 * period)
        gradient = smoothness * rise
        norms.append(gradient.abs().sum().item())
        for ball, grad in zip(balls, gradient, strict=True):
            ball.grad = grad
        optimizer.step()
    assert all(ball > 5 * period for ball in balls)
    assert min(norms) > 0.003 * len(balls) * smoothness * unit


@given(st.floats(0.01, 100), st.floats(0.01, 10), st.floats(0.1, 10))
def test_a_constant_step_does_not_converge(alpha: float, lr: float, smoothness: float) -> None:
    x = torch.tensor([lr * math.tanh(alpha) / 2], dtype=torch.float64)
    curvature = torch.tensor(smoothness, dtype=torch.float64)
    gradients, _ = descend(x, curvature, [lr] * 20, alpha)
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
    done = run(
        tmp_path, "tensors=[[3],[1,2]]", "alphas=[1]", "steps=[10,30]", "momentum_steps=[9,27]"
    )
    assert done.returncode == 0, done.stderr
    assert "convergence: network" in done.stdout
    [path] = (tmp_path / "convergence").iterdir()
    record: dict[str, Any] = json.loads(path.read_text())
    assert record["status"] == "completed"
    assert path.name == f"{record['identity']}.json"
    assert record["configuration"]["alphas"] == [1.0]
    assert record["provenance"]["command"].startswith("python -m experiments.convergence results=")
    assert {"started", "finished", "git", "versions", "cpu"} <= set(record["provenance"])

    # Three functions, two splits: two eps, two kinds of steps, and three momenta with and without
    # noise, but for what is there already; the network with three momenta; two horizons each.
    assert record["summary"]["cases"] == (3 * 2 * (2 * 2 + 3 * 2 - 1) + 3) * 2
    assert record["summary"]["below_bound"] == record["summary"]["cases"]
    assert record["summary"]["smoothness_exceeded"] == 0
    for row in record["series"]:
        practice = row["momentum"] > 0 or row["noise"] > 0
        assert row["steps"] == ([9, 27] if practice else [10, 30])
        assert (row["floor"] > 0) == (row["noise"] > 0)
        for bounds in (row["bound"], row["bound_one_tensor"] or row["bound"]):
            assert all(map(le, row["min_gradient_norm"], bounds))
        assert (row["slope"] is None) == (row["step"] == "constant" or row["noise"] > 0)
        assert (row["needed_smoothness"] is None) == (row["function"] != "network")
    [example] = record["counterexamples"]
    assert example["stays"]
    assert example["constant"] == pytest.approx([math.tanh(1) / 2] * 2)
    for horizon, norm in zip(example["steps"], example["shrinking"], strict=True):
        assert norm <= example["lr"] * math.tanh(1) / math.sqrt(horizon)


def test_a_record_stays_until_a_fresh_one_is_asked_for(tmp_path: Path) -> None:
    small: dict[str, Any] = {"tensors": [[2]], "alphas": [1.0], "eps": [0.0], "momenta": [0.9]}
    small |= {"noises": [0.0], "steps": [2, 4], "momentum_steps": [2, 4], "results": str(tmp_path)}
    path, _ = check(ConvergenceConfig(**small), "the first")
    check(ConvergenceConfig(**small), "the second")
    assert json.loads(path.read_text())["provenance"]["command"] == "the first"
    again, _ = check(ConvergenceConfig(**small, fresh=True), "the third")
    assert again == path
    assert json.loads(path.read_text())["provenance"]["command"] == "the third"

    path.write_text("{")
    with pytest.raises(ConfigurationError, match=str(path)):
        check(ConvergenceConfig(**small), "the fourth")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("momentum_steps=[30,10]", "momentum_steps"),
        ("momenta=[1]", "momenta"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, override: str, message: str) -> None:
    done = run(tmp_path, override)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
