"""What a step remembers of its tensors, and that it forgets it when they change."""

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import alphagrad.optimizer
from alphagrad import AlphaGrad, memory
from alphagrad.memory import Memory


def make(**settings: Any) -> AlphaGrad:
    """Of two square matrices, whose strides alone tell how they lie, and of a vector."""
    generator = torch.Generator().manual_seed(0)
    params = [nn.Parameter(torch.randn(s, generator=generator)) for s in ((4, 4), (4, 4), (5,))]
    return AlphaGrad(params, lr=0.1, alpha=3.0, **settings)


def parameters(optimizer: AlphaGrad) -> list[nn.Parameter]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def give_gradients(optimizer: AlphaGrad, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for param in parameters(optimizer):
        param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)


def first(optimizer: AlphaGrad) -> nn.Parameter:
    return parameters(optimizer)[0]


def transpose(optimizer: AlphaGrad) -> None:
    first(optimizer).data = first(optimizer).data.t()


def transpose_gradient(optimizer: AlphaGrad) -> None:
    grad = first(optimizer).grad
    assert grad is not None
    grad.t_()


def expand_gradient(optimizer: AlphaGrad) -> None:
    first(optimizer).grad = torch.ones(1, 4).expand(4, 4)


def negate_gradient(optimizer: AlphaGrad) -> None:
    first(optimizer).grad = torch._neg_view(torch.randn(4, 4, generator=torch.manual_seed(9)))


def widen(optimizer: AlphaGrad) -> None:
    for param in parameters(optimizer):
        param.grad = None
        param.data = param.data.double()
    for state in optimizer.state.values():
        state["momentum_buffer"] = state["momentum_buffer"].double()
    give_gradients(optimizer, 7)


def move(optimizer: AlphaGrad) -> None:
    for param in parameters(optimizer):
        param.data = param.data.clone()


def reshape(optimizer: AlphaGrad) -> None:
    param = first(optimizer)
    param.grad = None
    param.data = param.data.reshape(2, 8)
    if param in optimizer.state:
        buffer = optimizer.state[param]["momentum_buffer"]
        optimizer.state[param]["momentum_buffer"] = buffer.reshape(2, 8)
    param.grad = torch.arange(16.0).reshape(2, 8)


def transpose_momentum(optimizer: AlphaGrad) -> None:
    for state in optimizer.state.values():
        if state["momentum_buffer"].ndim == 2:
            state["momentum_buffer"].t_()


def turn_momentum(optimizer: AlphaGrad) -> None:
    group = optimizer.param_groups[0]
    group["momentum"] = 0.0 if group["momentum"] else 0.5


def exchange_parameters(optimizer: AlphaGrad) -> None:
    params = optimizer.param_groups[0]["params"]
    params[0], params[2] = params[2], params[0]


def skip_a_parameter(optimizer: AlphaGrad) -> None:
    first(optimizer).grad = None


def add_a_group(optimizer: AlphaGrad) -> None:
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.arange(3.0)
    optimizer.add_param_group({"params": [param], "alpha": 7.0})


def remove_a_parameter(optimizer: AlphaGrad) -> None:
    del optimizer.param_groups[0]["params"][0]


def share_a_gradient(optimizer: AlphaGrad) -> None:
    params = parameters(optimizer)
    params[1].grad = params[0].grad


CHANGES = [
    transpose,
    transpose_gradient,
    expand_gradient,
    negate_gradient,
    widen,
    move,
    reshape,
    transpose_momentum,
    turn_momentum,
    exchange_parameters,
    skip_a_parameter,
    add_a_group,
    remove_a_parameter,
    share_a_gradient,
]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_between_steps_is_seen(
    change: Callable[[AlphaGrad], None], momentum: float
) -> None:
    remembering, loop = make(momentum=momentum), make(momentum=momentum, foreach=False)
    for optimizer in (remembering, loop):
        for seed in (1, 2, 3):
            give_gradients(optimizer, seed)
            optimizer.step()
        change(optimizer)
        optimizer.step()
        optimizer.step()
    torch.testing.assert_close(parameters(remembering), parameters(loop), rtol=1e-6, atol=1e-6)
    for one, other in zip(parameters(remembering), parameters(loop), strict=True):
        assert remembering.state.get(one, {}).keys() == loop.state.get(other, {}).keys()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_steps_its_own_tensors(copied: Callable[[Any], Any], momentum: float) -> None:
    optimizer = make(momentum=momentum)
    for seed in (1, 2):
        give_gradients(optimizer, seed)
        optimizer.step()
    before = [param.detach().clone() for param in parameters(optimizer)]
    other = copied(optimizer)
    give_gradients(other, 3)
    other.step()
    torch.testing.assert_close(parameters(optimizer), before, rtol=0, atol=0)
    give_gradients(optimizer, 3)
    optimizer.step()
    torch.testing.assert_close(parameters(optimizer), parameters(other), rtol=0, atol=0)


