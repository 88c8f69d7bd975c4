"""Choosing the kernel of each operator for a core."""

from edgepress.exporters.c import dsp, portable
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import Rounding
from edgepress.exporters.c.calls import Layer

_FASTER = {
    "dsp": {g.Conv: dsp.conv, g.Dense: dsp.dense, g.Arithmetic: dsp.add},
}


def lower(graph: g.Graph, isa: str, rounding: Rounding = "double") -> list[Layer]:
    """Every operator of a graph as kernel calls, fastest kernel of the instruction set first."""
    return [_layer(graph, op, isa, rounding) for op in graph.ops]


def _layer(graph: g.Graph, op: g.Op, isa: str, rounding: Rounding) -> Layer:
    faster = _FASTER.get(isa, {}).get(type(op))
    chosen = faster(graph, op, rounding) if faster else None
    return chosen or portable.lower(graph, op)
