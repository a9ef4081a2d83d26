"""The step by kernel.cpp: for what it is taken, its bits, and what does without it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from optimizer_cases import make_gradients, make_parameters, take_steps
from torch import nn

from alphagrad import AlphaGrad, kernel

needs_kernel = pytest.mark.skipif(
    not kernel.is_built(), reason="needs a C++ compiler at installation (g++, then make setup)"
)


def long_parameters() -> list[nn.Parameter]:
    """Of several pieces, of part of one, and of less than a vector."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(n, generator=generator)) for n in (3_000_000, 70_001, 5)]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    return params


@needs_kernel
def test_fp32_on_the_cpu_takes_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any, **__: Any) -> None:
        raise InterruptedError

    monkeypatch.setattr(kernel, "step", taken)
    for settings in ({}, {"fused": True}, {"fused": True, "foreach": False}):
        with pytest.raises(InterruptedError):
            AlphaGrad(long_parameters(), **settings).step()  # type: ignore[arg-type]
    for settings in ({"fused": False}, {"foreach": False}, {"foreach": True}):
        AlphaGrad(long_parameters(), **settings).step()  # type: ignore[arg-type]
    not_supported = nn.Parameter(torch.ones(4, dtype=torch.float64))
    not_supported.grad = torch.ones_like(not_supported)
    AlphaGrad([not_supported], fused=True).step()


@needs_kernel
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_number_of_threads_does_not_change_a_bit(momentum: float) -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            params = long_parameters()
            optimizer = AlphaGrad(params, lr=0.1, alpha=1000.0, momentum=momentum)
            optimizer.step()
            optimizer.step()
            results.append([param.detach() for param in params])
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=0)


@needs_kernel
@pytest.mark.parametrize("alpha", [1e-3, 1.0, 300.0, 1e6, 1e30])
def test_the_rational_tanh_is_within_its_bound(alpha: float) -> None:
    gradient = torch.cat([torch.linspace(-1, 1, 100_001), torch.logspace(-30, 0, 1000)])
    param = nn.Parameter(torch.zeros_like(gradient))
    param.grad = gradient
    AlphaGrad([param], lr=1.0, alpha=alpha, eps=0.0).step()
    expected = (alpha / gradient.double().norm() * gradient.double()).tanh()
    # An update below fp32's normal numbers is not rounded relatively.
    torch.testing.assert_close(-param.detach().double(), expected, rtol=7e-7, atol=1e-38)


@needs_kernel
def test_autograd_notices_that_the_kernel_changed_a_parameter() -> None:
    param = nn.Parameter(torch.ones(3))
    loss = param.square().sum()
    loss.backward(retain_graph=True)
    AlphaGrad([param]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_kernel
@pytest.mark.parametrize("as_stored", [torch.Tensor.t, lambda grad: grad.expand(3, 3)])
def test_a_gradient_may_lie_in_memory_as_it_likes(as_stored: Any) -> None:
    stored = torch.arange(9.0).reshape(3, 3)
    params = [nn.Parameter(torch.zeros(3, 3)) for _ in range(2)]
    params[0].grad = as_stored(stored)
    params[1].grad = as_stored(stored).clone(memory_format=torch.contiguous_format)
    AlphaGrad(params[:1]).step()
    AlphaGrad(params[1:]).step()
    assert torch.equal(*params)


@needs_kernel
def test_a_buffer_of_another_size_is_an_error() -> None:
    param = nn.Parameter(torch.ones(1000))
    param.grad = torch.ones(1000)
    optimizer = AlphaGrad([param], momentum=0.9)
    optimizer.state[param]["momentum_buffer"] = torch.ones(3)
    with pytest.raises(RuntimeError, match="size of tensor"):
        optimizer.step()


@needs_kernel
def test_the_kernel_allocates_nothing_but_a_first_momentum() -> None:
    params = long_parameters()
    optimizer = AlphaGrad(params, momentum=0.9)
    optimizer.step()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        optimizer.step()
    assert all(event.self_cpu_memory_usage == 0 for event in profile.events())  # type: ignore[union-attr]


def test_without_a_kernel_there_is_one_warning_and_the_same_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others, grads = make_parameters(torch.float32), make_gradients(3)
    params = copy.deepcopy(others)
    take_steps(AlphaGrad(others, momentum=0.9), others, grads)
    monkeypatch.setattr(kernel, "_library", None)
    monkeypatch.setattr(kernel, "PATH", tmp_path / "none")
    kernel.warn_that_it_is_missing.cache_clear()
    take_steps(AlphaGrad(copy.deepcopy(params), momentum=0.9), params, grads)  # does not warn
    with pytest.warns(UserWarning, match="was not built at installation") as warned:
        take_steps(AlphaGrad(params, momentum=0.9, fused=True), params, grads)
    assert len(warned) == 1
    torch.testing.assert_close(params, others)
