"""Recurrent layers of ATen as ONNX nodes: one LSTM or GRU node per layer, with the gates in ONNX's order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.fx import Node

from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import Translation, arg, rank
from edgepress.ir.text import op_name

Array = np.ndarray[Any, Any]
# Position in torch's order of each gate of ONNX: LSTM i f g o -> i o f c, GRU r z n -> z r h.
EmitLayer = Callable[[GraphBuilder, str, list[list[Node]], list[str], list[str], str], None]
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _lstm(g: GraphBuilder, node: Node, out: str) -> None:
    """lstm(input, (h, c), weights, biases?, layers, dropout, train, both directions?, batch first?)."""
    hidden, cell = arg(node, 1)
    stack(g, node, out, "LSTM", [hidden, cell])


def _gru(g: GraphBuilder, node: Node, out: str) -> None:
    """gru(input, h, weights, biases?, layers, dropout, train, both directions?, batch first?)."""
    stack(g, node, out, "GRU", [arg(node, 1)])


def _rnn(activation: str) -> Translation:
    """As `_gru`, with one gate."""

    def emit(
        g: GraphBuilder, value: str, cells: list[list[Node]], initial: list[str], results: list[str], bias: str
    ) -> None:
        _plain(g, "RNN", value, cells, initial, results, bias, activations=[activation] * len(cells))

    return lambda g, node, out: stack(g, node, out, "RNN", [arg(node, 1)], emit)


def stack(
    g: GraphBuilder, node: Node, out: str, op: str, states: Sequence[Node], emit: EmitLayer | None = None
) -> None:
    """Layers one after another; the results are called `out_0` (sequence) and `out_1`, `out_2` (last states).

    Args:
        emit: adds the node of one layer, where it is not the plain operator.
    """
    biased, layers, both, batch_first = (bool(arg(node, 3)), int(arg(node, 4)), bool(arg(node, 7)), bool(arg(node, 8)))
    if rank(arg(node, 0)) != 3:
        raise NotTranslated(f"a {op} without a batch")
    directions, per_cell = 1 + both, 4 if biased else 2
    if len(arg(node, 2)) != layers * directions * per_cell:
        raise NotTranslated(f"a {op} with a projection")
    value = g.name(arg(node, 0))
    value = g.emit("Transpose", [value], perm=[1, 0, 2]) if batch_first else value
    last: list[list[str]] = []
    for layer in range(layers):
        here = slice(layer * directions, (layer + 1) * directions)
        cells = [list(arg(node, 2)[i * per_cell : (i + 1) * per_cell]) for i in range(here.start, here.stop)]
        initial = [_initial(g, state, here, layers) for state in states]
        value, states_after = _layer(g, op, value, cells, initial, emit)
        last.append(states_after)
    if batch_first:
        g.emit("Transpose", [value], out=f"{out}_0", perm=[1, 0, 2])
    else:
        g.emit("Identity", [value], out=f"{out}_0")
    for i, ends in enumerate(zip(*last, strict=True), 1):
        if layers > 1:
            g.emit("Concat", list(ends), out=f"{out}_{i}", axis=0)
        else:
            g.emit("Identity", list(ends), out=f"{out}_{i}")


def _initial(g: GraphBuilder, state: Node, rows: slice, layers: int) -> str:
    """The state a layer starts from; "" where that is 0, as ONNX starts by itself."""
    if starts_recurrences_at_zero(state):
        return ""
    return _rows(g, g.name(state), rows) if layers > 1 else g.name(state)


def starts_recurrences_at_zero(node: Node) -> bool:
    """Whether a node is nothing but zeros that recurrent layers start from: it need not be written."""
    return op_name(node) == "aten.zeros" and all(op_name(user) in RECURRENT for user in node.users)


def _rows(g: GraphBuilder, state: str, rows: slice) -> str:
    return g.emit("Slice", [state, *(g.integers([v]) for v in (rows.start, rows.stop, 0))])


def _layer(
    g: GraphBuilder, op: str, value: str, cells: list[list[Node]], initial: list[str], emit: EmitLayer | None
) -> tuple[str, list[str]]:
    """One node; (sequence of both directions side by side, last states)."""
    order, biased = GATES[op], len(cells[0]) > 2
    arrays = [[gates(_array(g, tensor), order) for tensor in cell[2:]] for cell in cells]
    bias = g.constant(np.stack([np.concatenate(pair) for pair in arrays]), "b") if biased else ""
    results = [g.fresh("t") for _ in range(1 + len(initial))]
    if emit is None:
        _plain(g, op, value, cells, initial, results, bias)
    else:
        emit(g, value, cells, initial, results, bias)
    sequence, *ends = results
    if len(cells) == 1:
        return g.emit("Squeeze", [sequence, g.integers([1])]), ends
    hidden = int(_array(g, cells[0][1]).shape[1])
    side_by_side = g.emit("Transpose", [sequence], perm=[0, 2, 1, 3])
    return g.emit("Reshape", [side_by_side, g.integers([0, 0, 2 * hidden])]), ends


def _plain(
    g: GraphBuilder, op: str, value: str, cells: list[list[Node]], initial: list[str], results: list[str], bias: str,
    **more: Any,
) -> None:  # fmt: skip
    order = GATES[op]
    stored = [g.constant(np.stack([gates(_array(g, cell[i]), order) for cell in cells]), "w") for i in (0, 1)]
    g.emit(op, [value, *stored, bias, "", *initial], out=results, hidden_size=int(_array(g, cells[0][1]).shape[1]),
           direction="bidirectional" if len(cells) == 2 else "forward",
           linear_before_reset=1 if op == "GRU" else None, **more)  # fmt: skip


def _array(g: GraphBuilder, value: Node) -> Array:
    tensor = g.tensor(value)
    if tensor is None:
        raise NotTranslated("recurrent weights that are computed")
    return to_numpy(tensor)


def gates(tensor: Array, order: Sequence[int]) -> Array:
    """Rows of gates in another order."""
    blocks = np.split(tensor, len(order))
    return np.concatenate([blocks[i] for i in order])


RECURRENT: Mapping[str, Translation] = {
    "aten.lstm.input": _lstm, "aten.gru.input": _gru, "aten.rnn_tanh.input": _rnn("Tanh"),
    "aten.rnn_relu.input": _rnn("Relu"),
}  # fmt: skip
"""ATen operator -> translation."""
