"""AlphaGrad's state: what it keeps, and that it survives every way of copying it."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.optimizer_cases import every_path, make_gradients, make_parameters, take_steps
from torch import nn

from alphagrad import AlphaGrad, NormalizedSGD

Copy = Callable[[AlphaGrad, list[nn.Parameter]], tuple[AlphaGrad, list[nn.Parameter]]]


def by_deepcopy(optimizer: AlphaGrad, params: list[nn.Parameter]) -> Any:
    return copy.deepcopy((optimizer, params))


def by_pickle(optimizer: AlphaGrad, params: list[nn.Parameter]) -> Any:
    return pickle.loads(pickle.dumps((optimizer, params)))


def by_state_dict(optimizer: AlphaGrad, params: list[nn.Parameter]) -> Any:
    params = [nn.Parameter(param.detach().clone()) for param in params]
    other = AlphaGrad(params, lr=7.0, alpha=7.0)
    # torch's load_state_dict does not copy the tensors.
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return other, params


@every_path
@pytest.mark.parametrize("copied", [by_deepcopy, by_pickle, by_state_dict])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_copy_goes_on_as_the_original(
    momentum: float, copied: Copy, foreach: bool | None
) -> None:
    params, grads = make_parameters(), make_gradients(4)
    optimizer = AlphaGrad(params, lr=0.1, alpha=3.0, momentum=momentum, foreach=foreach)
    take_steps(optimizer, params, grads[:2])
    for param in params:
        param.grad = None
    other, other_params = copied(optimizer, params)
    take_steps(optimizer, params, grads[2:])
    take_steps(other, other_params, grads[2:])
    for param, other_param in zip(params, other_params, strict=True):
        assert torch.equal(param, other_param)
    assert other.param_groups[0]["alpha"] == 3.0


@every_path
def test_there_is_no_state_without_momentum(foreach: bool | None) -> None:
    params, grads = make_parameters(), make_gradients(2)
    optimizer = AlphaGrad(params, foreach=foreach)
    take_steps(optimizer, params, grads)
    assert not optimizer.state
    assert optimizer.state_dict()["state"] == {}


@every_path
def test_with_momentum_there_is_one_buffer_like_each_parameter_that_was_stepped(
    foreach: bool | None,
) -> None:
    params, grads = make_parameters(torch.float32), make_gradients(2)
    grads[0][2] = grads[1][2] = None
    optimizer = AlphaGrad(params, momentum=0.9, foreach=foreach)
    take_steps(optimizer, params, grads)
    assert set(optimizer.state) == {p for index, p in enumerate(params) if index != 2}
    for param, state in optimizer.state.items():
        assert list(state) == ["momentum_buffer"]
        assert state["momentum_buffer"].shape == param.shape
        assert state["momentum_buffer"].dtype == param.dtype


@every_path
def test_momentum_can_be_turned_off_and_on(foreach: bool | None) -> None:
    params, grads = make_parameters(), make_gradients(3)
    optimizer = AlphaGrad(params, lr=0.1, momentum=0.9, foreach=foreach)
    group = optimizer.param_groups[0]
    take_steps(optimizer, params, grads[:1])
    group["momentum"] = 0.0
    before = copy.deepcopy(params)
    take_steps(optimizer, params, grads[2:])
    assert not optimizer.state
    take_steps(AlphaGrad(before, lr=0.1), before, grads[2:])
    torch.testing.assert_close(params, before)

    group["momentum"] = 0.9
    take_steps(optimizer, params, grads[2:])
    fresh = AlphaGrad(before, lr=0.1, momentum=0.9)
    take_steps(fresh, before, grads[2:])
    torch.testing.assert_close(params, before)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_state_dict_loads_into_the_other_kind(momentum: float) -> None:
    params, grads = make_parameters(), make_gradients(2)
    source = AlphaGrad(params, lr=0.1, momentum=momentum)
    take_steps(source, params, grads)
    target = AlphaGrad(params, lr=0.1, momentum=0.9 - momentum)
    target.load_state_dict(source.state_dict())
    assert target.param_groups[0]["momentum"] == momentum
    assert len(target.state) == (len(params) if momentum else 0)
    take_steps(target, params, grads)


def test_a_state_dict_from_before_a_setting_existed() -> None:
    params, grads = make_parameters(), make_gradients(2)
    optimizer = AlphaGrad(params, alpha=3.0, alpha_scaling="sqrt")
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        del group["alpha_scaling"], group["foreach"], group["coupled_weight_decay"]
    optimizer.load_state_dict(old)
    assert optimizer.param_groups[0]["alpha_scaling"] == "sqrt"  # the constructor's
    assert optimizer.param_groups[0]["alpha"] == 3.0
    take_steps(optimizer, params, grads)


def test_the_state_moves_to_the_type_of_the_parameters() -> None:
    params, grads = make_parameters(), make_gradients(2)
    optimizer = AlphaGrad(params, momentum=0.9)
    take_steps(optimizer, params, grads)
    single = make_parameters(torch.float32)
    other = AlphaGrad(single, momentum=0.9)
    other.load_state_dict(optimizer.state_dict())
    assert {s["momentum_buffer"].dtype for s in other.state.values()} == {torch.float32}
    take_steps(other, single, grads)


@every_path
def test_what_others_keep_in_the_state_stays(foreach: bool | None) -> None:
    params, grads = make_parameters(), make_gradients(2)
    optimizer = AlphaGrad(params, momentum=0.9, foreach=foreach)
    optimizer.state[params[0]]["slow"] = params[0].detach().clone()
    take_steps(optimizer, params, grads[:1])
    optimizer.param_groups[0]["momentum"] = 0.0
    take_steps(optimizer, params, grads[:1])
    assert {param: list(state) for param, state in optimizer.state.items()} == {params[0]: ["slow"]}


@pytest.mark.parametrize(
    ("other", "missing"),
    [
        (torch.optim.SGD, "alpha"),
        (torch.optim.Adam, "alpha"),
        (torch.optim.RMSprop, "dampening"),  # has an alpha of its own
        (torch.optim.ASGD, "eps"),
        (NormalizedSGD, "alpha"),
    ],
)
def test_another_optimizers_state_is_refused_by_name(other: Any, missing: str) -> None:
    params, grads = make_parameters(), make_gradients(2)
    foreign = other(params)
    take_steps(foreign, params, grads)
    optimizer = AlphaGrad(params, lr=0.1, momentum=0.9)
    take_steps(optimizer, params, grads)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=f"not a state of AlphaGrad.* no {missing}"):
        optimizer.load_state_dict(foreign.state_dict())
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]
    assert list(optimizer.state_dict()["state"]) == list(before["state"])


@pytest.mark.parametrize("bad", [{"alpha": -1.0}, {"momentum": 1.0}, {"alpha_scaling": "log"}])
def test_a_loaded_group_is_checked_as_a_new_one(bad: dict[str, Any]) -> None:
    optimizer = AlphaGrad(make_parameters())
    state = optimizer.state_dict()
    state["param_groups"][0].update(bad)
    with pytest.raises(ValueError, match=f"Invalid {next(iter(bad))} value"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["alpha"] == 1.0


def test_numpy_numbers_are_stored_as_pythons_own() -> None:
    given = {"lr": np.float64(0.1), "alpha": np.logspace(0, 2, 3)[1], "eps": np.float32(1e-5)}
    optimizer = AlphaGrad(make_parameters()[:1], **given)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "alpha": np.int64(3)})
    for group in optimizer.param_groups:
        assert {type(group[name]) for name in ("lr", "alpha", "eps", "momentum")} == {float}
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
