"""One process or several. The only file that imports Lightning Fabric (docs/decisions: why it and not another).

Every process runs the same `fit` on the same data and takes its share of each batch; gradients are averaged, so the
step is that of the whole batch. Batch-norm statistics are those of process 0's share, as usual in data parallelism.
Start with `torchrun --nproc-per-node N script.py`.
"""

import os
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from edgepress.errors import MissingTool
from edgepress.train.options import TrainOptions


class Engine(Protocol):
    """What the loop needs of its processes.

    Attributes:
        rank: number of this process. world: how many there are.
    """

    rank: int
    world: int

    def prepare(self, module: Any) -> Any:
        """`module`, made to average its gradients over the processes."""

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Of parameters outside of the prepared module."""

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes."""

    def from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite with the values of process 0."""


class Alone:
    """One process: nothing to exchange."""

    rank, world = 0, 1

    def prepare(self, module: Any) -> Any:
        return module

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        pass

    def total(self, value: Tensor) -> Tensor:
        return value

    def from_first(self, tensors: Iterable[Tensor]) -> None:
        pass


class Fabric:
    """Distributed data parallelism through Lightning Fabric: gloo on CPUs, NCCL on GPUs.

    Raises:
        MissingTool: Lightning Fabric is not installed.
    """

    def __init__(self, kind: str, world: int) -> None:
        try:
            from lightning_fabric import Fabric as Lightning
        except ImportError as error:
            raise MissingTool("lightning-fabric", needed_for="training in several processes",
                              install="pip install 'edgepress[distributed]'") from error  # fmt: skip
        self._fabric = Lightning(accelerator=kind, devices=_local_world(world), strategy="ddp", num_nodes=_nodes(world))
        self._fabric.launch()
        self.rank, self.world = self._fabric.global_rank, self._fabric.world_size

    def prepare(self, module: Any) -> Any:
        return self._fabric.setup_module(module, move_to_device=False)

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = self._reduced(parameter.grad, "mean")

    def total(self, value: Tensor) -> Tensor:
        return self._reduced(value, "sum")

    @torch.no_grad()
    def from_first(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            tensor.copy_(self._fabric.broadcast(tensor, src=0))

    def _reduced(self, value: Tensor, how: str) -> Tensor:
        reduced = self._fabric.all_reduce(value, reduce_op=how)
        assert isinstance(reduced, Tensor)
        return reduced


def engine_for(options: TrainOptions) -> Engine:
    """`Fabric` if this process was started as one of several (torchrun), `Alone` otherwise."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return Fabric(torch.device(options.device).type, world) if world > 1 else Alone()


def _local_world(world: int) -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", world))


def _nodes(world: int) -> int:
    return world // _local_world(world)
