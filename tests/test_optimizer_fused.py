"""The step as torch.compile compiles it, and without a compiler."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from test_optimizer import make_gradients, make_parameters, reference, take_steps
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from alphagrad import AlphaGrad, fused
from alphagrad.normalization import bounded


@pytest.mark.slow
@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_fused_steps_equal_the_reference(dampening: float) -> None:
    settings: dict[str, Any] = {"alpha": 3.0, "momentum": 0.9, "dampening": dampening}
    params, grads = make_parameters(torch.float32), make_gradients(3)
    expected = reference(params, grads, lr=0.1, **settings)
    take_steps(AlphaGrad(params, lr=0.1, fused=True, **settings), params, grads)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().double(), value, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_fused_norms_neither_overflow_nor_vanish() -> None:
    for scale in (1e25, 1e-25):
        param = nn.Parameter(torch.zeros(1001))
        param.grad = torch.linspace(-1, 1, 1001) * scale
        exact = param.grad.double().numpy() / scale
        AlphaGrad([param], lr=1.0, alpha=5.0, eps=0.0, fused=True).step()
        expected = -np.tanh(5 * exact / np.linalg.norm(exact))
        np.testing.assert_allclose(param.detach(), expected, rtol=1e-6)


def test_the_rational_tanh_is_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    x = torch.cat([torch.linspace(-20, 20, 100_001), torch.logspace(-30, 0, 1000)])
    torch.testing.assert_close(bounded(x).double(), x.double().tanh(), rtol=4e-7, atol=0)
    assert bounded(torch.tensor([float("nan")])).isnan().all()


def test_without_a_compiler_there_is_one_warning_and_the_same_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TorchDynamoException("no compiler")

    monkeypatch.setattr(fused, "_compiled", lambda *_: refuse)
    monkeypatch.setattr(fused, "_without_compiler", False)
    params, grads = make_parameters(), make_gradients(3)
    others = copy.deepcopy(params)
    with pytest.warns(UserWarning, match="no compiler") as warned:
        take_steps(AlphaGrad(params, momentum=0.9, fused=True), params, grads)
    assert len(warned) == 1
    take_steps(AlphaGrad(others, momentum=0.9), others, grads)
    torch.testing.assert_close(params, others)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("settings", [{"fused": True}, {"foreach": True}, {"capturable": True}])
def test_steps_on_a_gpu_equal_the_reference(settings: dict[str, Any]) -> None:
    params, grads = make_parameters(torch.float32), make_gradients(3)
    expected = reference(params, grads, lr=0.1, alpha=3.0, momentum=0.9)
    params = [nn.Parameter(param.detach().cuda()) for param in params]
    cuda = [[None if g is None else g.cuda() for g in step] for step in grads]
    take_steps(AlphaGrad(params, lr=0.1, alpha=3.0, momentum=0.9, **settings), params, cuda)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().cpu().double(), value, rtol=1e-5, atol=1e-6)
