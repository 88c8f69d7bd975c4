"""Choosing the kernel of each operator for a core."""

from collections.abc import Callable

from edgepress.exporters.c import dsp, mve, portable, rvv, scalar, thumb2
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Layer

_FASTER: dict[str, dict[type[g.Op], Callable[..., Layer | None]]] = {
    "scalar": {g.Conv: scalar.conv, g.Dense: scalar.dense},
    "narrow": {g.Conv: scalar.conv_narrow, g.Dense: scalar.dense},
    "rvv": {g.Conv: rvv.conv, g.Dense: rvv.dense, g.Arithmetic: rvv.add},
    "thumb2": {g.Conv: thumb2.conv, g.Dense: scalar.dense},
    "mve": {g.Conv: mve.conv, g.Dense: mve.dense, g.Arithmetic: mve.add},
    "dsp": {g.Conv: dsp.conv, g.Dense: dsp.dense, g.Arithmetic: dsp.add},
}


def lower(graph: g.Graph, isa: str, rounding: Rounding = "double", *, four_bit: bool = False) -> list[Layer]:
    """Every operator of a graph as kernel calls, fastest kernel of the instruction set first.

    four_bit: layers whose weights are all in -8..7 keep two of them in a byte.
    """
    return [_layer(graph, op, isa, rounding, four_bit) for op in graph.ops]


def _layer(graph: g.Graph, op: g.Op, isa: str, rounding: Rounding, four_bit: bool) -> Layer:
    small = _four_bit(graph, op, isa, rounding) if four_bit else None
    if small is not None:
        return small
    faster = _FASTER.get(isa, {}).get(type(op))
    chosen = faster(graph, op, rounding) if faster else None
    return chosen or portable.lower(graph, op)


def _four_bit(graph: g.Graph, op: g.Op, isa: str, rounding: Rounding) -> Layer | None:
    """The layer with two weights in a byte, None if its weights need more bits."""
    layer = scalar.packed(graph, op, isa, rounding)
    if layer is None or isa != "dsp":
        return layer
    if isinstance(op, g.Conv):
        return dsp.conv_four_bit(graph, op, rounding) or layer
    return (dsp.dense_four_bit(graph, op, rounding) if isinstance(op, g.Dense) else None) or layer
