"""LSTM and GRU as single ONNX nodes, one per layer: runtimes have kernels for them.

torch orders the gates input, forget, cell, output (LSTM) and reset, update, new (GRU); ONNX input, output, forget, cell
and update, reset, hidden.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.fx import Node

from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, to_numpy
from edgepress.ir.text import op_name

ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
OUTPUTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h")}


def lstm(g: GraphBuilder, node: Node, out: str) -> None:
    """torch's `lstm(input, (h, c), weights, has_biases, layers, dropout, train, bidirectional, batch_first)`."""
    starts: Any = node.args[1]
    _layers(g, node, out, "LSTM", list(starts))


def gru(g: GraphBuilder, node: Node, out: str) -> None:
    """torch's `gru(input, h, weights, ...)`: the reset gate acts on the product with the hidden state."""
    _layers(g, node, out, "GRU", [node.args[1]])


def zeros(g: GraphBuilder, node: Node, out: str) -> None:
    """Initial states: where only recurrent layers read them they are left out, as ONNX starts at 0 by itself."""
    if any(op_name(user) not in ("aten.lstm.input", "aten.gru.input") for user in node.users):
        raise NotTranslated("aten.zeros")
    del g.names[node]


def _layers(g: GraphBuilder, node: Node, out: str, kind: str, starts: Sequence[Any]) -> None:
    arguments: list[Any] = list(node.args)
    source, weights, layers, batch_first = arguments[0], list(arguments[2]), int(arguments[4]), bool(arguments[8])
    directions, per = 1 + bool(arguments[7]), 2 + 2 * bool(arguments[3])
    if len(weights) != layers * directions * per:
        raise NotTranslated("recurrent layers with a projection")
    if any(op_name(start) != "aten.zeros" for start in starts):
        raise NotTranslated("recurrent layers with initial states")
    name = g.name(source)
    name = g.emit("Transpose", [name], perm=[1, 0, 2]) if batch_first else name
    last: list[list[str]] = []
    for layer in range(layers):
        own = weights[layer * directions * per : (layer + 1) * directions * per]
        held = [own[d * per : (d + 1) * per] for d in range(directions)]
        ends = [f"{out}_layer{layer}_{what}" for what in OUTPUTS[kind]]
        g.emit(kind, [name, *_operands(g, held, kind)], out=ends, hidden_size=_hidden(g, held[0][1]),
               direction="bidirectional" if directions == 2 else None,
               linear_before_reset=1 if kind == "GRU" else None)  # fmt: skip
        last.append(ends[1:])
        name = _side_by_side(g, ends[0], directions)
    if batch_first:
        g.emit("Transpose", [name], out=f"{out}_0", perm=[1, 0, 2])
    else:
        g.emit("Identity", [name], out=f"{out}_0")
    for i, states in enumerate(zip(*last, strict=True)):
        g.emit("Concat", list(states), out=f"{out}_{i + 1}", axis=0)


def _hidden(g: GraphBuilder, weight: Any) -> int:
    return int(weight.meta["val"].shape[1])


def _operands(g: GraphBuilder, directions: Sequence[Sequence[Any]], kind: str) -> list[str]:
    """W [D, gates H, I], R [D, gates H, H], B [D, 2 gates H], gates in the order of ONNX."""
    stacked = [np.stack([_reordered(g, own[i], kind) for own in directions]) for i in range(len(directions[0]))]
    names = [g.constant(stacked[0], "W"), g.constant(stacked[1], "R")]
    return names + ([g.constant(np.concatenate(stacked[2:], axis=1), "B")] if len(stacked) == 4 else [])


def _reordered(g: GraphBuilder, weight: Any, kind: str) -> np.ndarray[Any, Any]:
    tensor = g.tensor(weight)
    if tensor is None:
        raise NotTranslated("recurrent weights that are computed")
    parts = np.split(to_numpy(tensor), len(ORDER[kind]))
    return np.concatenate([parts[i] for i in ORDER[kind]])


def _side_by_side(g: GraphBuilder, states: str, directions: int) -> str:
    """[T, D, N, H] -> [T, N, D H]."""
    if directions == 1:
        return g.emit("Squeeze", [states, g.integers([1])])
    return g.emit("Reshape", [g.emit("Transpose", [states], perm=[0, 2, 1, 3]), g.integers([0, 0, -1])])
