"""QDQ nodes of sequence models: layer normalization, LSTM, GRU, embeddings. Their float weights are quantized here."""

from collections.abc import Callable

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_moves, onnx_reader
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.graph import Array
from edgepress.exporters.c.onnx_reader import PLAIN, Model, Node

STATE_SCALE = 1 / 128  # of hidden states that nothing quantizes: they lie between -1 and 1
GATE = 2.0**12  # gate sums are Q3.12
STATE = 2.0**-15  # hidden states are Q0.15
GATES = {"lstm": 4, "gru": 3}
MAX_NORM_BITS = 14


def _layer_norm(model: Model, node: Node) -> None:
    value = onnx_reader.as_plain(model, model.value(node, 0))
    x = model.tensor(value)
    length = x.shape[-1]
    if int(node.attributes.get("axis", -1)) % len(value.shape) != len(value.shape) - 1:
        raise model.refuse(node, f"axis {node.attributes['axis']} of {value.shape}", "the last axis")
    end = onnx_reader.required_ending(model, node)
    gamma = np.resize(model.reals(node, 1), length) / end.scale
    beta = np.resize(model.reals(node, 2), length) / end.scale if len(node.inputs) > 2 else np.zeros(length)
    bits = min(MAX_NORM_BITS, 14 - int(np.ceil(np.log2(max(float(np.abs(gamma).max()), 1e-9)))))
    if bits < 0 or np.abs(beta).max(initial=0) * 2**bits >= 2 ** (31 - 1):
        raise model.refuse(node, f"factors up to {np.abs(gamma).max():.0f} steps of its output", "up to 16384 steps")
    epsilon = float(node.attributes.get("epsilon", 1e-5)) * length**2 / x.scale[0] ** 2
    y = onnx_reader.result(model, end.name, value.shape, PLAIN, end.scale, end.zero_point)
    factors = {"gamma": gamma, "beta": beta}
    names = [_constant(model, f"{y.name}:{name}", np.rint(v * 2**bits), "int32") for name, v in factors.items()]
    model.ops.append(
        g.LayerNorm(
            name=node.name or end.name,
            inputs=(x.name, *names),
            output=y.name,
            bits=bits,
            epsilon=round(min(epsilon, 2.0**55)),
        )
    )
    onnx_reader.clamp_by_table(model, node, end, y)


def _constant(model: Model, name: str, values: Array, dtype: g.DType) -> str:
    return model.add(g.Tensor(name, values.shape, dtype, data=values.astype(dtype))).name


# --- recurrent layers ---------------------------------------------------------------------------------------------


def _recurrent(kind: str) -> Callable[[Model, Node], None]:
    return lambda model, node: _directions(model, node, kind)


def _directions(model: Model, node: Node, kind: str) -> None:
    _check(model, node, kind)
    value = onnx_reader.as_plain(model, model.value(node, 0))
    steps, batch, inputs = value.shape
    if batch != 1:
        raise model.refuse(node, f"a batch of {batch}", "a batch of 1")
    x = onnx_reader.alias(model, model.tensor(value), (1, steps, inputs))
    direction = node.attributes.get("direction", b"forward").decode()
    reverses = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    end = onnx_reader.ending(model, node)
    name = end.name if end else node.outputs[0]
    scale, zero = (end.scale, end.zero_point) if end else (STATE_SCALE, 0)
    hidden = int(node.attributes["hidden_size"])
    parts = [_one_direction(model, node, kind, x, (i, back), (scale, zero)) for i, back in enumerate(reverses)]
    whole = parts[0]
    if len(parts) == 2:  # Y is [T, 2, 1, H]: side by side per step
        whole = model.add(g.Tensor(f"{name}:both", (1, steps, 2 * hidden), "int8", (scale,), zero))
        inputs_ = tuple(part.name for part in parts)
        model.ops.append(g.Concat(name=f"{node.name}:both", inputs=inputs_, output=whole.name, axis=2))
    shape = (steps, len(parts), 1, hidden)
    y = onnx_reader.result(model, name, shape, PLAIN, scale, zero)
    model.ops.append(g.Reshape(name=f"{node.name}:states", inputs=(whole.name,), output=y.name))
    if len(node.outputs) > 1 and node.outputs[1] in model.consumers:
        _last_state(model, node, parts, reverses)


def _check(model: Model, node: Node, kind: str) -> None:
    unusual = [name for name in ("activations", "clip", "input_forget", "layout") if node.attributes.get(name)]
    starts = [n for n in node.inputs[4:8] if n and (n not in model.constants or np.any(model.constants[n]))]
    late_reset = kind == "gru" and not node.attributes.get("linear_before_reset", 0)
    cell = len(node.outputs) > 2 and node.outputs[2] in (*model.consumers, *model.outputs)
    if unusual or starts or late_reset or cell:
        found = [*unusual, *starts, *["linear_before_reset 0"] * late_reset, *["its cell state is read"] * cell]
        raise model.refuse(node, ", ".join(found), f"a plain {node.kind} that starts at 0 (GRU: linear_before_reset 1)")


