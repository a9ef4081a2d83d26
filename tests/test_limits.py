"""The limits of AlphaGrad against formulas; that they are limits is in test_optimizer_laws.py."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alphagrad import NormalizedSGD, SignSGD


def normalized(g: np.ndarray) -> np.ndarray:
    return g / (float(np.linalg.norm(g)) + 1e-5)


@pytest.mark.parametrize(
    ("optimizer_class", "direction"), [(NormalizedSGD, normalized), (SignSGD, np.sign)]
)
@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_momentum_sgd_on_the_direction(
    optimizer_class: Any, direction: Any, nesterov: bool
) -> None:
    generator = np.random.default_rng(0)
    param = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
    optimizer = optimizer_class([param], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    p, v = np.ones((4, 3)), np.zeros((4, 3))
    for step in range(4):
        g = generator.normal(size=(4, 3))
        param.grad = torch.tensor(g)
        optimizer.step()
        np.testing.assert_array_equal(param.grad, g)  # left as it was
        d = direction(g) + 0.01 * p
        v = d if step == 0 else 0.9 * v + d
        p = p - 0.1 * (d + 0.9 * v if nesterov else v)
        np.testing.assert_allclose(param.detach(), p, rtol=1e-12)


@pytest.mark.parametrize("optimizer_class", [NormalizedSGD, SignSGD])
def test_habits_of_a_torch_optimizer(optimizer_class: Any) -> None:
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimizer = optimizer_class(params, lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = params[0].sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3.0
    assert torch.equal(params[1].detach(), torch.ones(2))  # it has no gradient
    assert params[0].detach().max() < 1.0
    other = copy.deepcopy(optimizer)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys()

    for refused in (torch.ones(3).to_sparse(), torch.ones(3, dtype=torch.complex64)):
        param = nn.Parameter(torch.ones_like(refused.to_dense()))
        param.grad = refused
        with pytest.raises(RuntimeError, match="does not support sparse or complex"):
            optimizer_class([param]).step()


@pytest.mark.parametrize("optimizer_class", [NormalizedSGD, SignSGD])
def test_a_step_runs_hooks_once_and_leaves_gradients_as_they_are(optimizer_class: Any) -> None:
    torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)  # has its step wrapped for hooks
    param = nn.Parameter(torch.ones(2))
    grad = param.grad = torch.tensor([3.0, -4.0])
    optimizer = optimizer_class([param])
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert calls == ["before", "after"]
    assert param.grad is grad
    assert torch.equal(grad, torch.tensor([3.0, -4.0]))

    other = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    other.grad = torch.ones_like(other)
    with pytest.raises(RuntimeError, match="does not support sparse or complex"):
        optimizer_class([param, other]).step()
    assert param.grad is grad


@pytest.mark.parametrize("eps", [-1.0, float("nan"), float("inf")])
def test_normalized_sgd_refuses_an_epsilon_outside_of_its_range(eps: float) -> None:
    param = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="Invalid epsilon value"):
        NormalizedSGD([param], eps=eps)
    with pytest.raises(ValueError, match="Invalid epsilon value"):
        NormalizedSGD([{"params": [param], "eps": eps}])


def test_normalized_sgd_has_an_epsilon_for_each_group() -> None:
    params = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": params[:1], "eps": 3.0}, {"params": params[1:]}]
    optimizer = NormalizedSGD(groups, lr=1.0)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert params[0].item() == -0.25
    assert params[1].item() == pytest.approx(-1, abs=2e-5)


def test_a_state_of_sgd_gets_the_constructors_epsilon() -> None:
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    state = torch.optim.SGD([param], lr=0.1).state_dict()
    optimizer = NormalizedSGD([param], eps=0.5)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert optimizer.param_groups[0]["eps"] == 0.5
    other = SignSGD([param])
    other.load_state_dict(state)
    other.step()
    state["param_groups"][0]["eps"] = -1.0
    with pytest.raises(ValueError, match="Invalid epsilon value"):
        optimizer.load_state_dict(state)
