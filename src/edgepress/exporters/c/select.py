"""Choosing the kernel of each operator for a core."""

from edgepress.exporters.c import graph as g
from edgepress.exporters.c import portable
from edgepress.exporters.c.calls import Layer


def lower(graph: g.Graph, isa: str) -> list[Layer]:
    """Every operator of a graph as kernel calls, fastest kernel of the instruction set first."""
    return [portable.lower(graph, op) for op in graph.ops]
