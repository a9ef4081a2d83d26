"""AlphaGrad on a GPU: every path against the NumPy reference, graphs, scaled gradients, compile."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.optimizer_cases import make_gradients, make_parameters, reference, take_steps
from torch import Tensor, nn

from alphagrad import AlphaGrad

SETTINGS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "coupled_weight_decay": True},
    {"alpha_scaling": "sqrt", "maximize": True},
]
PATHS: list[dict[str, Any]] = [{}, {"fused": True}, {"foreach": True}, {"foreach": False}]
every_path = pytest.mark.parametrize("path", PATHS, ids=str)


def parameters(device: torch.device, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(param.detach().to(device)) for param in make_parameters(dtype)]


def gradients(device: torch.device, steps: int) -> list[list[Tensor | None]]:
    """The reference's gradients, of which one is missing in the second step."""
    return [[None if g is None else g.to(device) for g in s] for s in make_gradients(4)[:steps]]


def assert_near(params: list[nn.Parameter], expected: list[np.ndarray]) -> None:
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().cpu().double(), value, rtol=1e-5, atol=1e-6)


@every_path
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_steps_equal_the_reference(
    settings: dict[str, Any], path: dict[str, Any], device: torch.device
) -> None:
    expected = reference(
        make_parameters(torch.float32), make_gradients(4), lr=0.1, alpha=3.0, **settings
    )
    params = parameters(device)
    optimizer = AlphaGrad(params, lr=0.1, alpha=3.0, **settings, **path)
    take_steps(optimizer, params, gradients(device, 4))
    assert_near(params, expected)


@every_path
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_equals_the_cpu(
    dtype: torch.dtype, path: dict[str, Any], device: torch.device
) -> None:
    params, others = parameters(device, dtype), make_parameters(dtype)
    for group, grads in ((params, gradients(device, 3)), (others, make_gradients(3))):
        settings = path if group is params else {"foreach": False}
        take_steps(AlphaGrad(group, lr=0.1, alpha=3.0, momentum=0.9, **settings), group, grads)
    precision = torch.finfo(dtype).eps
    for param, other in zip(params, others, strict=True):
        torch.testing.assert_close(param.cpu(), other, rtol=2 * precision, atol=2 * precision)


@every_path
def test_a_tensor_learning_rate(path: dict[str, Any], device: torch.device) -> None:
    expected = reference(
        make_parameters(torch.float32), make_gradients(3), lr=0.1, alpha=3.0, momentum=0.9
    )
    for place in {device, torch.device("cpu")}:
        params = parameters(device)
        lr = torch.tensor(0.1, device=place)
        optimizer = AlphaGrad(params, lr=lr, alpha=3.0, momentum=0.9, **path)
        take_steps(optimizer, params, gradients(device, 3))
        assert_near(params, expected)


@every_path
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaled_gradients_give_the_same_step(
    momentum: float, path: dict[str, Any], device: torch.device
) -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 8).to(device)
    other = copy.deepcopy(model)
    inputs = torch.randn(16, 8, device=device)
    optimizers = [
        AlphaGrad(m.parameters(), lr=0.1, momentum=momentum, eps=1e-3, **path)
        for m in (model, other)
    ]
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12)
    for _ in range(3):
        scaler.scale(model(inputs).square().mean()).backward()
        scaler.step(optimizers[0])
        scaler.update()
        other(inputs).square().mean().backward()
        optimizers[1].step()
        for optimizer in optimizers:
            optimizer.zero_grad()
    torch.testing.assert_close([*model.parameters()], [*other.parameters()], rtol=1e-5, atol=1e-5)


