"""What a network must hold in memory at once: its weights, and the activations alive at the worst moment."""

import math
from typing import NamedTuple

import torch
from torch.fx import Node

from edgepress.analysis.costs import activation_bytes, batch_size, constant_nodes, is_conversion, sizes
from edgepress.ir.program import Program


class MemoryPlan(NamedTuple):
    """Bytes for one example.

    Attributes:
        weights: all of the state. activations: alive at once at the peak, in order of execution, every buffer given
            back after its last reader; inputs count. peak_node: where that is.
    """

    weights: int
    activations: int
    peak_node: str


def memory_plan(program: Program) -> MemoryPlan:
    """What an interpreter needs that works neither in place nor in tiles; runtimes add scratch of their own.

    Give it the form that ships: batch norms folded, quantized weights stored as integers. Q and DQ are fused into their
    neighbours: what they pass on is the buffer they were given.
    """
    weights = sum(t.numel() * t.element_size() for t in program.state().values())
    live = _buffers(program)
    left = dict.fromkeys(live, 0)
    reads = {node: _read_buffers(node, live) for node in program.nodes if not is_conversion(node)}
    for buffer in (b for buffers in reads.values() for b in buffers):
        left[buffer] += 1
    inputs = program.user_inputs()
    held = peak = sum(live[node] for node in inputs)
    where = inputs[0].name
    for node, buffers in reads.items():
        held += live.get(node, 0)
        if held > peak:
            peak, where = held, node.name
        for buffer in buffers:
            left[buffer] -= 1
            held -= live[buffer] if not left[buffer] else 0
    return MemoryPlan(weights, peak, where)


def _buffers(program: Program) -> dict[Node, int]:
    """Bytes per example of every input and activation that is kept."""
    constants, batch = constant_nodes(program), batch_size(program)
    inputs = {node: _input_bytes(node) // batch for node in program.user_inputs()}
    kept = (node for node in program.nodes if node not in constants and not is_conversion(node))
    return inputs | {node: activation_bytes(node) // batch for node in kept}


def _read_buffers(node: Node, live: dict[Node, int]) -> set[Node]:
    """The buffers a node reads, seen through Q and DQ."""
    return {buffer for source in node.all_input_nodes if (buffer := _origin(source)) in live}


def _origin(node: Node) -> Node:
    while is_conversion(node):
        node = node.all_input_nodes[0]
    return node


def _input_bytes(node: Node) -> int:
    value: torch.Tensor = node.meta["val"]
    return math.prod(sizes(value)) * value.element_size()
