"""Norms of extreme gradients: none overflows, vanishes or loses accuracy in silence."""

import numpy as np
import pytest
import torch
from support.optimizer_cases import every_path
from torch import nn

from alphagrad import AlphaGrad


def updates(*gradients: torch.Tensor, foreach: bool | None, eps: float = 0.0) -> list[torch.Tensor]:
    params = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for param, gradient in zip(params, gradients, strict=True):
        param.grad = gradient.clone()
    AlphaGrad(params, lr=1.0, alpha=5.0, eps=eps, foreach=foreach).step()
    return [-param.detach() for param in params]


@every_path
@pytest.mark.parametrize("scale", [3e38, 1e25, 1e19, 1e-16, 1e-25, 1e-38])
def test_norms_beyond_the_range_of_fp32_squares(scale: float, foreach: bool | None) -> None:
    gradient = torch.linspace(-1, 1, 1001) * scale
    plain = torch.linspace(-1, 1, 1001)
    extreme, ordinary = updates(gradient, plain, foreach=foreach)
    exact = gradient.double().numpy()
    expected = np.tanh(5 * (exact / scale) / np.linalg.norm(exact / scale))
    np.testing.assert_allclose(extreme, expected, rtol=1e-6)
    np.testing.assert_allclose(ordinary, expected, rtol=1e-6, atol=1e-7)


@every_path
@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_norms_beyond_the_range_of_fp64_squares(scale: float, foreach: bool | None) -> None:
    plain = torch.linspace(-1, 1, 1001, dtype=torch.float64)
    extreme, ordinary = updates(plain * scale, plain, foreach=foreach)
    torch.testing.assert_close(extreme, ordinary, rtol=1e-12, atol=1e-15)


@every_path
def test_eps_counts_beside_a_vanishing_norm(foreach: bool | None) -> None:
    gradient = torch.full((100,), 1e-20)
    [update] = updates(gradient, foreach=foreach, eps=1e-18)
    expected = np.tanh(5 * 1e-20 / (1e-19 + 1e-18))
    np.testing.assert_allclose(update, np.full(100, expected), rtol=1e-6)
    [denormal] = updates(torch.full((100,), 1e-44), foreach=foreach, eps=1e-5)
    assert torch.isfinite(denormal).all()
    assert denormal.abs().max() < 1e-35


@every_path
@pytest.mark.parametrize("eps", [1e3, 1e5])
def test_a_small_gradient_beside_a_large_eps_is_not_lost(eps: float, foreach: bool | None) -> None:
    for dtype, size in ((torch.float32, 2e-30), (torch.float64, 3e-300)):
        [update] = updates(torch.full((100,), size, dtype=dtype), foreach=foreach, eps=eps)
        expected = 5 * size / (10 * size + eps)
        np.testing.assert_allclose(update, np.full(100, expected), rtol=1e-6)


@every_path
@pytest.mark.parametrize("size", [4096, 20_000, 131_071, 131_072, 1 << 20])
def test_a_constant_gradient_has_its_norm(size: int, foreach: bool | None) -> None:
    for value in (0.1, 0.7, 1.3):
        [update] = updates(torch.full((size,), value), foreach=foreach)
        assert update[0].item() == pytest.approx(np.tanh(5 / size**0.5), rel=1e-6)


@every_path
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_a_zero_or_empty_gradient_gives_zero(eps: float, foreach: bool | None) -> None:
    zero, empty = updates(torch.zeros(5), torch.zeros(0), foreach=foreach, eps=eps)
    assert torch.equal(zero, torch.zeros(5))
    assert empty.shape == (0,)


@every_path
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_shows_in_its_tensor_and_nowhere_else(
    value: float, foreach: bool | None
) -> None:
    bad = torch.ones(10)
    bad[3] = value
    poisoned, other = updates(bad, torch.ones(10), foreach=foreach)
    assert poisoned.isnan().all()
    assert other.isfinite().all()


@every_path
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 1 << 24])
def test_long_gradients_keep_their_accuracy(size: int, foreach: bool | None) -> None:
    gradient = torch.randn(size, generator=torch.Generator().manual_seed(0))
    [update] = updates(gradient * 100, foreach=foreach)
    expected = 5 * gradient[:1000].double() / gradient.double().norm()
    torch.testing.assert_close(update[:1000].double(), expected.tanh(), rtol=1e-6, atol=0)
    strided = torch.randn(300, 400, generator=torch.Generator().manual_seed(0)).t()
    [update] = updates(strided, foreach=foreach)
    expected = (5 * strided.double() / strided.double().norm()).tanh()
    torch.testing.assert_close(update.double(), expected, rtol=1e-6, atol=1e-8)
