"""Lowering attention, recurrent layers, layer normalization and embeddings to their portable kernels."""

from dataclasses import replace

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import arithmetic, portable_parts
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.calls import Call, Constant, Field, In, Layer, Out, Overlap, Ref, Scratch

LARGEST_ROW = 4096  # of a layer normalization or an attention: sums stay in 32 bits
LARGEST_STATE = 512  # 32767 * 127 * 512 < 2**31


def exp_fields(op: g.Softmax | g.Attention) -> dict[str, Field]:
    """The `ep_exp` inside a struct."""
    return {"exp.multiplier": op.multiplier, "exp.left_shift": op.left_shift, "exp.diff_min": op.diff_min}


def layer_norm(graph: g.Graph, op: g.LayerNorm) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    length = x.shape[-1]
    _check_at_most(op, "row", length, LARGEST_ROW)
    constants = (
        Constant("gamma", "int16_t", graph.constant(op.inputs[1])),
        Constant("beta", "int32_t", graph.constant(op.inputs[2])),
    )
    fields: dict[str, Field] = {"gamma": Ref("gamma"), "beta": Ref("beta"), "epsilon": op.epsilon}
    fields |= {"rows": x.size // length, "length": length, "bits": op.bits, "out_zero": y.zero_point}
    call = Call("ep_layer_norm_ref", "ep_layer_norm.h", (In(x.name), Out(y.name)), "ep_layer_norm", fields)
    return Layer(op, (call,), constants, overlaps={x.name: Overlap(0)}, kernel="layer norm")


def attention(graph: g.Graph, op: g.Attention) -> Layer:
    q, k, v, y = (graph.tensor(name) for name in (*op.inputs, op.output))
    rows, depth, columns, width = *q.shape[-2:], k.shape[-2], v.shape[-1]
    _check_at_most(op, "row of scores", columns, LARGEST_ROW)
    fields: dict[str, Field] = {"batch": q.size // (rows * depth), "rows": rows, "columns": columns, "depth": depth}
    fields |= {"width": width, "causal": int(op.causal), "q_zero": q.zero_point}
    fields |= {"v_zero": v.zero_point, "out_zero": y.zero_point, **portable_parts.single(op.rescale), **exp_fields(op)}
    arguments = (In(q.name), In(k.name), In(v.name), Out(y.name), Scratch("int32_t"))
    call = Call("ep_attention_ref", "ep_attention.h", arguments, "ep_attention", fields)
    # A row of q is read before its output is written, and neither runs ahead of the other.
    overlaps = {q.name: Overlap(0)} if depth == width and q.name not in op.inputs[1:] else {}
    return Layer(op, (call,), scratch=4 * columns, overlaps=overlaps, kernel="attention by rows")


def recurrent(graph: g.Graph, op: g.Recurrent) -> Layer:
    x, y = graph.tensor(op.inputs[0]), graph.tensor(op.output)
    hidden = graph.tensor(op.inputs[2]).shape[1]
    _check_at_most(op, "hidden state", hidden, LARGEST_STATE)
    gates = ("weight", "bias", "multiplier", "shift"), ("recurrent", "recurrent_bias", "recurrent_multiplier",
                                                        "recurrent_shift")  # fmt: skip
    given = _gate_constants(graph, op, gates[0], (1, 3), op.from_input, x.zero_point)
    kept = _gate_constants(graph, op, gates[1], (2, 4), op.from_state, 0)
    tables = tuple(
        Constant(name, "int16_t", np.asarray(table))
        for name, table in (("sigmoid", arithmetic.SIGMOID), ("tanh", arithmetic.TANH))
    )
    constants = (*given, *kept, *tables)
    fields: dict[str, Field] = {constant.name: Ref(constant.name) for constant in constants}
    fields |= {"steps": x.shape[1], "inputs": x.shape[2], "hidden": hidden, "reverse": int(op.reverse)}
    out = portable_parts.single(op.output_rescale)
    fields |= {"multiplier_out": out["multiplier"], "shift_out": out["shift"], "out_zero": y.zero_point}
    arguments = (In(x.name), Out(y.name), Scratch("int32_t"))
    call = Call(f"ep_{op.kind}_ref", "ep_recurrent.h", arguments, "ep_recurrent", fields)
    states = {"lstm": 8, "gru": 4}[op.kind] * hidden
    return Layer(op, (call,), constants, scratch=states, kernel=op.kind)


def keeping_state(layers: list[Layer]) -> list[Layer]:
    """The layers of a model whose recurrent layers go on from run to run. Refuses what has no such layer, or one that
    starts at the end of its input."""
    cells = [layer.op for layer in layers if isinstance(layer.op, g.Recurrent)]
    if not cells:
        raise UserError("there is no state to keep", found="no recurrent layer", expected="an LSTM or a GRU")
    for cell in cells:
        if cell.reverse:
            raise UserError(
                f"{cell.name}: its state cannot be kept from run to run",
                found="a layer that reads its input backwards",
                expected="layers that read forwards",
                fix="run the whole sequence at once",
            )
    return [
        replace(layer, kept=True, defines=(*layer.defines, "EP_KEEP_STATE 1")) if layer.op in cells else layer
        for layer in layers
    ]


def _gate_constants(
    graph: g.Graph, op: g.Recurrent, names: tuple[str, ...], positions: tuple[int, int], factor: g.Rescale, zero: int
) -> tuple[Constant, ...]:
    """Weights, bias (with what the zero point contributes), multiplier and shift of all gate rows."""
    weight = graph.constant(op.inputs[positions[0]])
    largest = 128 if positions[0] == 1 else 2**15
    bias = portable_parts.folded(op.name, weight, graph.constant(op.inputs[positions[1]]), zero, largest)
    multiplier, shift = portable_parts.spread(factor, len(bias))
    kinds = ("int8_t", "int32_t", "int32_t", "int8_t")
    values = (weight, bias, multiplier, shift)
    return tuple(Constant(n, kind, v) for n, kind, v in zip(names, kinds, values, strict=True))


def embedding(graph: g.Graph, op: g.Embedding) -> Layer:
    numbers, table = (graph.tensor(name) for name in op.inputs)
    rows, width = table.shape
    arguments = (Ref("table"), In(numbers.name), Out(op.output), numbers.size, rows, width)
    constants = (Constant("table", "int8_t", graph.constant(table.name)),)
    return Layer(op, (Call("ep_embedding", "ep_embedding.h", arguments),), constants, kernel="embedding")


def _check_at_most(op: g.Op, what: str, found: int, limit: int) -> None:
    if found > limit:
        raise UserError(f"{op.name}: {what} too long for 32-bit sums", found=str(found), expected=f"at most {limit}")
