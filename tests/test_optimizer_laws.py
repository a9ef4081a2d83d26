"""What the rule implies for every gradient: bounds, invariances, limits and the descent inequality.

With n elements and u = g', for eps -> 0: tanh(alpha) <= |u|_2 <= min(alpha, sqrt(n)),
|u|_inf <= tanh(alpha), and <g, u> >= tanh(alpha) |g|^2 / (|g| + eps).
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn

from alphagrad import AlphaGrad, NormalizedSGD, SignSGD, kernel

# Away from 0, so that a gradient has a direction; away from the ends of float64's range.
elements = st.floats(1e-6, 1e6).flatmap(lambda x: st.sampled_from([x, -x]))
gradients = arrays("float64", st.integers(1, 60), elements=elements).map(torch.from_numpy)
alphas = st.floats(1e-3, 1e3)
paths = st.booleans()
ROUNDING = 1 + 1e-12


def update(gradient: Tensor, **settings: Any) -> Tensor:
    """g' of one step."""
    param = nn.Parameter(torch.zeros_like(gradient))
    param.grad = gradient.clone()
    AlphaGrad([param], lr=1.0, **{"eps": 0.0, **settings}).step()
    return -param.detach()


@given(gradients, alphas, paths)
def test_bounds_of_an_update(gradient: Tensor, alpha: float, foreach: bool | None) -> None:
    u = update(gradient, alpha=alpha, foreach=foreach)
    norm = u.norm().item()
    assert math.tanh(alpha) <= norm * ROUNDING
    assert norm <= min(alpha, math.sqrt(len(gradient))) * ROUNDING
    assert u.abs().max() <= math.tanh(alpha) * ROUNDING


@given(
    st.lists(arrays("float64", 7, elements=elements).map(torch.from_numpy), min_size=1, max_size=9),
    alphas,
    st.floats(0, 0.99),
    paths,
)
def test_no_step_is_longer_than_the_momentum_allows(
    steps: list[Tensor], alpha: float, momentum: float, foreach: bool | None
) -> None:
    param = nn.Parameter(torch.zeros(7, dtype=torch.float64))
    optimizer = AlphaGrad([param], lr=0.5, alpha=alpha, momentum=momentum, foreach=foreach)
    for gradient in steps:
        before = param.detach().clone()
        param.grad = gradient
        optimizer.step()
        length = (param.detach() - before).abs().max()
        assert length <= 0.5 * math.tanh(alpha) / (1 - momentum) * (1 + 1e-9)


@given(gradients, alphas, st.floats(1e-100, 1e100), paths)
def test_the_gradients_scale_plays_no_part(
    gradient: Tensor, alpha: float, scale: float, foreach: bool | None
) -> None:
    torch.testing.assert_close(
        update(gradient, alpha=alpha, foreach=foreach),
        update(gradient * scale, alpha=alpha, foreach=foreach),
        rtol=1e-12,
        atol=0,
    )


@given(gradients, alphas, st.floats(1e-6, 1e3), paths)
def test_eps_shrinks_the_gradient_by_what_it_is_to_the_norm(
    gradient: Tensor, alpha: float, eps: float, foreach: bool | None
) -> None:
    norm = gradient.norm().item()
    shrunk = alpha * norm / (norm + eps)
    torch.testing.assert_close(
        update(gradient, alpha=alpha, eps=eps, foreach=foreach),
        update(gradient, alpha=shrunk, foreach=foreach),
        rtol=1e-9,
        atol=0,
    )


@given(st.floats(1e-6, 1e6), alphas, paths)
def test_one_element_always_moves_by_tanh_alpha(
    value: float, alpha: float, foreach: bool | None
) -> None:
    u = update(torch.tensor([-value], dtype=torch.float64), alpha=alpha, foreach=foreach)
    assert u.item() == pytest.approx(-math.tanh(alpha))


@given(gradients, alphas, paths)
def test_the_update_is_odd_and_descends(
    gradient: Tensor, alpha: float, foreach: bool | None
) -> None:
    u = update(gradient, alpha=alpha, foreach=foreach)
    torch.testing.assert_close(u, -update(-gradient, alpha=alpha, foreach=foreach))
    maximized = update(gradient, alpha=alpha, foreach=foreach, maximize=True)
    torch.testing.assert_close(u, -maximized)
    assert torch.equal(u.sign(), gradient.sign())


@given(gradients, alphas, st.floats(0, 10), paths)
def test_descent_inequality(
    gradient: Tensor, alpha: float, eps: float, foreach: bool | None
) -> None:
    u = update(gradient, alpha=alpha, eps=eps, foreach=foreach)
    norm = gradient.norm().item()
    bound = math.tanh(alpha) * norm**2 / (norm + eps)
    assert torch.dot(gradient, u).item() * ROUNDING >= bound


@given(gradients, st.floats(0, 0.99), paths)
def test_a_small_alpha_is_normalised_sgd(
    gradient: Tensor, momentum: float, foreach: bool | None
) -> None:
    alpha = 1e-6
    small, limit = (nn.Parameter(torch.zeros_like(gradient)) for _ in range(2))
    optimizers = [
        AlphaGrad([small], lr=1 / alpha, alpha=alpha, momentum=momentum, foreach=foreach),
        NormalizedSGD([limit], lr=1.0, momentum=momentum),
    ]
    for step in range(3):
        small.grad, limit.grad = gradient.roll(step), gradient.roll(step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(small, limit, rtol=1e-9, atol=0)


@given(arrays("int8", st.integers(1, 60)), st.floats(0, 0.99), paths)
def test_a_large_alpha_is_sign_sgd(values: Any, momentum: float, foreach: bool | None) -> None:
    gradient = torch.from_numpy(values).double()
    large, limit = (nn.Parameter(torch.zeros_like(gradient)) for _ in range(2))
    optimizers = [
        AlphaGrad([large], lr=0.1, alpha=1e6, momentum=momentum, foreach=foreach),
        SignSGD([limit], lr=0.1, momentum=momentum),
    ]
    for step in range(3):
        large.grad, limit.grad = gradient.roll(step), gradient.roll(step)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(large, limit, rtol=1e-12, atol=1e-15)


@given(st.integers(1, 2000), st.floats(0.1, 10), paths)
def test_sqrt_scaling_makes_alpha_independent_of_size(
    size: int, alpha: float, foreach: bool | None
) -> None:
    u = update(
        torch.ones(size, dtype=torch.float64), alpha=alpha, alpha_scaling="sqrt", foreach=foreach
    )
    torch.testing.assert_close(u, torch.full_like(u, math.tanh(alpha)))


@pytest.mark.skipif(not kernel.is_built(), reason="needs a C++ compiler at installation")
@given(
    arrays("float32", st.integers(1, 60), elements=st.floats(width=32, allow_nan=False)),
    alphas,
    st.sampled_from([0.0, 1e-5]),
)
def test_the_kernel_is_within_rounding_of_float64(gradient: Any, alpha: float, eps: float) -> None:
    u = update(torch.from_numpy(gradient), alpha=alpha, eps=eps)
    exact = torch.from_numpy(gradient).double()
    if exact.isinf().any():
        assert u.isnan().all()
        return
    norm = exact.norm()
    expected = torch.tanh(alpha * exact / (norm + eps)) if norm > 0 else exact
    torch.testing.assert_close(u.double(), expected, rtol=7e-7, atol=1e-37)
