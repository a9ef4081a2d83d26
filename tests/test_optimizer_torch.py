"""AlphaGrad under torch's own checks of optimizers: its inputs, held against its SGD."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.optimizer_cases import make_gradients, make_parameters, take_steps
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    optim_error_inputs_func_sgd,
    optim_inputs_func_sgd,
)
from torch.utils._python_dispatch import TorchDispatchMode

from alphagrad import AlphaGrad, NormalizedSGD, SignSGD, alphagrad

# What SGD is given by torch's tests, and what is AlphaGrad's own.
INPUTS: list[dict[str, Any]] = [
    *(case.kwargs for case in optim_inputs_func_sgd("cpu")),
    {"alpha": 10.0, "momentum": 0.9, "alpha_scaling": "sqrt"},
    {"weight_decay": 0.1, "momentum": 0.9, "coupled_weight_decay": True},
]
PATHS: list[dict[str, Any]] = [
    {},
    {"foreach": True},
    {"foreach": False},
    {"fused": True},
    {"differentiable": True},
]
every_input = pytest.mark.parametrize("settings", INPUTS, ids=str)
OPTIMIZERS = [AlphaGrad, NormalizedSGD, SignSGD]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "case",
    [
        *optim_error_inputs_func_sgd("cpu", torch.float32),
        *optim_error_inputs_func_sgd("cpu", torch.float64),
    ],
    ids=lambda case: case.optimizer_error_input.desc,
)
def test_what_torch_refuses(case: Any, optimizer: Any) -> None:
    assert case.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    given = case.optimizer_error_input
    params = [Parameter(torch.ones(1))] if given.params is None else given.params
    with pytest.raises(case.error_type, match=case.error_regex):
        optimizer(params, **given.kwargs)


@every_input
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_every_path_takes_the_same_steps(settings: dict[str, Any], dtype: torch.dtype) -> None:
    """Also where parameters go without a gradient for a step, are 0-dim or empty."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (5,), (), (0,), (1,)]
    values = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    grads: list[list[Tensor | None]] = [
        [torch.randn(shape, generator=generator).to(dtype) for shape in shapes] for _ in range(4)
    ]
    grads[1] = [None] * len(shapes)
    grads[2][0] = None
    results = []
    for path in PATHS[:4]:
        params = [Parameter(value.clone()) for value in values]
        take_steps(AlphaGrad(params, **copy.deepcopy(settings), **path), params, grads)
        results.append([param.detach() for param in params])
    exact = dtype == torch.bfloat16  # a difference in fp32 does not survive its rounding
    tolerance: dict[str, Any] = {"rtol": 0, "atol": 0} if exact else {}
    for result in results:
        torch.testing.assert_close(result, results[0], **tolerance)


@every_input
@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize(
    "scheduled",
    [
        lambda optimizer: StepLR(optimizer, gamma=0.99, step_size=10),
        lambda optimizer: ReduceLROnPlateau(optimizer),
    ],
    ids=["StepLR", "ReduceLROnPlateau"],
)
def test_steps_go_in_the_right_direction(
    settings: dict[str, Any], path: dict[str, Any], scheduled: Callable[[Any], Any]
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = Parameter(torch.randn(10, 5, generator=generator))
    bias = Parameter(torch.randn(10, generator=generator))
    inputs = torch.randn(5, generator=generator)
    settings = {"lr": 1e-2, "alpha": 3.0} | copy.deepcopy(settings)
    if path.get("differentiable"):  # whose steps need parameters that are no leaves
        params = [weight.detach().clone(), bias.detach().clone()]
    else:
        params = [weight, bias]
    optimizer = AlphaGrad(params, **settings, **path)
    schedule = scheduled(optimizer)
    sign = -1 if settings.get("maximize") else 1

    def loss() -> Tensor:
        return sign * (params[0].mv(inputs) + params[1]).square().sum()

    first = loss().item()
    for _ in range(20):
        for param in params:
            param.requires_grad_()
        grads = torch.autograd.grad(loss(), params)
        for param, grad in zip(params, grads, strict=True):
            param.requires_grad_(not path.get("differentiable"))
            param.grad = grad
        optimizer.step()
        schedule.step(loss().item()) if isinstance(schedule, ReduceLROnPlateau) else schedule.step()
    decayed = settings.get("weight_decay") and sign < 0  # which is not what is maximised
    assert decayed or loss().item() < first


@every_input
def test_a_state_survives_a_round_trip_and_an_older_one_is_completed(
    settings: dict[str, Any],
) -> None:
    params, grads = make_parameters(), make_gradients(4)
    optimizer = AlphaGrad(params, **copy.deepcopy(settings))
    take_steps(optimizer, params, grads[:2])
    others = [Parameter(param.detach().clone()) for param in params]
    other = AlphaGrad(others, lr=7.0)
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        for flag in ("foreach", "fused", "differentiable", "capturable", "maximize"):
            if not group[flag]:
                del group[flag]
    other.load_state_dict(state)
    assert other.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    take_steps(optimizer, params, grads[2:])
    take_steps(other, others, grads[2:])
    torch.testing.assert_close(params, others, rtol=0, atol=0)


def test_hooks_run_around_a_step_and_a_load() -> None:
    params, grads = make_parameters(), make_gradients(2)
    optimizer = AlphaGrad(params)
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before step"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after step"))
    optimizer.register_state_dict_pre_hook(lambda *_: calls.append("before saving"))
    optimizer.register_load_state_dict_post_hook(lambda *_: calls.append("after loading"))
    take_steps(optimizer, params, grads[:1])
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before step", "after step", "before saving", "after loading"]


