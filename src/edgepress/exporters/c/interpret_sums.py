"""Reference rules of sums of products over any axes, and of quotients."""

import numpy as np

from edgepress.exporters.c import arithmetic
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Ints, Rounding

Values = dict[str, Ints]


def contract(graph: g.Graph, op: g.Contract, values: Values, rounding: Rounding) -> Ints:
    walked = [_walked(graph, op.loops, values, name, i) for i, name in enumerate(op.inputs)]
    products = walked[0] * walked[1] if len(walked) > 1 else walked[0]
    total = products.sum(axis=tuple(range(products.ndim - op.loops.summed, products.ndim)))
    y = graph.tensor(op.output)
    if op.staircase is not None:
        return stairs(op.staircase, total).reshape(y.shape)
    return np.clip(arithmetic.rescale(total, op.rescale, rounding) + y.zero_point, *op.clamp).reshape(y.shape)


def divide(graph: g.Graph, op: g.Divide, values: Values, rounding: Rounding) -> Ints:
    a, b = (_walked(graph, op.loops, values, name, i) for i, name in enumerate(op.inputs))
    y = graph.tensor(op.output)
    scaled = arithmetic.rescale(arithmetic.quotient(a, b), op.rescale, rounding)
    return np.clip(scaled + y.zero_point, *op.clamp).reshape(y.shape)


def stairs(staircase: g.Staircase, x: Ints) -> Ints:
    """The value of the last step that does not start behind x."""
    place = np.searchsorted(np.asarray(staircase.starts, np.int64), x, side="right") - 1
    return np.asarray(staircase.values, np.int64)[place]


def _walked(graph: g.Graph, loops: g.Loops, values: Values, name: str, position: int) -> Ints:
    """An operand less its zero point, one axis per loop."""
    tensor = graph.tensor(name)
    raw = values[name] if tensor.data is None else tensor.data.astype(np.int64)
    flat = np.ascontiguousarray(raw.reshape(-1) - tensor.zero_point)
    steps = (loops.a_steps, loops.b_steps)[position]
    return np.lib.stride_tricks.as_strided(flat, loops.counts, [step * flat.itemsize for step in steps])