@every_path
def test_an_infinite_scaled_gradient_skips_the_step(
    path: dict[str, Any], device: torch.device
) -> None:
    param = nn.Parameter(torch.ones(4, device=device))
    optimizer = AlphaGrad([param], momentum=0.9, **path)
    scaler = torch.amp.GradScaler(device.type)
    scaler.scale((param * torch.inf).sum()).backward()
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(param.detach(), torch.ones_like(param))
    assert not optimizer.state
    assert scaler.get_scale() < scale


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_compiled_step_equals_the_step(momentum: float, device: torch.device) -> None:
    expected = reference(
        make_parameters(torch.float32),
        make_gradients(2)[:1] * 3,
        lr=0.1,
        alpha=3.0,
        momentum=momentum,
    )
    params = parameters(device)
    for param, grad in zip(params, gradients(device, 1)[0], strict=True):
        param.grad = None if grad is None else grad.float()
    optimizer = AlphaGrad(params, lr=torch.tensor(0.1), alpha=3.0, momentum=momentum)
    step = torch.compile(optimizer.step)
    for _ in range(3):
        step()
    assert_near(params, expected)


@every_path
def test_a_state_goes_to_another_device_and_back(
    path: dict[str, Any], device: torch.device
) -> None:
    params = parameters(device)
    optimizer = AlphaGrad(params, momentum=0.9, **path)
    take_steps(optimizer, params, gradients(device, 2))
    there = make_parameters(torch.float32)
    other = AlphaGrad(there, momentum=0.9)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for old, new in zip(params, there, strict=True):
        assert other.state[new]["momentum_buffer"].device == torch.device("cpu")
        with torch.no_grad():
            new.copy_(old)
    back = AlphaGrad(params, momentum=0.9, **path)
    back.load_state_dict(copy.deepcopy(other.state_dict()))
    take_steps(back, params, gradients(device, 1))
    take_steps(other, there, make_gradients(2)[:1])
    torch.testing.assert_close([param.cpu() for param in params], there, rtol=1e-5, atol=1e-6)


def test_a_group_may_be_on_two_devices(device: torch.device) -> None:
    expected = reference(
        make_parameters(torch.float32), make_gradients(3), lr=0.1, alpha=3.0, momentum=0.9
    )
    params = parameters(device)
    params[::2] = make_parameters(torch.float32)[::2]
    optimizer = AlphaGrad(params, lr=0.1, alpha=3.0, momentum=0.9)
    steps = [
        [None if g is None else g.to(p.device) for p, g in zip(params, step, strict=True)]
        for step in gradients(device, 3)
    ]
    take_steps(optimizer, params, steps)
    assert_near(params, expected)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An error for what makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.parametrize("path", PATHS[2:], ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_step_does_not_wait_for_the_gpu(
    settings: dict[str, Any], path: dict[str, Any], no_waiting: None
) -> None:
    params = [nn.Parameter(torch.ones(8, 8, device="cuda")) for _ in range(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = AlphaGrad(params, **settings, **path)
    optimizer.step()
    optimizer.step()


@pytest.mark.cuda
@pytest.mark.parametrize("path", PATHS[1:], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_captured_step_equals_the_step(momentum: float, path: dict[str, Any]) -> None:
    device = torch.device("cuda")
    params, others = parameters(device), parameters(device)
    for param, other, grad in zip(params, others, gradients(device, 1)[0], strict=True):
        assert grad is not None
        param.grad, other.grad = grad.float(), grad.float()
    lr = torch.tensor(0.1, device=device)
    optimizer = AlphaGrad(params, lr=lr, momentum=momentum, capturable=True, **path)
    expected = AlphaGrad(others, lr=0.1, momentum=momentum, foreach=False)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as torch asks: state and kernels are made before
        for _ in range(3):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for rate in (0.1, 0.2, 0.05):
        lr.fill_(rate)
        graph.replay()

    for rate in (0.1, 0.1, 0.1, 0.1, 0.2, 0.05):
        expected.param_groups[0]["lr"] = rate
        expected.step()
    torch.testing.assert_close(params, others, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
def test_a_step_that_is_not_capturable_is_refused_in_a_graph() -> None:
    param = nn.Parameter(torch.ones(3, device="cuda"))
    param.grad = torch.ones_like(param)
    optimizer = AlphaGrad([param])
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="capturable=True"), torch.cuda.graph(graph):
        optimizer.step()