def test_a_hook_may_translate_another_optimizers_state() -> None:
    params = make_parameters()
    optimizer = AlphaGrad(params, momentum=0.9)
    own = optimizer.state_dict()["param_groups"]
    optimizer.register_load_state_dict_pre_hook(lambda _, state: state | {"param_groups": own})
    optimizer.load_state_dict(torch.optim.Adam(params).state_dict())
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("path", PATHS[:4], ids=str)
def test_names_of_parameters_are_kept(path: dict[str, Any]) -> None:
    model = nn.Linear(2, 2)
    optimizer = AlphaGrad(model.named_parameters(), **path)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]


def test_a_cyclic_schedule_may_move_the_momentum() -> None:
    param = Parameter(torch.ones(3))
    optimizer = AlphaGrad([param], momentum=0.9)
    schedule: LRScheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=5)
    seen = []
    for _ in range(5):
        param.grad = torch.ones(3)
        optimizer.step()
        seen.append(optimizer.param_groups[0]["momentum"])
        schedule.step()
    assert len({*seen}) > 2


SETTINGS: dict[str, Any] = {
    **{"lr": 0.1, "alpha": 2.0, "eps": 1e-5, "momentum": 0.9, "dampening": 0.0, "nesterov": False},
    **{"weight_decay": 0.5, "coupled_weight_decay": False, "alpha_scaling": "none"},
    "maximize": False,
}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])


@dtypes
@pytest.mark.parametrize("foreach", [None, True, False])
def test_the_functional_form_is_seen_by_autograd(dtype: torch.dtype, foreach: bool | None) -> None:
    weight = torch.ones(3, dtype=dtype, requires_grad=True)
    param = weight * 2
    alphagrad([param], [torch.ones(3, dtype=dtype)], [None], foreach=foreach, **SETTINGS)
    (gradient,) = torch.autograd.grad(param.sum(), weight)
    torch.testing.assert_close(gradient, torch.full_like(weight, 2 * (1 - 0.1 * 0.5)))


@dtypes
def test_a_leaf_in_grad_mode_is_refused_as_by_sgd(dtype: torch.dtype) -> None:
    leaf = torch.ones(3, dtype=dtype, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        alphagrad([leaf], [torch.ones(3, dtype=dtype)], [None], **SETTINGS)
    assert torch.equal(leaf.detach(), torch.ones(3, dtype=dtype))


def functional(param: Tensor, grad: Tensor, lr: float | Tensor = 0.1) -> Tensor:
    param = param.clone()
    alphagrad([param], [grad], [None], **(SETTINGS | {"lr": lr}))
    return param


def test_torch_func_sees_the_functional_form() -> None:
    generator = torch.Generator().manual_seed(0)
    params, grads = (torch.randn(4, 3, generator=generator) for _ in range(2))
    expected = torch.stack([*map(functional, params, grads)])
    torch.testing.assert_close(torch.func.vmap(functional)(params, grads), expected)

    def moved(grad: Tensor) -> Tensor:
        return functional(params[0], grad).sum()

    leaf = grads[0].clone().requires_grad_()
    moved(leaf).backward()
    torch.testing.assert_close(torch.func.grad(moved)(grads[0]), leaf.grad)


def test_fake_tensors_take_a_step() -> None:
    for path, momentum in itertools.product(PATHS[:4], (0.0, 0.9)):
        with FakeTensorMode():
            params = [Parameter(torch.empty(3, 4)), Parameter(torch.empty(5))]
            for param in params:
                param.grad = torch.empty_like(param)
            optimizer = AlphaGrad(params, momentum=momentum, **path)
            optimizer.step()
            optimizer.step()
        assert [param.shape for param in params] == [(3, 4), (5,)]


def test_a_dispatch_mode_sees_the_step() -> None:
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen: list[str] = []
    param = Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = AlphaGrad([param])
    with Watch():  # type: ignore[no-untyped-call]
        optimizer.step()
    assert any("tanh" in name for name in seen)


def test_a_memory_tracker_follows_the_step_of_fake_tensors() -> None:
    with FakeTensorMode():
        model = nn.Linear(640, 640)
        optimizer = AlphaGrad(model.parameters(), momentum=0.9)
        tracker = MemTracker()
        tracker.track_external(model, optimizer)
        with tracker:
            model(torch.empty(2, 640)).sum().backward()
            optimizer.step()
            now = tracker.get_tracker_snapshot("current")[torch.device("cpu")]["Total"]
    assert now >= 3 * 4 * 640 * 640  # parameters, gradients, momentum


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_inference_tensors_take_a_step(momentum: float) -> None:
    with torch.inference_mode():
        param = Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        AlphaGrad([param], lr=0.1, momentum=momentum).step()
        assert (param < 1).all()


def test_lists_need_little_more_memory_than_the_tensors() -> None:
    params = [Parameter(torch.zeros(1 << 16)) for _ in range(8)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = AlphaGrad(params, momentum=0.9, foreach=True)
    optimizer.step()
    tracker = MemTracker()
    with tracker:
        optimizer.step()
    peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert peak <= 4 * 1.1 * sum(param.numel() for param in params)
