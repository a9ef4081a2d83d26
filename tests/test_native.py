"""Networks by native.cpp, held to autograd in float64 and to the same algorithms by torch."""

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import configure
from torch import Tensor, nn

from experiments.agents import mlp, native
from experiments.agents.native import Mlp

SIZES = st.integers(1, 40)


def make_modules(sizes: list[int], activations: list[Any], seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for inputs, outputs, activation in zip(sizes, sizes[1:], activations, strict=False):
        modules += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*[module for module in modules if not isinstance(module, nn.Identity)])


def gradients(modules: nn.Module) -> list[Tensor]:
    found = [parameter.grad for parameter in modules.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient.clone() for gradient in found if gradient is not None]


def differentiate_by_autograd(
    modules: nn.Sequential, inputs: Tensor, by_outputs: Tensor
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return outputs, the parameters' gradients and the inputs', in float64."""
    wide = nn.Sequential(*modules).double()
    inputs = inputs.double().requires_grad_()
    outputs = wide(inputs)
    found = torch.autograd.grad(outputs, [*wide.parameters(), inputs], by_outputs.double())
    wide.float()
    return outputs.detach(), [*found[:-1]], found[-1]


@given(
    sizes=st.lists(SIZES, min_size=2, max_size=5),
    activations=st.lists(st.sampled_from([nn.ReLU, nn.Tanh, nn.Identity]), min_size=4, max_size=4),
    rows=st.sampled_from([1, 2, 7, 64, 300]),
    seed=st.integers(0, 2**30),
)
@settings(deadline=None, max_examples=60)
def test_gradients_are_autograds(
    sizes: list[int], activations: list[Any], rows: int, seed: int
) -> None:
    modules = make_modules(sizes, activations, seed)
    inputs, by_outputs = torch.randn(rows, sizes[0]), torch.randn(rows, sizes[-1])
    outputs, by_parameters, by_inputs = differentiate_by_autograd(modules, inputs, by_outputs)
    network = Mlp(modules)
    assert_close(network.forward(inputs), outputs)
    network.backward(by_outputs)
    assert_close(network.input_gradient(by_outputs), by_inputs)
    for found, expected in zip(gradients(modules), by_parameters, strict=True):
        assert_close(found, expected)
    assert network.is_native


def assert_close(found: Tensor, expected: Tensor) -> None:
    scale = max(expected.abs().max().item(), 1.0)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)


def test_a_relu_has_no_derivative_at_zero_and_hides_no_nan() -> None:
    layer = nn.Linear(1, 4)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([[1.0], [0.0], [-1.0], [math.nan]])
        layer.bias.zero_()
    network = Mlp([layer, nn.ReLU()])
    outputs = network.forward(torch.ones(1, 1)).clone()
    network.backward(torch.ones(1, 4))
    torch.testing.assert_close(outputs, torch.tensor([[1, 0, 0, math.nan]]), equal_nan=True)
    torch.testing.assert_close(layer.bias.grad, torch.tensor([1.0, 0, 0, 1]))
    network.backward(torch.full((1, 4), math.nan))
    assert layer.bias.grad is not None
    assert layer.bias.grad.isnan().tolist() == [True, False, False, True]


def test_a_network_is_followed_to_where_its_parameters_are() -> None:
    modules = make_modules([3, 8, 2], [nn.Tanh, nn.Identity], 0)
    network, inputs = Mlp(modules), torch.randn(5, 3)
    network.forward(inputs)
    for parameter in modules.parameters():
        parameter.data = torch.randn(parameter.shape)
    expected = modules(inputs).detach()
    torch.testing.assert_close(network.forward(inputs), expected)
    assert network.is_native
    modules.double()
    torch.testing.assert_close(network.forward(inputs.double()), modules(inputs.double()).detach())
    assert not network.is_native
    network.backward(torch.ones(5, 2).double())
    assert gradients(modules)[0].dtype == torch.float64


@pytest.mark.parametrize("shape", [(5, 2), (5, 4)])
def test_inputs_of_another_width_are_for_torch_which_has_the_words(shape: tuple[int, int]) -> None:
    network = Mlp(make_modules([3, 8, 2], [nn.Tanh, nn.Identity], 0))
    with pytest.raises(RuntimeError, match="shapes"):
        network.forward(torch.randn(shape))


def test_without_a_library_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, truncated = tmp_path / "damaged.so", tmp_path / "truncated.so"
    damaged.write_text("no library")
    truncated.write_bytes(native.SOURCES[0].with_name("_native.so").read_bytes()[:20_000])
    for path in (tmp_path / "missing.so", damaged, truncated):
        assert native.load(path) is None
        assert native.load(path) is None
        [line] = capsys.readouterr().err.splitlines()
        assert str(path) in line


@given(
    shapes=st.lists(st.lists(SIZES, max_size=2), min_size=1, max_size=5),
    max_norm=st.sampled_from([math.inf, 1e-3, 1.0, 1e6]),
    betas=st.sampled_from([(0.9, 0.999), (0.0, 0.9)]),
    seed=st.integers(0, 2**30),
)
@settings(deadline=None, max_examples=30)
def test_adams_steps_are_torchs(
    shapes: list[list[int]], max_norm: float, betas: tuple[float, float], seed: int
) -> None:
    torch.manual_seed(seed)
    start = [torch.randn(shape) for shape in shapes]
    own = [nn.Parameter(tensor.clone()) for tensor in start]
    wide = [nn.Parameter(tensor.double()) for tensor in start]
    optimizer = torch.optim.Adam(own, lr=1e-2, betas=betas)
    reference = torch.optim.Adam(wide, lr=1e-2, betas=betas)
    heard: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: heard.append("before"))
    optimizer.register_step_post_hook(lambda *_: heard.append("after"))
    for index in range(20):
        if index == 10:  # as after a checkpoint: other tensors hold the state
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for parameter, exact in zip(own, wide, strict=True):
            parameter.grad = torch.randn(parameter.shape)
            exact.grad = parameter.grad.double()
        versions = [parameter._version for parameter in own]
        is_first = not optimizer.state
        assert native.step(optimizer, max_norm) is not is_first
        if is_first:
            if max_norm < math.inf:
                nn.utils.clip_grad_norm_(own, max_norm)
            optimizer.step()
        if max_norm < math.inf:
            nn.utils.clip_grad_norm_(wide, max_norm)
        reference.step()
        assert all(p._version > version for p, version in zip(own, versions, strict=True))
    assert heard == ["before", "after"] * 20
    for parameter, exact in zip(own, wide, strict=True):
        assert_close(parameter.detach(), exact.detach())
        state = optimizer.state[parameter]
        assert state["step"] == 20
        for name in ("exp_avg", "exp_avg_sq"):
            assert_close(state[name], reference.state[exact][name])


def adam_after_a_step(**settings: Any) -> tuple[nn.Parameter, torch.optim.Adam]:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter], **settings)
    parameter.grad = torch.arange(3.0) - 1
    optimizer.step()
    return parameter, optimizer


@pytest.mark.parametrize(
    "others",
    [
        *[{"weight_decay": 0.1}, {"amsgrad": True}, {"maximize": True}],
        *[{"lr": torch.tensor(0.1), "foreach": False}],
    ],
)
def test_adams_other_settings_are_for_torch(others: dict[str, Any]) -> None:
    parameter, optimizer = adam_after_a_step(**others)
    before = parameter.detach().clone()
    assert not native.step(optimizer, 0.1)
    torch.testing.assert_close(parameter, before, rtol=0, atol=0)


def test_a_state_of_another_size_is_for_torch_which_has_the_words() -> None:
    _, optimizer = adam_after_a_step()
    assert native.step(optimizer)
    _, smaller = adam_after_a_step()
    state = smaller.state_dict()
    state["state"][0]["exp_avg"] = torch.ones(2)
    optimizer.load_state_dict(state)
    assert not native.step(optimizer)
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()


@pytest.mark.parametrize("other", [torch.tensor([2.0, 0.0, -1.0]), None], ids=["other", "none"])
def test_a_hook_may_put_another_gradient_in_place(other: Tensor | None) -> None:
    def exchange(*_: object) -> None:
        parameter.grad = None if other is None else other.clone()

    results = []
    for by_torch in (False, True):
        parameter, optimizer = adam_after_a_step()
        optimizer.register_step_pre_hook(exchange)
        parameter.grad = torch.ones(3)
        if by_torch:
            optimizer.step()
        else:
            assert native.step(optimizer)
        results.append(parameter.detach())
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-7)


def test_a_nan_gradient_is_not_clipped_away() -> None:
    parameter, optimizer = adam_after_a_step()
    parameter.grad = torch.tensor([1.0, 1.0, math.nan])
    assert native.step(optimizer, 0.5)
    assert parameter.isnan().all()


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_products_of_less_precision_are_torchs(
    precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Mlp(make_modules([3, 8, 2], [nn.Tanh, nn.Identity], 0))
    torch.set_float32_matmul_precision(precision)
    try:
        network.forward(torch.randn(5, 3))
        assert not network.is_native
    finally:
        torch.set_float32_matmul_precision("highest")
    assert f"{precision} precision" in capsys.readouterr().err


ALPHAGRAD = ["optimizer=alphagrad", "optimizer.alpha=10"]
DQN = ["protocol=dqn_cleanrl", "algorithm.learning_starts=500"]
TD3 = ["protocol=td3_cleanrl", "algorithm.learning_starts=500"]
TANH = [
    "+algorithm.policy_kwargs.activation_fn._target_=hydra.utils.get_class",
    "+algorithm.policy_kwargs.activation_fn.path=torch.nn.Tanh",
]


PATHS = ("native", "torch", "float64")


class WideMlp(mlp.Mlp):
    """By torch, for parameters in float64."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs.double())


@pytest.fixture
def train(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Trains what Hydra overrides describe on a path, by a function that takes the model."""

    def train_model(path: str, function: Callable[[Any], None], *overrides: str) -> Any:
        with (
            monkeypatch.context() as patch,
            nullcontext() if path == "native" else native.left_out(),
        ):
            if path == "float64":
                patch.setattr(native, "Mlp", WideMlp)
            model = make(*overrides)
            assert model.networks is not None
            if path == "float64":
                model.policy.double()
            function(model)
        return model

    return train_model


def assert_same_updates(models: dict[str, Any], share: float = 1.0) -> None:
    """To 1e-5 for a share of the parameters; if for all, as near to float64 as torch's fp32."""
    metrics = {
        path: {name: x for name, x in model.logger.name_to_value.items() if "train/" in name}
        for path, model in models.items()
    }
    assert metrics["native"] == pytest.approx(metrics["torch"], rel=1e-5, abs=1e-5)
    parameters = {
        path: nn.utils.parameters_to_vector(model.policy.parameters()).detach().double()
        for path, model in models.items()
    }
    differences = (parameters["native"] - parameters["torch"]).abs()
    assert (differences <= 1e-5).double().mean() >= share
    by_native, by_torch = (
        (parameters[path] - parameters["float64"]).norm() for path in ("native", "torch")
    )
    assert share < 1.0 or by_native <= 2 * by_torch


@pytest.mark.parametrize("optimizer", [["optimizer=adam"], ALPHAGRAD], ids=["adam", "alphagrad"])
@pytest.mark.parametrize(
    ("protocol", "share"),
    [
        (DQN, 1.0),
        ([*TD3, *TANH], 1.0),
        # Of its 10^8 ReLUs some have inputs within rounding of 0. Where one falls on the other
        # side, which depends on the CPU, the 256 weights into it go another way, autograd's too.
        (TD3, 0.999),
    ],
    ids=["dqn", "td3-tanh", "td3"],
)
def test_100_updates_from_a_replay_buffer_are_torchs(
    train: Callable[..., Any], protocol: list[str], share: float, optimizer: list[str]
) -> None:
    def update(model: Any) -> None:
        model.learn(500)  # at random
        model.train(gradient_steps=100, batch_size=256)

    overrides = (*protocol, *optimizer, "seed=1")
    assert_same_updates({path: train(path, update, *overrides) for path in PATHS}, share)


@pytest.mark.parametrize("optimizer", [["optimizer=adam"], ALPHAGRAD], ids=["adam", "alphagrad"])
@pytest.mark.parametrize("batch_size", [64, 100])
def test_updates_on_a_rollout_are_torchs(
    train: Callable[..., Any], batch_size: int, optimizer: list[str]
) -> None:
    def update(model: Any) -> None:
        model.set_logger(configure(None, []))
        buffer = model.rollout_buffer
        buffer.reset()
        torch.manual_seed(1)
        for _ in range(model.n_steps):
            observation, action, value, probability = (
                torch.randn(1, size) for size in (17, 6, 1, 1)
            )
            buffer.add(
                *[tensor.numpy() for tensor in (observation, action)],
                *[torch.randn(1).numpy(), torch.rand(1).numpy() < 0.01],
                value[0],
                -8 + 0.1 * probability[0],
            )
        buffer.compute_returns_and_advantage(value[0], np.zeros(1))
        model.set_random_seed(1)
        model.train()
        assert model._n_updates * -(-model.n_steps // batch_size) >= 50

    overrides = (
        *["protocol=ppo_cleanrl", f"algorithm.batch_size={batch_size}", "algorithm.n_steps=512"],
        *optimizer,
    )
    assert_same_updates({path: train(path, update, *overrides) for path in PATHS})
