"""Parameters sharded over processes, as FSDP2 has them, take the steps of whole ones."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.multiprocessing.spawn import spawn
from torch.optim import Optimizer

from alphagrad import AlphaGrad, NormalizedSGD

PROCESSES = 2
SHAPES = [(4, 8), (5, 8), (402, 401), (601, 300), (1, 8)]
SETTINGS: list[dict[str, Any]] = [
    {"momentum": 0.9, "weight_decay": 0.1},
    {"foreach": True, "momentum": 0.9, "nesterov": True},
    {"foreach": False, "alpha_scaling": "sqrt"},
    {"fused": True},
]


def compare(rank: int, meeting_point: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=PROCESSES
    )
    mesh = init_device_mesh("cpu", (PROCESSES,))
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        makers: list[Callable[[list[nn.Parameter]], Optimizer]] = [
            *(partial(AlphaGrad, lr=0.1, alpha=5.0, **settings) for settings in SETTINGS),
            partial(NormalizedSGD, lr=0.1),
        ]
        for make in makers:
            values = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
            whole = [nn.Parameter(value.clone()) for value in values]
            sharded = [nn.Parameter(distribute_tensor(v, mesh, [Shard(0)])) for v in values]
            plain = nn.Parameter(values[0].clone())  # beside sharded ones
            optimizers = make(whole), make([*sharded, plain])
            for scale in (1.0, 1e-30, 1e25):
                for param, shard in zip(whole, sharded, strict=True):
                    grad = torch.randn(param.shape, generator=generator, dtype=dtype) * scale
                    param.grad, shard.grad = grad, distribute_tensor(grad, mesh, [Shard(0)])
                plain.grad = whole[0].grad
                for optimizer in optimizers:
                    optimizer.step()
            for param, shard in zip(whole, sharded, strict=True):
                assert isinstance(shard.data, DTensor)
                torch.testing.assert_close(shard.data.full_tensor(), param.data)
            torch.testing.assert_close(plain, whole[0])
    distributed.destroy_process_group()


@pytest.mark.slow
def test_sharded_parameters_take_the_steps_of_whole_ones(tmp_path: Path) -> None:
    spawn(compare, (str(tmp_path / "meeting_point"),), nprocs=PROCESSES)
