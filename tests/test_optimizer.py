"""AlphaGrad's arguments and its step, on every kind of tensor, against the NumPy reference."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from support.optimizer_cases import (
    every_path,
    make_gradients,
    make_parameters,
    reference,
    take_steps,
)
from torch import Tensor, nn

from alphagrad import AlphaGrad, alphagrad

SETTINGS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "dampening": 0.3},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "momentum": 0.9},
    {"weight_decay": 0.1, "momentum": 0.9, "coupled_weight_decay": True},
    {"alpha_scaling": "sqrt", "momentum": 0.5},
    {"maximize": True, "weight_decay": 0.1, "coupled_weight_decay": True},
    {"eps": 0.0},
]


@every_path
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_steps_equal_the_reference(
    settings: dict[str, Any], dtype: torch.dtype, tolerance: float, foreach: bool | None
) -> None:
    params, grads = make_parameters(dtype), make_gradients(5)
    expected = reference(params, grads, lr=0.1, alpha=3.0, **settings)
    take_steps(AlphaGrad(params, lr=0.1, alpha=3.0, foreach=foreach, **settings), params, grads)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().double(), value, rtol=tolerance, atol=tolerance)


@every_path
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1.6e-2)])
def test_half_precision_is_normalised_in_fp32(
    dtype: torch.dtype, tolerance: float, foreach: bool | None
) -> None:
    param = nn.Parameter(torch.zeros(3000, dtype=dtype))
    # The squares of these vanish in fp16, and the reciprocal of their norm overflows there.
    param.grad = (torch.linspace(-1, 1, 3000) * 1e-6).to(dtype)
    grad = param.grad.double().numpy()
    AlphaGrad([param], lr=1.0, alpha=50.0, eps=0.0, foreach=foreach).step()
    expected = -np.tanh(50 * grad / np.linalg.norm(grad))
    np.testing.assert_allclose(param.detach().double(), expected, atol=tolerance)


@every_path
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_complex_tensors_are_their_real_views(momentum: float, foreach: bool | None) -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(4, 3, generator=generator, dtype=torch.complex128)
    param, real = nn.Parameter(value.clone()), nn.Parameter(torch.view_as_real(value).clone())
    settings: dict[str, Any] = {"lr": 0.1, "alpha": 3.0, "momentum": momentum, "foreach": foreach}
    optimizers = [AlphaGrad([p], **settings) for p in (param, real)]
    for _ in range(3):
        param.grad = torch.randn(4, 3, generator=generator, dtype=torch.complex128)
        real.grad = torch.view_as_real(param.grad).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(torch.view_as_real(param.detach()), real.detach())
    if momentum:
        assert optimizers[0].state[param]["momentum_buffer"].is_complex()


@every_path
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_learning_rate(shape: tuple[int, ...], foreach: bool | None) -> None:
    params, grads = make_parameters(), make_gradients(3)
    others = copy.deepcopy(params)
    lr = torch.full(shape, 0.1, dtype=torch.float64)
    settings: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.1, "foreach": foreach}
    take_steps(AlphaGrad(params, lr=lr, **settings), params, grads)
    take_steps(AlphaGrad(others, lr=0.1, **settings), others, grads)
    torch.testing.assert_close(params, others, rtol=1e-14, atol=1e-14)


def test_each_group_has_its_own_settings() -> None:
    params, grads = make_parameters(), make_gradients(3)
    groups = [{"params": params[:2], "alpha": 30.0}, {"params": params[2:], "momentum": 0.5}]
    first = reference(params[:2], [step[:2] for step in grads], lr=0.1, alpha=30.0)
    second = reference(params[2:], [step[2:] for step in grads], lr=0.1, alpha=2.0, momentum=0.5)
    take_steps(AlphaGrad(groups, lr=0.1, alpha=2.0), params, grads)
    for param, value in zip(params, first + second, strict=True):
        np.testing.assert_allclose(param.detach(), value, rtol=1e-12, atol=1e-12)


def test_mixed_types_in_one_group() -> None:
    params = [nn.Parameter(torch.ones(4, dtype=d)) for d in (torch.float32, torch.float64)]
    for param in params:
        param.grad = torch.arange(4, dtype=param.dtype)
    AlphaGrad(params, lr=0.1, foreach=True).step()
    torch.testing.assert_close(params[0].double(), params[1], rtol=1e-6, atol=0)


def test_a_sparse_gradient_is_refused() -> None:
    embedding = nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        AlphaGrad(embedding.parameters()).step()


def test_a_compressed_sparse_gradient_is_refused() -> None:
    settings = AlphaGrad([torch.ones(1)]).defaults
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        alphagrad([torch.ones(3, 3)], [torch.eye(3).to_sparse_csr()], [None], **settings)


def test_a_closure_is_run_with_gradients_and_its_loss_returned() -> None:
    param = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = AlphaGrad([param], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = param.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)  # type: ignore[arg-type]
    assert loss == 5.0
    assert param.detach().square().sum() < 5.0


def test_no_gradients_at_all_is_a_step_that_changes_nothing() -> None:
    params = make_parameters()
    before = copy.deepcopy(params)
    AlphaGrad(params, momentum=0.9, weight_decay=0.1).step()
    torch.testing.assert_close(params, before, rtol=0, atol=0)


def test_a_zero_gradient_moves_by_the_momentum_only() -> None:
    param = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AlphaGrad([param], lr=1.0, alpha=1.0, eps=0.0, momentum=0.5)
    take_steps(optimizer, [param], [[torch.tensor([3.0, 4.0])], [torch.zeros(2)]])
    velocity = np.tanh([0.6, 0.8])
    np.testing.assert_allclose(param.detach(), -1.5 * velocity)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradients_flow_through_a_differentiable_step(momentum: float) -> None:
    def stepped(lr: Tensor, grad: Tensor) -> Tensor:
        param = torch.ones(3, dtype=torch.float64, requires_grad=True).clone()
        param.grad = grad
        optimizer = AlphaGrad(
            [param], lr=lr, alpha=2.0, momentum=momentum, weight_decay=0.1, differentiable=True
        )
        optimizer.step()
        return param

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(stepped, (lr, grad))


@pytest.mark.parametrize("nesterov", [False, True])
def test_gradients_reach_the_learning_rate_through_several_steps(nesterov: bool) -> None:
    def stepped(lr: Tensor, grad: Tensor) -> Tensor:
        param = torch.ones(3, dtype=torch.float64, requires_grad=True).clone()
        optimizer = AlphaGrad([param], lr=lr, momentum=0.9, nesterov=nesterov, differentiable=True)
        for step in range(3):
            param.grad = grad + step
            optimizer.step()
        return param

    lr = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(stepped, (lr, grad))


def test_a_subclass_of_tensor_takes_the_loop_over_single_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Wrapped(Tensor):
        pass

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("lists of tensors need torch's own types")

    monkeypatch.setattr("alphagrad.optimizer.multi_tensor", refuse)
    param = torch.ones(2).as_subclass(Wrapped).requires_grad_()
    param.grad = torch.ones(2).as_subclass(Wrapped)
    AlphaGrad([param], lr=1.0).step()
    assert (param < 1).all()


@pytest.mark.slow
def test_a_compiled_step_keeps_the_accuracy_of_each_type() -> None:
    params = [nn.Parameter(torch.ones(4, dtype=d)) for d in (torch.float32, torch.float64)]
    for param in params:
        param.grad = torch.arange(4, dtype=param.dtype)
    other = copy.deepcopy(params[1])
    other.grad = params[1].grad
    optimizer = AlphaGrad(params, lr=torch.tensor(0.1))
    torch.compile(optimizer.step)()
    AlphaGrad([other], lr=torch.tensor(0.1)).step()
    torch.testing.assert_close(params[1], other, rtol=1e-14, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_compiled_step_equals_the_eager_one(momentum: float) -> None:
    params, grads = make_parameters(torch.float32), make_gradients(4)
    others = copy.deepcopy(params)
    lr = torch.tensor(0.1)
    eager = AlphaGrad(params, lr=lr, alpha=3.0, momentum=momentum)
    take_steps(eager, params, grads)
    compiled = AlphaGrad(others, lr=lr, alpha=3.0, momentum=momentum)
    compiled.step = torch.compile(compiled.step)  # type: ignore[method-assign, assignment]
    take_steps(compiled, others, grads)
    torch.testing.assert_close(params, others, rtol=1e-5, atol=1e-6)


def test_capturable_needs_cuda() -> None:
    params, grads = make_parameters(), make_gradients(2)
    with pytest.raises(RuntimeError, match="capturable=True"):
        take_steps(AlphaGrad(params, capturable=True), params, grads)


@pytest.mark.parametrize("unscale_first", [False, True])
def test_a_gradient_scaler_gives_the_same_step(unscale_first: bool) -> None:
    params = [nn.Parameter(p.detach() * 1e-5) for p in make_parameters()]
    others = copy.deepcopy(params)

    def loss(p: list[nn.Parameter]) -> Tensor:
        return sum((x**2).sum() for x in p)  # type: ignore[return-value]

    # A gradient of the size of eps, so that a step that forgot to scale it would differ.
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled, plain = AlphaGrad(params, lr=0.1), AlphaGrad(others, lr=0.1)
    scaler.scale(loss(params)).backward()
    if unscale_first:
        scaler.unscale_(scaled)
    scaler.step(scaled)
    loss(others).backward()
    plain.step()
    # The scale, and with it eps, is in fp32.
    torch.testing.assert_close(params, others, rtol=1e-7, atol=1e-12)


def test_a_gradient_scaler_skips_the_step_of_an_overflow() -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = AlphaGrad([param], lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((param * torch.inf).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(param.detach(), torch.ones(3))
    assert not optimizer.state
    assert scaler.get_scale() == 512.0


def test_the_functional_form_fills_the_momentum_buffers() -> None:
    param = torch.zeros(2, dtype=torch.float64)
    buffers: list[Tensor | None] = [None]
    settings: dict[str, Any] = {
        **{"lr": 1.0, "alpha": 1.0, "eps": 0.0, "momentum": 0.5, "dampening": 0.0},
        **{"nesterov": False, "weight_decay": 0.0, "coupled_weight_decay": False},
        **{"alpha_scaling": "none", "maximize": False},
    }
    alphagrad([param], [torch.tensor([3.0, 4.0], dtype=torch.float64)], buffers, **settings)
    np.testing.assert_allclose(param, -np.tanh([0.6, 0.8]))
    np.testing.assert_allclose(buffers[0], np.tanh([0.6, 0.8]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0"),
        ({"lr": "high"}, "Invalid learning rate: high"),
        ({"lr": torch.ones(2)}, "Tensor lr must be 1-element"),
        ({"lr": torch.tensor(-1.0)}, "Invalid learning rate: -1.0"),
        ({"lr": torch.tensor(float("nan"))}, "Invalid learning rate: nan"),
        ({"alpha": True}, "Invalid alpha value: True"),
        ({"alpha": 0.0}, "Invalid alpha value: 0.0"),
        ({"alpha": -1.0}, "Invalid alpha value: -1.0"),
        ({"alpha": float("nan")}, "Invalid alpha value: nan"),
        ({"alpha": float("inf")}, "Invalid alpha value: inf"),
        ({"alpha": None}, "Invalid alpha value: None"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"momentum": 1.0}, "Invalid momentum value: 1.0"),
        ({"momentum": -0.1}, "Invalid momentum value: -0.1"),
        ({"dampening": 1.1}, "Invalid dampening value: 1.1"),
        ({"weight_decay": -0.1}, "Invalid weight_decay value: -0.1"),
        ({"alpha_scaling": "log"}, "Invalid alpha_scaling value: log"),
        ({"maximize": 1}, "Invalid maximize value: 1"),
        ({"coupled_weight_decay": "yes"}, "Invalid coupled_weight_decay value: yes"),
        ({"capturable": None}, "Invalid capturable value: None"),
        ({"differentiable": 0}, "Invalid differentiable value: 0"),
        ({"foreach": 2}, "Invalid foreach value: 2"),
        ({"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        (
            {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
            "Nesterov momentum requires a momentum and zero dampening",
        ),
        ({"foreach": True, "differentiable": True}, "foreach does not support differentiable"),
    ],
)
def test_arguments_are_validated_also_in_groups(settings: dict[str, Any], message: str) -> None:
    def parameter() -> nn.Parameter:
        return nn.Parameter(torch.ones(1))

    with pytest.raises(ValueError, match=message):
        AlphaGrad([parameter()], **settings)
    with pytest.raises(ValueError, match=message):
        AlphaGrad([{"params": [parameter()], **settings}])
    optimizer = AlphaGrad([parameter()])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [parameter()], **settings})
    assert len(optimizer.param_groups) == 1


def test_what_torch_validates_for_every_optimizer() -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        AlphaGrad([])
    with pytest.raises(TypeError, match="params argument"):
        AlphaGrad(torch.ones(1))
