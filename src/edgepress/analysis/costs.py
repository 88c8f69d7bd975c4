"""Static cost of each node: parameters, multiply-accumulates, bytes of activations. Counts are per example (batch 1).

MACs are counted for the operators that multiply (convolution, linear, matrix products, attention, recurrent layers);
everything else counts 0. They are not time: see `measure.latency`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.text import op_name

aten = torch.ops.aten


@dataclass(frozen=True)
class NodeCost:
    """Cost of one node per example.

    Attributes:
        node: node name. layer: dotted name of the layer its weights belong to, or the node name. op: operator.
        params: elements of its parameters, also of those that reach it through Q/DQ (a tensor shared with an earlier
            node counts there only).
        macs: multiply-accumulates. activation_bytes: bytes of its output(s). shape: output shape, "?" for free sizes.
    """

    node: str
    layer: str
    op: str
    params: int
    macs: int
    activation_bytes: int
    shape: tuple[int | str, ...]


def node_costs(program: Program) -> list[NodeCost]:
    """The cost of every operator node, in order of execution."""
    names, state, seen = program.state_names(), program.state(), set[str]()
    batch, constant = batch_size(program), constant_nodes(program)
    costs = []
    for node in program.nodes:
        weights = [] if node in constant else [names[a.name] for a in _sources(node, constant) if a.name in names]
        fresh = [w for w in weights if w not in seen and isinstance(state[w], torch.nn.Parameter)]
        seen.update(fresh)
        costs.append(
            NodeCost(
                node=node.name,
                layer=weights[0].rpartition(".")[0] if weights and "." in weights[0] else node.name,
                op=op_name(node),
                params=sum(state[w].numel() for w in fresh),
                macs=macs(node) // batch,
                activation_bytes=0 if node in constant else activation_bytes(node) // batch,
                shape=_shape(node.meta.get("val")),
            )
        )
    return costs


def _sources(node: Node, constant: set[Node]) -> Iterator[Node]:
    """The node's inputs, each weight that is quantized on its way in place of what arrives."""
    for source in node.all_input_nodes:
        if source in constant:
            yield from _sources(source, constant)
        else:
            yield source


def total_macs(program: Program) -> int:
    """Multiply-accumulates of one example."""
    return sum(macs(node) for node in program.nodes) // batch_size(program)


def parameter_bytes(program: Program) -> int:
    """Bytes of all parameters in their present dtype."""
    state = program.state()
    return sum(state[n].numel() * state[n].element_size() for n in program.parameter_names())


def batch_size(program: Program) -> int:
    """The batch of the example inputs if it is free, else 1: what MACs of the graph are divided by."""
    return int(program.example_inputs[0].shape[0]) if program.dynamic_batch() else 1


def macs(node: Node) -> int:
    """Multiply-accumulates of one node for the example batch."""
    rule = RULES.get(node.target)
    return 0 if rule is None else rule(node)


def sizes(value: Any) -> tuple[int, ...]:
    """Shape of a (fake) tensor or node with free sizes replaced by those of the example inputs."""
    tensor = value.meta["val"] if isinstance(value, Node) else value
    return tuple(_hint(s) for s in tensor.shape)


def _hint(size: Any) -> int:
    return int(size) if isinstance(size, int) else int(size.node.hint)


def _shape(value: object) -> tuple[int | str, ...]:
    if isinstance(value, list | tuple) and value:
        value = value[0]
    return tuple(s if isinstance(s, int) else "?" for s in getattr(value, "shape", ()))


def constant_nodes(program: Program) -> set[Node]:
    """Nodes that depend on weights alone (a quantized weight on its way): no activation, computed once or folded."""
    inputs = set(program.user_inputs())
    live: set[Node] = set(inputs)
    for node in program.nodes:
        if any(source in live for source in node.all_input_nodes):
            live.add(node)
    return {node for node in program.nodes if node not in live}


def activation_bytes(node: Node) -> int:
    """Bytes of a node's output for the example batch, as a runtime that fused Q/DQ keeps it.

    Where every reader quantizes the output, it is kept as integers only; Q and DQ themselves keep nothing.
    """
    if is_conversion(node):
        return 0
    total = _output_bytes(node.meta.get("val"))
    if node.users and all(is_conversion(user) for user in node.users):
        stored = next(iter(node.users)).meta["val"]
        return _output_bytes(stored) if isinstance(stored, torch.Tensor) else total
    return total


def is_conversion(node: Node) -> bool:
    """Whether a node quantizes or dequantizes."""
    return "quantized_decomposed" in str(node.target)


def _output_bytes(value: object) -> int:
    if isinstance(value, list | tuple):
        return sum(_output_bytes(v) for v in value)
    if not isinstance(value, torch.Tensor):
        return 0
    return math.prod(sizes(value)) * value.element_size()


# -- one rule per operator: every output element costs its reduction length ----------------------------------------


def _convolution(node: Node) -> int:
    weight = sizes(node.args[1])  # (out, in / groups, *kernel)
    return math.prod(sizes(node)) * math.prod(weight[1:])


def _transposed(node: Node) -> int:
    weight = sizes(node.args[1])  # (in, out / groups, *kernel): every *input* element meets it once
    return math.prod(sizes(node.args[0])) * math.prod(weight[1:])


def _linear(node: Node) -> int:
    return math.prod(sizes(node)) * sizes(node.args[1])[-1]


def _matmul(node: Node) -> int:
    return math.prod(sizes(node)) * sizes(node.args[0])[-1]


def _addmm(node: Node) -> int:
    return math.prod(sizes(node)) * sizes(node.args[1])[-1]


def _attention(node: Node) -> int:
    query, key, value = (sizes(a) for a in node.args[:3])  # (..., L, E), (..., S, E), (..., S, Ev)
    rows = math.prod(query[:-1])
    return rows * key[-2] * (query[-1] + value[-1])


def _recurrent(node: Node) -> int:
    weights: Any = node.args[2]  # per layer and direction: (gates * hidden, input), (gates * hidden, hidden), biases
    source = sizes(node.args[0])
    steps = source[0] * source[1]
    return steps * sum(math.prod(sizes(w)) for w in weights if len(sizes(w)) == 2)


RULES: Mapping[object, Callable[[Node], int]] = {
    aten.conv1d.default: _convolution,
    aten.conv2d.default: _convolution,
    aten.conv3d.default: _convolution,
    aten.conv1d.padding: _convolution,
    aten.conv2d.padding: _convolution,
    aten.conv3d.padding: _convolution,
    aten.conv_transpose1d.default: _transposed,
    aten.conv_transpose2d.input: _transposed,
    aten.conv_transpose3d.input: _transposed,
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.scaled_dot_product_attention.default: _attention,
    aten.lstm.input: _recurrent,
    aten.gru.input: _recurrent,
    aten.rnn_tanh.input: _recurrent,
    aten.rnn_relu.input: _recurrent,
}
