"""Links between layers: a producer whose output channels only its consumers read, and nothing between minds a scale.

Along a link a channel may be divided by any positive number where it is produced and multiplied by it where it is
read, and the network computes the same: what equalization, SmoothQuant and AWQ build on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.operators import CONVOLUTIONS
from edgepress.ir.program import Program, Refusal

aten = torch.ops.aten
# f(x s) = f(x) s for s > 0, channel by channel.
INDIFFERENT = (
    aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default, aten.dropout.default,
    aten.dropout_.default, aten.contiguous.default, aten.clone.default, aten.max_pool1d.default,
    aten.max_pool2d.default, aten.avg_pool1d.default, aten.avg_pool2d.default,
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default,
)  # fmt: skip
PRODUCERS = (*CONVOLUTIONS, aten.linear.default, aten.layer_norm.default)


@dataclass(frozen=True)
class Link:
    """One link.

    Attributes:
        producer: convolution, linear layer or layer norm. consumers: the layers that read its channels.
        value: the node whose output the consumers read last in common, i.e. the producer or what follows it alone.
    """

    producer: Node
    consumers: tuple[Node, ...]
    value: Node


def find_links(program: Program, producers: Sequence[object] = PRODUCERS) -> tuple[tuple[Link, ...], list[Refusal]]:
    """All links of a program, and for every other layer what stands in the way."""
    links, refusals = [], []
    for node in program.nodes:
        if node.target not in producers:
            continue
        try:
            links.append(_link(program, node))
        except _Blocked as blocked:
            refusals.append(Refusal(node.name, str(blocked), blocked.needed))
    return tuple(links), refusals


class _Blocked(Exception):
    """What stands in the way, and what would be needed."""

    def __init__(self, found: str, needed: str) -> None:
        super().__init__(found)
        self.needed = needed


def _link(program: Program, producer: Node) -> Link:
    for tensor in _own_tensors(program, producer):
        if len(tensor.users) > 1:
            raise _Blocked(f"{tensor.name} is shared", "weights of its own")
    consumers: list[Node] = []
    _follow(program, producer, _channel_axis(producer), consumers)
    if not consumers:
        raise _Blocked("nothing reads it but the network's output", "a layer after it")
    return Link(producer, tuple(consumers), _common(producer))


def _own_tensors(program: Program, producer: Node) -> list[Node]:
    given = arguments(producer)
    weight = given["weight"]
    if program.tensor_of(weight) is None:
        raise _Blocked("its weight is computed or left out", "a stored weight")
    return [t for t in (weight, given["bias"]) if isinstance(t, Node)]


def _channel_axis(node: Node) -> int:
    return 1 if node.target in CONVOLUTIONS else int(node.meta["val"].dim()) - 1


def _follow(program: Program, value: Node, axis: int, consumers: list[Node]) -> None:
    """Every reader of `value` must be a layer that sums over the channels, or hand channels on as they are."""
    for user in value.users:
        if user.op == "output":
            raise _Blocked("it is an output of the network", "readers inside the network")
        if user.target in INDIFFERENT:
            _follow(program, user, axis, consumers)
        elif (after := _moved_axis(user, axis)) is not None:
            _follow(program, user, after, consumers)
        elif user.args[0] is value and _sums_channels(program, user, axis):
            consumers.append(user)
        else:
            raise _Blocked(f"{user.name} reads it", "a layer, or an operator that hands scaled channels on")


def _moved_axis(node: Node, axis: int) -> int | None:
    """The axis of channels behind an operator that averages or drops the other axes; `None` for any other operator."""
    if node.target == aten.mean.dim:
        rank = node.args[0].meta["val"].dim()  # type: ignore[union-attr]
        axes = {a % rank for a in (node.args[1] or range(rank))}  # type: ignore[union-attr]
        keeps = len(node.args) > 2 and node.args[2]
        return None if axis in axes else axis if keeps else axis - sum(a < axis for a in axes)
    if node.target in (aten.flatten.using_ints, aten.reshape.default, aten.view.default):
        before, after = node.args[0].meta["val"].shape, node.meta["val"].shape  # type: ignore[union-attr]
        alone = all(isinstance(s, int) and s == 1 for s in before[axis + 1 :])
        return axis if alone and tuple(after[axis:]) == (before[axis],) and axis == 1 else None
    return None


def _sums_channels(program: Program, node: Node, axis: int) -> bool:
    if node.target in CONVOLUTIONS:
        fits = axis == 1
    elif node.target == aten.linear.default:
        fits = axis == node.args[0].meta["val"].dim() - 1  # type: ignore[union-attr]
    else:
        return False
    weight = node.args[1]
    return fits and program.tensor_of(weight) is not None and len(weight.users) == 1  # type: ignore[union-attr]


def _common(producer: Node) -> Node:
    value = producer
    while len(value.users) == 1 and next(iter(value.users)).target in INDIFFERENT:
        value = next(iter(value.users))
    return value
