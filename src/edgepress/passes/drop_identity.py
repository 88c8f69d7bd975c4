"""Remove nodes that change nothing at inference: dropout, whole-range slices, casts to the same type.

`contiguous` and `clone` stay: they change strides, and a later `view` may depend on that.
"""

import torch
from torch.fx import Node

from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.ir.text import op_name

ALWAYS = {
    "aten.dropout", "aten.dropout_", "aten.feature_dropout", "aten.alpha_dropout", "aten.alias", "aten.detach",
    "aten.lift_fresh_copy",
}  # fmt: skip
# Casts are identities when neither shape nor dtype changes; so is an expansion to the same shape.
IF_SAME_TYPE = {"aten.to.dtype", "aten.to.device", "aten._to_copy", "aten.expand", "aten.view", "aten.reshape"}
END = 2**62  # slices to the end carry int64's largest value


def drop_identity(program: Program) -> PassResult:
    """The program without nodes that hand on their input unchanged."""
    idle = [node.name for node in program.nodes if _is_identity(node)]
    if not idle:
        return PassResult(program, False)
    editor = Editor(program)
    for node in map(editor.node, idle):
        editor.replace_uses(node, node.args[0])  # type: ignore[arg-type]
        editor.erase(node)  # dropout counts as random: nobody else would remove it
    return PassResult(editor.finish(note=f"dropped {len(idle)} nodes that change nothing"), True)


def _is_identity(node: Node) -> bool:
    name = op_name(node)
    if not node.args or not isinstance(node.args[0], Node):
        return False
    if name in ALWAYS:
        return not (name.endswith("dropout") and len(node.args) > 2 and node.args[2])
    if name in IF_SAME_TYPE:
        return _same_type(node)
    if name == "aten.slice.Tensor":
        start, end, step = (node.args[i] if i < len(node.args) else None for i in (2, 3, 4))
        return start in (None, 0) and (end is None or (isinstance(end, int) and end > END)) and step in (None, 1)
    return False


def _same_type(node: Node) -> bool:
    source, value = node.args[0].meta.get("val"), node.meta.get("val")  # type: ignore[union-attr]
    if not isinstance(source, torch.Tensor) or not isinstance(value, torch.Tensor):
        return False
    return source.dtype == value.dtype and tuple(map(str, source.shape)) == tuple(map(str, value.shape))
