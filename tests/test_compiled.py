"""The loop that torch.compile makes one kernel of; tests/gpu has steps on a GPU."""

import copy
from typing import Any

import pytest
import torch
from support.optimizer_cases import make_gradients, make_parameters
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from alphagrad import compiled
from alphagrad.loops import single_tensor

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
        compiled.step(values, step_grads, buffers, **SETTINGS)
        single_tensor(expected, step_grads, expected_buffers, **SETTINGS)
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(buffers, expected_buffers, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_schedule_of_the_momentum_compiles_nothing_anew() -> None:
    frames = torch._dynamo.utils.counters["stats"]
    params, grads = ([torch.ones(64)] for _ in range(2))
    buffers: list[Tensor | None] = [torch.ones(64)]
    compiled.step(params, grads, buffers, **SETTINGS)
    before = frames["unique_graphs"]
    for momentum, lr, alpha in ((0.95, 0.2, 4.0), (0.94, 0.3, 5.0), (0.93, 0.4, 6.0)):
        scheduled = SETTINGS | {"momentum": momentum, "lr": lr, "alpha": alpha}
        compiled.step(params, grads, buffers, **scheduled)
    assert frames["unique_graphs"] == before


def test_where_torch_cannot_compile_there_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise TorchDynamoException("no compiler")

    monkeypatch.setattr(compiled, "_compiled", lambda *_, **__: refuse)
    monkeypatch.setattr(compiled, "_without_compiler", False)
    params, expected = ([torch.ones(3)] for _ in range(2))
    with pytest.warns(UserWarning, match="no compiler"):
        compiled.step(params, [torch.ones(3)], [torch.ones(3)], **SETTINGS)
    single_tensor(expected, [torch.ones(3)], [torch.ones(3)], **SETTINGS)
    assert torch.equal(params[0], expected[0])  # taken nonetheless
    assert not compiled.supports([], None)  # nor tried again
