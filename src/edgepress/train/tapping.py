"""Call a module's graph so that outputs are plain, and so that chosen nodes can be looked at."""

from collections.abc import Sequence
from typing import Any

from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree

from edgepress.errors import UserError


def plain(outputs: Any) -> Any:
    """Outputs of any structure as one tensor, or a tuple of tensors where there are several."""
    leaves = pytree.tree_leaves(outputs)
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def tapped(module: GraphModule, names: Sequence[str]) -> GraphModule:
    """A module that shares the weights of `module` and returns (flat outputs, {name: value of that node}).

    Raises:
        UserError: no node of that name.
    """
    copied: dict[Node, Node] = {}
    graph = Graph()  # its own plain code generator: inputs are positional, outputs are returned as they are
    outputs = graph.graph_copy(module.graph, copied)
    by_name = {old.name: new for old, new in copied.items()}
    missing = [name for name in names if name not in by_name]
    if missing:
        alike = [n for n in by_name if n.startswith(missing[0].split("_")[0])]
        raise UserError(f"no node {missing[0]} to tap", found=", ".join(alike[:8]) or "nothing alike",
                        expected="the name of a node", fix="`edgepress inspect` lists the nodes")  # fmt: skip
    graph.output((outputs, {name: by_name[name] for name in names}))
    return GraphModule(module, graph)
