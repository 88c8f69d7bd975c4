"""Functions of one value, whatever operators they are made of: where a target follows them as a whole.

Between `s` and `s / (1 + s) / sqrt(s)` nothing needs to be rounded if the target turns the whole into one table.
Rounding each step instead would ask for quotients of rounded zeros.
"""

from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.text import op_name

UNARY = {
    f"aten.{name}" for name in ("abs", "clamp", "erf", "exp", "log", "neg", "reciprocal", "sigmoid", "sqrt", "tanh")
}
BINARY = {f"aten.{name}" for name in ("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "pow.Tensor_Scalar")}
SUMS = {"aten.sum.dim_IntList", "aten.sum"}


def inside(program: Program) -> set[Node]:
    """Values that are only steps of a function: sums and functions of one value that only functions of it read."""
    bases: dict[Node, Node] = {}
    for node in program.nodes:
        bases[node] = _base(program, node, bases)
    return {
        node
        for node, base in bases.items()
        if (base is not node or op_name(node) in SUMS) and node.users and all(bases.get(u) is base for u in node.users)
    }


def _base(program: Program, node: Node, bases: dict[Node, Node]) -> Node:
    """The value that `node` is a function of, element by element: `node` itself if it is none of one value alone."""
    if op_name(node) not in UNARY | BINARY or node.kwargs.get("alpha", 1) != 1:
        return node
    weights = [a for a in node.all_input_nodes if program.tensor_of(a) is not None]
    found = {bases.get(a, a) for a in node.all_input_nodes if a not in weights}
    single = all(a.meta["val"].numel() == 1 for a in weights)
    return found.pop() if single and len(found) == 1 else node