def test_a_loaded_state_is_the_one_that_is_stepped() -> None:
    optimizer, other = make(momentum=0.9), make(momentum=0.9)
    for seed in (1, 2):
        give_gradients(optimizer, seed)
        optimizer.step()
    old = optimizer.state[first(optimizer)]["momentum_buffer"]
    before = old.clone()
    give_gradients(other, 5)
    other.step()
    optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    optimizer.step()
    assert torch.equal(old, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("freed", ["parameter", "gradient", "zero"])
def test_memory_that_is_freed_later_is_an_error(freed: str, momentum: float) -> None:
    optimizer = make(momentum=momentum)
    for seed in (1, 2, 3):
        give_gradients(optimizer, seed)
        optimizer.step()
    param = first(optimizer)
    if freed == "zero":
        param.grad = torch._efficientzerotensor(4, 4)
    else:
        tensor = param if freed == "parameter" else param.grad
        assert tensor is not None
        tensor.data.untyped_storage().resize_(0)
    before = parameters(optimizer)[1].detach().clone()
    with pytest.raises(RuntimeError, match="has no memory"):
        optimizer.step()
    assert torch.equal(parameters(optimizer)[1], before)


def test_a_sparse_gradient_is_refused_later_too() -> None:
    optimizer = make()
    for seed in (1, 2):
        give_gradients(optimizer, seed)
        optimizer.step()
    first(optimizer).grad = torch.eye(4).to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()


def test_who_watches_torch_sees_later_steps_too() -> None:
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen: list[str] = []
    optimizer = make()
    for seed in (1, 2):
        give_gradients(optimizer, seed)
        optimizer.step()
    with Watch():  # type: ignore[no-untyped-call]
        optimizer.step()
    assert any("tanh" in name for name in seen)


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors each choice was made for."""
    counts: list[int] = []

    def counted(params: list[Tensor], *args: Any) -> Any:
        counts.append(len(params))
        return choose(params, *args)

    choose = alphagrad.optimizer._choose
    monkeypatch.setattr(alphagrad.optimizer, "_choose", counted)
    return counts


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_new_gradients_that_lie_alike_need_no_new_choice(
    momentum: float, choices: list[int]
) -> None:
    optimizer = make(momentum=momentum)
    for seed in range(6):
        give_gradients(optimizer, seed)
        optimizer.step()
    assert len(choices) == (2 if momentum else 1)  # the first step has no momentum's buffers yet


def test_without_torchs_guards_each_step_chooses(
    monkeypatch: pytest.MonkeyPatch, choices: list[int]
) -> None:
    monkeypatch.setattr(memory, "TensorGuards", None)
    optimizer = make()
    for seed in (1, 2, 3):
        give_gradients(optimizer, seed)
        optimizer.step()
    assert choices == [3, 3, 3]


def test_a_memory_holds_no_tensors() -> None:
    kept, tensor = Memory(), torch.ones(3)
    kept.keep([], [tensor], "key")
    assert kept.recall([torch.zeros(3)], "key") == []
    assert kept.recall([torch.zeros(3)], "another key") is None
    assert kept.recall([torch.zeros(4)], "key") is None
    assert kept.recall([torch.zeros(3), torch.zeros(3)], "key") is None
    reference = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    "tensor", [torch.ones(2, device="meta"), torch.ones(2).as_subclass(nn.Buffer), None]
)
def test_a_memory_keeps_nothing_for_other_tensors(tensor: Any) -> None:
    kept = Memory()
    kept.keep([], [torch.ones(2)])
    kept.keep([], [tensor])
    assert kept.recall([tensor]) is None
    assert kept.recall([torch.ones(2)]) is None