def _one_direction(
    model: Model, node: Node, kind: str, x: g.Tensor, way: tuple[int, bool], out: tuple[float, int]
) -> g.Tensor:
    """way: position in the node's weights, and whether it runs backwards. out: scale and zero point."""
    position, reverse = way
    weight, memory = (model.reals(node, i)[position] for i in (1, 2))
    rows, hidden = memory.shape
    bias = np.zeros(2 * rows) if len(node.inputs) < 4 or not node.inputs[3] else model.reals(node, 3)[position]
    given, kept = bias[:rows].copy(), bias[rows:].copy()
    joined = slice(0, rows if kind == "lstm" else 2 * hidden)  # GRU multiplies the last gate's own bias by the reset
    given[joined] += kept[joined]
    kept[joined] = 0
    label = f"{node.name or node.outputs[0]}:{position}"
    constants, factors = [], []
    for what, matrix, offset, step in (("input", weight, given, x.scale[0]), ("state", memory, kept, STATE)):
        scales = np.maximum(np.abs(matrix).max(axis=1) / 127, np.abs(offset) / (step * 2.0**29))
        scales = np.where(scales == 0, 1.0, scales)
        codes = np.clip(np.rint(matrix / scales[:, None]), -127, 127)
        grid = np.rint(offset / (scales * step))
        constants.append(
            (_constant(model, f"{label}:{what}", codes, "int8"), _constant(model, f"{label}:{what}:b", grid, "int32"))
        )
        factors.append(rescale_of(*(scales * step * GATE)))
    y = model.add(g.Tensor(f"{label}:y", (1, x.shape[1], hidden), "int8", (out[0],), out[1]))
    model.ops.append(
        g.Recurrent(
            name=label,
            inputs=(x.name, constants[0][0], constants[1][0], constants[0][1], constants[1][1]),
            output=y.name,
            kind="lstm" if kind == "lstm" else "gru",
            from_input=factors[0],
            from_state=factors[1],
            output_rescale=rescale_of(STATE / out[0]),
            reverse=reverse,
        )
    )
    return y


def _last_state(model: Model, node: Node, parts: list[g.Tensor], reverses: list[bool]) -> None:
    """Y_h [directions, 1, H]: the row of the last step taken."""
    name, names = node.outputs[1], []
    for part, back in zip(parts, reverses, strict=True):
        row = model.add(g.Tensor(f"{part.name}:last", (1, 1, part.shape[2]), "int8", part.scale, part.zero_point))
        start = (0, 0 if back else part.shape[1] - 1, 0)
        model.ops.append(g.Slice(name=row.name, inputs=(part.name,), output=row.name, start=start, step=(1, 1, 1)))
        names.append(row.name)
    shape = (len(parts), 1, parts[0].shape[2])
    y = onnx_reader.result(model, name, shape, PLAIN, parts[0].scale[0], parts[0].zero_point)
    model.ops.append(g.Concat(name=f"{node.name}:last", inputs=tuple(names), output=y.name, axis=0))


# --- embeddings and single rows -----------------------------------------------------------------------------------


def _gather(model: Model, node: Node) -> None:
    """Rows of a constant table by the numbers of an input; or one index of an activation."""
    numbers = model.constant(node, 1)
    if node.inputs[1] in model.inputs:
        _embedding(model, node)
    elif numbers is not None and numbers.size == 1 and node.inputs[0] in model.values:
        onnx_moves.select(model, node, int(numbers.reshape(-1)[0]), keep=numbers.ndim == 1)
    else:
        raise model.refuse(node, "computed indices", "one constant index, or numbers that are an input of the model")


def _embedding(model: Model, node: Node) -> None:
    if int(node.attributes.get("axis", 0)) != 0:
        raise model.refuse(node, f"axis {node.attributes['axis']}", "axis 0")
    name, end = node.inputs[1], onnx_reader.required_ending(model, node)
    shape = model.shapes[name]
    if not shape or 0 in shape:
        raise model.refuse(node, f"numbers of shape {shape}", "fixed sizes")
    if name not in model.tensors:
        model.add(g.Tensor(name, (1, int(np.prod(shape))), "int32"))
        model.graph_inputs[name] = name
    reals = np.clip(model.reals(node, 0), end.low, end.high)
    codes = np.clip(np.rint(reals / end.scale) + end.zero_point, -128, 127)
    table = _constant(model, f"{end.name}:table", codes, "int8")
    y = onnx_reader.result(model, end.name, (*shape, codes.shape[1]), PLAIN, end.scale, end.zero_point)
    model.ops.append(g.Embedding(name=node.name or end.name, inputs=(name, table), output=y.name))


CONVERTERS: dict[str, Callable[[Model, Node], None]] = {
    "LayerNormalization": _layer_norm,
    "LSTM": _recurrent("lstm"),
    "GRU": _recurrent("gru"),
    "Gather": _gather,
}
