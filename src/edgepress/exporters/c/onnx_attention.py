"""Attention written out in ONNX: Mul, MatMul with a transposed key, a mask, Softmax, MatMul become one operator."""

from dataclasses import dataclass

import numpy as np

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import onnx_reader
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.graph import Array
from edgepress.exporters.c.onnx_reader import PLAIN, Model, Node
from edgepress.exporters.c.tflite import softmax_factors

HIDDEN = -1e3  # a mask value from here down shuts a position out


@dataclass
class _Found:
    """The parts of an attention: names of query and key, the node of the last product, what is in between."""

    query: str
    key: str
    last: Node
    passed: list[Node]
    factor: float
    mask: Array | None


def take(model: Model, node: Node) -> bool:
    """Convert the attention that starts with `node` (Mul or MatMul); False if none does."""
    found = _match(model, node)
    if found is None:
        return False
    _emit(model, node, found)
    return True


def _match(model: Model, node: Node) -> _Found | None:
    factor, passed, current = 1.0, [], node
    if node.kind == "Mul":
        number = model.constant(node, 1)
        following = _only(model, node)
        if number is None or number.size != 1 or following is None or following.inputs[0] != node.outputs[0]:
            return None
        factor, current = float(number.reshape(-1)[0]), following
        passed.append(current)
    if current.kind != "MatMul" or node.inputs[0] not in model.values:
        return None
    turned = model.maker(current.inputs[1])
    if turned is None or turned.kind != "Transpose" or turned.inputs[0] not in model.values or not _swaps_last(turned):
        return None
    tail = _to_last_product(model, current)
    if tail is None:
        return None
    return _Found(node.inputs[0], turned.inputs[0], tail.last, [*passed, turned, *tail.passed], factor * tail.factor,
                  tail.mask)  # fmt: skip


def _to_last_product(model: Model, product: Node) -> _Found | None:
    """From the scores over scalings, a mask and the softmax to the second product."""
    factor, mask, passed, current = 1.0, None, list[Node](), _only(model, product)
    while current is not None and current.kind in ("Mul", "Div", "Add"):
        number = model.constant(current, 1)
        if number is None or (current.kind != "Add" and number.size != 1):
            return None
        if current.kind == "Add":
            mask = number
        else:
            value = float(number.reshape(-1)[0])
            factor *= value if current.kind == "Mul" else 1 / value
        passed.append(current)
        current = _only(model, current)
    if current is None or current.kind != "Softmax":
        return None
    last = _only(model, current)
    if last is None or last.kind != "MatMul" or last.inputs[0] != current.outputs[0]:
        return None
    return _Found("", "", last, [*passed, current, last], factor, mask)


def _only(model: Model, node: Node) -> Node | None:
    users = model.consumers.get(node.outputs[0], [])
    return users[0] if len(users) == 1 and node.outputs[0] not in model.outputs else None


def _swaps_last(node: Node) -> bool:
    perm = [int(p) for p in node.attributes.get("perm", ())]
    rank = len(perm)
    return perm == [*range(rank - 2), rank - 1, rank - 2]


def _causal(model: Model, node: Node, mask: Array | None) -> bool:
    """Whether a mask lets every position see itself and what is before it. Refuses other masks."""
    if mask is None or not np.any(mask):
        return False
    flat = mask.reshape(-1, *mask.shape[-2:])
    rows, columns = flat.shape[1:]
    open_ = np.tril(np.ones((rows, columns), bool))
    if len(flat) == 1 and (flat[0][open_] == 0).all() and (flat[0][~open_] <= HIDDEN).all():
        return True
    raise model.refuse(node, "a mask that is not causal", "no mask, or one that hides what comes later")


def _emit(model: Model, node: Node, found: _Found) -> None:
    names = (found.query, found.key, found.last.inputs[1])
    if names[2] not in model.values:
        raise model.refuse(found.last, f"input {names[2]} is not quantized", "DequantizeLinear before it")
    values = [onnx_reader.as_plain(model, model.values[name]) for name in names]
    q, k, v = (model.tensor(value) for value in values)
    if len({value.shape[:-2] for value in values}) != 1:
        raise model.refuse(node, f"{[value.shape for value in values]}", "equal leading axes")
    causal = _causal(model, node, found.mask)
    end = onnx_reader.required_ending(model, found.last)
    y = onnx_reader.result(model, end.name, (*values[0].shape[:-1], values[2].shape[-1]), PLAIN, end.scale,
                           end.zero_point)  # fmt: skip
    model.done |= {id(passed) for passed in found.passed}
    model.ops.append(
        g.Attention(
            name=found.last.name or end.name,
            inputs=(q.name, k.name, v.name),
            output=y.name,
            rescale=rescale_of(v.scale[0] / end.scale / 2**15),
            causal=causal,
            **softmax_factors(q.scale[0] * k.scale[0] * found.factor),
        )
    )
