"""The step by kernel.cpp: for what it is taken, its bits, and what does without it."""

import copy
import importlib.util
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from support.optimizer_cases import make_gradients, make_parameters, take_steps
from torch import Tensor, nn

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
@pytest.mark.parametrize("size", [1, 5, 64, 1000])
def test_beyond_the_bound_of_tanh_every_element_moves_by_exactly_the_rate(size: int) -> None:
    param = nn.Parameter(torch.zeros(size))
    param.grad = torch.ones(size)
    param.grad[::2] = -1
    expected = -0.25 * param.grad
    AlphaGrad([param], lr=0.25, alpha=1e9).step()
    assert torch.equal(param.detach(), expected)


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


@pytest.mark.parametrize("shape", [(3,), (5, 2), (10, 1), (1, 10)])
def test_a_buffer_of_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    param = nn.Parameter(torch.ones(10) if len(shape) == 2 and 10 in shape else torch.ones(2, 5))
    param.grad = torch.ones_like(param)
    optimizer = AlphaGrad([param], momentum=0.9)
    optimizer.state[param]["momentum_buffer"] = torch.ones(shape)
    with pytest.raises(RuntimeError, match=r"size of tensor|doesn't match the broadcast shape"):
        optimizer.step()


def without_memory(kind: str) -> nn.Parameter:
    param = nn.Parameter(torch.ones(4))
    param.grad = torch._efficientzerotensor(4) if kind == "zero" else torch.ones(4)
    if kind != "zero":
        freed = param if kind == "parameter" else param.grad
        freed.data.untyped_storage().resize_(0)
    return param


@needs_kernel
@pytest.mark.parametrize("kind", ["parameter", "gradient", "zero"])
def test_a_tensor_without_memory_is_an_error_before_anything_is_changed(kind: str) -> None:
    other = nn.Parameter(torch.ones(3))
    other.grad = torch.ones(3)
    optimizer = AlphaGrad([other, without_memory(kind)], momentum=0.9)
    with pytest.raises(RuntimeError, match="has no memory"):
        optimizer.step()
    assert torch.equal(other.detach(), torch.ones(3))
    assert not optimizer.state


def taken_by_the_kernel(params: list[nn.Parameter], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of the parameters a step of momentum hands to the kernel."""
    count = 0

    def counted(sizes: bytes, astray: Any, tensors: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += len(tensors)
        step(sizes, astray, tensors, *args, **kwargs)

    step = kernel.step
    monkeypatch.setattr(kernel, "step", counted)
    AlphaGrad(params, lr=0.1, alpha=3.0, momentum=0.9).step()
    return count


def mixed_parameters() -> list[nn.Parameter]:
    """Five that the kernel takes, and three odd ones: fp64, bf16, every other element."""
    generator = torch.Generator().manual_seed(0)
    values = [
        torch.randn(6, 5, generator=generator),
        torch.randn(6, 5, generator=generator).t(),
        torch.randn(2, 3, 4, 4, generator=generator).to(memory_format=torch.channels_last),
        torch.randn(4, generator=generator, dtype=torch.float64),
        torch.randn(4, generator=generator).bfloat16(),
        torch.randn(8, generator=generator)[::2],
        torch.randn(3, generator=generator),
        torch.randn(3, generator=generator),
    ]
    params = [nn.Parameter(value) for value in values]
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
    return params


@needs_kernel
def test_an_odd_tensor_leaves_the_kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    params, others = mixed_parameters(), mixed_parameters()
    assert taken_by_the_kernel(params, monkeypatch) == 5
    AlphaGrad(others, lr=0.1, alpha=3.0, momentum=0.9, foreach=False).step()
    torch.testing.assert_close(params, others)


@needs_kernel
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_tensors_that_share_memory_are_stepped_one_after_the_other(momentum: float) -> None:
    def stepped(**path: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        whole = torch.randn(1_500_000, generator=generator)
        params = [nn.Parameter(whole), nn.Parameter(whole[500_000:])]
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator)
        optimizer = AlphaGrad(params, lr=0.1, alpha=1000.0, momentum=momentum, **path)
        optimizer.step()
        optimizer.step()
        return whole

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        results = [stepped() for _ in range(5)]
    finally:
        torch.set_num_threads(before)
    for result in results:
        assert torch.equal(result, results[0])
    torch.testing.assert_close(results[0], stepped(foreach=False))


@needs_kernel
@pytest.mark.parametrize("share", [0.0, 0.002, 0.01, 0.05, 0.5, 0.99])
def test_a_truncated_kernel_is_one_warning(share: float, tmp_path: Path) -> None:
    damaged = tmp_path / kernel.PATH.name
    content = kernel.PATH.read_bytes()
    damaged.write_bytes(content[: int(share * len(content))])
    with pytest.warns(UserWarning, match=f"{damaged.name} is damaged or of another") as warned:
        assert kernel.load(damaged) is None
    assert len(warned) == 1


def test_a_foreign_kernel_is_one_warning(tmp_path: Path) -> None:
    foreign = tmp_path / "text.so"
    foreign.write_text("no library")
    with pytest.warns(UserWarning, match=r"text\.so is damaged or of another version"):
        assert kernel.load(foreign) is None
    another = Path(find_library_of("_ctypes"))  # a sound library, without the kernel's function
    with pytest.warns(UserWarning, match="alphagrad_step"):
        assert kernel.load(another) is None


def find_library_of(module: str) -> str:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiler", [name for name in ("g++-9", "g++-11", "g++", "clang++") if shutil.which(name)]
)
def test_the_kernel_compiles_and_steps_alike(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("pyproject.toml").open("rb") as file:
        (extension,) = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    library = tmp_path / "kernel.so"
    flags = [*extension["extra-compile-args"], "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, *extension["sources"], "-o", library], check=True)
    monkeypatch.setattr(kernel, "_library", kernel.load(library))
    params, others = mixed_parameters(), mixed_parameters()
    assert taken_by_the_kernel(params, monkeypatch) == 5
    AlphaGrad(others, lr=0.1, alpha=3.0, momentum=0.9, foreach=False).step()
    torch.testing.assert_close(params, others)


@needs_kernel
def test_the_kernel_allocates_nothing_but_a_first_momentum() -> None:
    params = long_parameters()
    values = [torch.randn(8, 4, n, n) for n in (3, 1)]  # of 1 x 1, all strides lie alike
    for value in values:
        params.append(nn.Parameter(value.to(memory_format=torch.channels_last)))
        params[-1].grad = value.to(memory_format=torch.channels_last)
    params[-1].grad = values[-1]
    optimizer = AlphaGrad(params, momentum=0.9)
    optimizer.step()
    optimizer.step()  # which looks at how tensors lie with all buffers there
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        optimizer.step()
    assert all(event.self_cpu_memory_usage == 0 for event in profile.events())


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
