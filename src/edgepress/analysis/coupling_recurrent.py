"""Hidden units and projections of LSTM, GRU and plain recurrent layers.

The initial and final states of all layers and directions lie in one tensor, so their hidden units are cut together.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.fx import Node

from edgepress.analysis.costs import sizes
from edgepress.analysis.coupling import Rule, arguments
from edgepress.analysis.layout import Atoms, Dim, Layout, atoms_of, channels, fixed
from edgepress.analysis.trace import Trace

aten = torch.ops.aten


def lstm(trace: Trace, node: Node) -> list[Layout]:
    bound = arguments(node)
    hidden, cell = bound["hx"]
    return _recurrent(trace, node, bound, gates=4, states=[hidden, cell])


def gru(trace: Trace, node: Node) -> list[Layout]:
    bound = arguments(node)
    return _recurrent(trace, node, bound, gates=3, states=[bound["hx"]])


def plain(trace: Trace, node: Node) -> list[Layout]:
    bound = arguments(node)
    return _recurrent(trace, node, bound, gates=1, states=[bound["hx"]])


def _recurrent(trace: Trace, node: Node, bound: dict[str, Any], gates: int, states: list[Node]) -> list[Layout]:
    source = trace.settle(trace.layout(bound["input"]), 2)
    reads, made = source[2], list[Atoms]()
    directions = 2 if bound["bidirectional"] else 1
    weights = _by_cell(bound, directions, gates)
    cells: list[Atoms] = []
    outs: list[Atoms] = []
    for layer in range(bound["num_layers"]):
        made = []
        for cell in weights[layer * directions : (layer + 1) * directions]:
            units, out = _cell(trace, node, cell, reads, gates)
            cells.append(units)
            made.append(out)
        outs += made
        reads = channels(np.concatenate(made))
    for units, out in zip(cells[1:], outs[1:], strict=True):
        trace.tie(cells[0], units)
        trace.tie(outs[0], out)
    return _outputs(trace, node, source, reads, states, [outs[0], cells[0]])


def _by_cell(bound: dict[str, Any], directions: int, gates: int) -> list[list[Node]]:
    """Weights per layer and direction: input, hidden, two biases if any, projection if any."""
    count = bound["num_layers"] * directions
    per_cell = len(bound["params"]) // count
    return [bound["params"][i * per_cell : (i + 1) * per_cell] for i in range(count)]


def _cell(trace: Trace, node: Node, cell: list[Node], reads: Dim, gates: int) -> tuple[Atoms, Atoms]:
    """Hidden units and output channels (the projection's, if there is one) of one layer in one direction."""
    layouts = [trace.layout(w) for w in cell]
    size = sizes(cell[0])[0] // gates
    units = _settled_atoms(trace, layouts[0][0], size * gates).reshape(gates, size)[0]
    projection = layouts[-1] if len(sizes(cell[-1])) == 2 and len(cell) in (3, 5) else None
    for layout in layouts[: len(layouts) - (projection is not None)]:
        trace.tie(units, _settled_atoms(trace, layout[0], size * gates).reshape(gates, size))
    trace.couple(reads, layouts[0][1], (node.name, "the layer reads channels of a fixed input", "channels of a layer"))
    out = units
    if projection is not None:
        out = _settled_atoms(trace, projection[0], sizes(cell[-1])[0])
        trace.couple(channels(units), projection[1])
        # The operator tells a projection by sizes alone: there must always be more hidden units than outputs.
        trace.at_least.append((units, out.size + 1))
        trace.producers.append((out, node.name))
    trace.couple(channels(out), layouts[1][1])
    trace.producers.append((units, node.name))
    return units, out


def _settled_atoms(trace: Trace, dim: Dim, size: int) -> Atoms:
    atoms = atoms_of(dim)
    if atoms is None:
        atoms = trace.fresh(size)
        trace.freeze(atoms)
    return atoms


def _outputs(
    trace: Trace, node: Node, source: Layout, reads: Dim, states: list[Node], per_state: list[Atoms]
) -> list[Layout]:
    """Output sequence and final states; an initial state that is given from outside freezes the units."""
    note = (node.name, "its initial state has a fixed size", "a state of zeros made inside the network")
    results: list[Layout] = [(*source[:2], reads)]
    for state, atoms in zip(states, per_state, strict=False):
        layout = trace.settle(trace.layout(state), 2)
        trace.couple(layout[2], channels(atoms), note)
        results.append((fixed(sizes(state)[0]), layout[1], channels(atoms)))
    return results


RULES: Mapping[object, Rule] = {
    aten.lstm.input: lstm,
    aten.gru.input: gru,
    aten.rnn_tanh.input: plain,
    aten.rnn_relu.input: plain,
}
