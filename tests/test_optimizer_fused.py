"""The step as one kernel: on the CPU that of kernel.cpp, on CUDA what torch.compile makes."""

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_optimizer import make_gradients, make_parameters, reference, take_steps
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from alphagrad import AlphaGrad, compiled, kernel
from alphagrad.optimizer import _single_tensor_alphagrad

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


SETTINGS: dict[str, Any] = {
    **{"lr": 0.1, "alpha": 3.0, "eps": 1e-5, "momentum": 0.9, "dampening": 0.3, "nesterov": False},
    **{"weight_decay": 0.1, "coupled_weight_decay": False, "alpha_scaling": "sqrt"},
}


@pytest.mark.slow
def test_what_cuda_compiles_equals_the_loop() -> None:
    """On the CPU, for want of a GPU: the compiled function does not ask where tensors are."""
    params, grads = make_parameters(torch.float32), make_gradients(3)
    values, expected = ([p.detach().clone() for p in params] for _ in range(2))
    buffers: list[Tensor | None] = [torch.zeros_like(p) for p in params]
    expected_buffers = copy.deepcopy(buffers)
    for step in (0, 2):
        step_grads = [g.float() for g in grads[step] if g is not None]
        compiled.step(_single_tensor_alphagrad, values, step_grads, buffers, **SETTINGS)
        _single_tensor_alphagrad(expected, step_grads, expected_buffers, **SETTINGS)
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(buffers, expected_buffers, rtol=1e-6, atol=1e-6)


def test_where_torch_cannot_compile_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TorchDynamoException("no compiler")

    monkeypatch.setattr(compiled, "_compiled", lambda *_, **__: refuse)
    monkeypatch.setattr(compiled, "_without_compiler", False)
    params, expected = ([torch.ones(3)] for _ in range(2))
    with pytest.warns(UserWarning, match="no compiler"):
        compiled.step(
            _single_tensor_alphagrad, params, [torch.ones(3)], [torch.ones(3)], **SETTINGS
        )
    _single_tensor_alphagrad(expected, [torch.ones(3)], [torch.ones(3)], **SETTINGS)
    assert torch.equal(params[0], expected[0])  # taken nonetheless
    assert not compiled.supports([], None)  # nor tried again


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("settings", [{"fused": True}, {"foreach": True}, {"capturable": True}])
def test_steps_on_a_gpu_equal_the_reference(settings: dict[str, Any]) -> None:
    params, grads = make_parameters(torch.float32), make_gradients(3)
    expected = reference(params, grads, lr=0.1, alpha=3.0, momentum=0.9)
    params = [nn.Parameter(param.detach().cuda()) for param in params]
    cuda: list[list[Tensor | None]] = [
        [None if g is None else g.cuda() for g in step] for step in grads
    ]
    take_steps(AlphaGrad(params, lr=0.1, alpha=3.0, momentum=0.9, **settings), params, cuda)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().cpu().double(), value, rtol=1e-5, atol=1e-6)
