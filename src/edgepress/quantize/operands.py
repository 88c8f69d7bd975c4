"""What the arguments of ATen operators are: which is the weight, which the bias, which the activations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.text import op_name


@dataclass(frozen=True)
class Weighted:
    """Positions of an operator's weight and bias, and the weight's axis of output channels."""

    weight: int
    bias: int | None
    axis: int


_PLAIN = Weighted(weight=1, bias=2, axis=0)
_TRANSPOSED = Weighted(weight=1, bias=2, axis=1)
_PRODUCT = Weighted(weight=1, bias=None, axis=-1)

WEIGHTED: Mapping[str, Weighted] = {
    **{f"aten.conv{d}d": _PLAIN for d in (1, 2, 3)},
    **{f"aten.conv{d}d.padding": _PLAIN for d in (1, 2, 3)},
    "aten.conv_transpose1d": _TRANSPOSED,
    "aten.conv_transpose2d.input": _TRANSPOSED,
    "aten.linear": _PLAIN,
    "aten.matmul": _PRODUCT,
    "aten.mm": _PRODUCT,
}
TWO_OPERANDS = ("aten.add.Tensor", "aten.add_.Tensor", "aten.mul.Tensor", "aten.mul_.Tensor", "aten.sub.Tensor",
                "aten.div.Tensor")  # fmt: skip
CREATED = ("aten.zeros_like", "aten.ones_like", "aten.full_like", "aten.zeros", "aten.ones", "aten.full")
ATTENTION = ("aten.scaled_dot_product_attention",)
PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm")


def weighted(program: Program, node: Node) -> Weighted | None:
    """Where `node` keeps its weight, or `None` if it has none (or it is computed by other nodes)."""
    place = WEIGHTED.get(op_name(node))
    if place is None or program.tensor_of(argument(node, place.weight)) is None:
        return None
    return place


def argument(node: Node, position: int | None) -> Any:
    """The positional argument, or `None` if it is left out."""
    return None if position is None or position >= len(node.args) else node.args[position]


def weight_axis(program: Program, node: Node, place: Weighted) -> int | None:
    """The axis of a weight that has one scale per index; `None` where channels cannot be told apart."""
    tensor = program.tensor_of(argument(node, place.weight))
    assert tensor is not None
    if place is _TRANSPOSED and _groups(node) != 1:
        return None  # axis 1 runs over the channels of one group only
    return place.axis % tensor.dim()


def _groups(node: Node) -> int:
    # conv_transpose*(input, weight, bias, stride, padding, output_padding, groups, dilation)
    value = argument(node, 6)
    return 1 if value is None else int(value)


def activations(program: Program, node: Node) -> list[Node]:
    """The nodes that hand `node` its activations: everything it computes on but weights."""
    op = op_name(node)
    if op in ("aten.cat", "aten.stack"):
        return [a for a in node.args[0] if isinstance(a, Node)]  # type: ignore[union-attr]
    first: list[Any] = list(node.args[:1])
    if op in TWO_OPERANDS or (op in PRODUCTS and weighted(program, node) is None):
        first = list(node.args[:2])
    if op in ATTENTION:
        first = list(node.args[:3])
    if op == "aten.embedding":  # its table is a weight, its input are numbers
        first = []
    return [a for a in first if isinstance(a, Node)]


def is_constant(program: Program, node: Node) -> bool:
    """Whether the node is a weight, or a weight repeated, or the same whatever the inputs."""
    if _is_made(node):
        return True
    if op_name(node) == "aten.expand" and isinstance(node.args[0], Node):
        return is_constant(program, node.args[0])
    return program.tensor_of(node) is not None


def _is_made(node: Node, depth: int = 4) -> bool:
    """Whether a value is made here (zeros_like), or a few steps from such values alone."""
    if op_name(node) in CREATED:
        return True
    return depth > 0 and bool(node.all_input_nodes) and all(_is_made(a, depth - 1) for a in node.all_input_nodes)


def is_float(node: Node) -> bool:
    """Whether the node's value is one float tensor."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def is_several(node: Node) -> bool:
    """Whether the node's value is several float tensors (a split, an LSTM)."""
    value = node.meta.get("val")
    return isinstance(value, list | tuple) and all(isinstance(v, torch.Tensor) and v.is_floating_point() for v in value)


def layer_of(program: Program, node: Node) -> str:
    """Dotted name of the layer the node's first weight belongs to, or ""."""
    names = program.state_names()
    own = [names[a.name] for a in node.all_input_nodes if a.name in names]
    return own[0].rpartition(".")[0] if own else ""
