"""Reference rules of attention, recurrent layers, layer normalization and embeddings."""

import numpy as np

from edgepress.exporters.c import arithmetic
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import SIGMOID, TANH, Ints, Rounding

Values = dict[str, Ints]
STATE = "state of "  # key of a recurrent layer's last hidden (and cell) state among the values: int64 [2, hidden]


def layer_norm(graph: g.Graph, op: g.LayerNorm, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]]
    gamma, beta = (graph.constant(name).astype(np.int64) for name in op.inputs[1:])
    rows = np.stack([arithmetic.normalized(row, op.epsilon) for row in x.reshape(-1, x.shape[-1])])
    shift = arithmetic.NORM_BITS + op.bits
    total = rows * gamma + (beta << arithmetic.NORM_BITS) + (1 << (shift - 1))
    y = (total >> shift) + graph.tensor(op.output).zero_point
    return np.clip(y, *g.FULL_RANGE).reshape(x.shape)


def attention(graph: g.Graph, op: g.Attention, values: Values, rounding: Rounding) -> Ints:
    q, k, v = (_flat(values[name]) - graph.tensor(name).zero_point for name in op.inputs)
    out = graph.tensor(op.output)
    result = np.empty((len(q), q.shape[1], v.shape[2]), np.int64)
    for batch in range(len(q)):
        scores = q[batch] @ k[batch].T
        for i, row in enumerate(scores):
            seen = min(i + 1, len(row)) if op.causal else len(row)
            parts = arithmetic.probabilities(row[:seen], op.multiplier, op.left_shift, op.diff_min, bits=15)
            result[batch, i] = parts @ v[batch][:seen]
    y = arithmetic.rescale(result, op.rescale, rounding) + out.zero_point
    return np.clip(y, *g.FULL_RANGE).reshape(out.shape)


def _flat(x: Ints) -> Ints:
    return x.reshape(-1, *x.shape[-2:])


def recurrent(graph: g.Graph, op: g.Recurrent, values: Values, rounding: Rounding) -> Ints:
    x = values[op.inputs[0]][0] - graph.tensor(op.inputs[0]).zero_point
    weight, memory, bias, memory_bias = (graph.constant(name).astype(np.int64) for name in op.inputs[1:])
    out, hidden = graph.tensor(op.output), memory.shape[1]
    state, cell = values.get(STATE + op.name, np.zeros((2, hidden), np.int64))
    states = np.zeros((len(x), hidden), np.int64)
    for step in range(len(x))[::-1] if op.reverse else range(len(x)):
        given = arithmetic.rescale(weight @ x[step] + bias, op.from_input, rounding).reshape(-1, hidden)
        kept = arithmetic.rescale(memory @ state + memory_bias, op.from_state, rounding).reshape(-1, hidden)
        if op.kind == "lstm":
            state, cell = _lstm(given + kept, cell)
        else:
            state = _gru(given, kept, state)
        states[step] = state
    values[STATE + op.name] = np.stack([state, cell])
    y = arithmetic.rescale(states, op.output_rescale, rounding) + out.zero_point
    return np.clip(y, *g.FULL_RANGE).reshape(out.shape)


def _lstm(sums: Ints, cell: Ints) -> tuple[Ints, Ints]:
    """(hidden state, cell state) after one step; sums [4, H] in Q3.12."""
    let_in, let_out, keep = (arithmetic.gate(row, SIGMOID) for row in sums[:3])
    cell = arithmetic.product15(keep, cell) + arithmetic.product15(let_in, arithmetic.gate(sums[3], TANH))
    return arithmetic.product15(let_out, arithmetic.gate((cell + 4) >> 3, TANH)), cell


def _gru(given: Ints, kept: Ints, state: Ints) -> Ints:
    """Hidden state after one step; given, kept [3, H] in Q3.12."""
    update, reset = (arithmetic.gate(given[i] + kept[i], SIGMOID) for i in (0, 1))
    new = arithmetic.gate(given[2] + arithmetic.product15(reset, np.clip(kept[2], -32768, 32767)), TANH)
    return new + arithmetic.product15(update, state - new)


def embedding(graph: g.Graph, op: g.Embedding, values: Values, rounding: Rounding) -> Ints:
    table = graph.constant(op.inputs[1]).astype(np.int64)
    return table[np.clip(values[op.inputs[0]], 0, len(table) - 1)]
