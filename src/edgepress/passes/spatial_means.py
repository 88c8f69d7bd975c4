"""Write means over height and width as global average pooling: runtimes have integer kernels for that."""

import torch
from torch.fx import Node

from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.ir.text import op_name

aten = torch.ops.aten


def spatial_means(program: Program) -> PassResult:
    """mean(x, [2, 3]) of an image batch becomes adaptive_avg_pool2d(x, 1), flattened unless the axes are kept."""
    means = [n.name for n in program.nodes if op_name(n) == "aten.mean.dim" and _is_spatial(n)]
    if not means:
        return PassResult(program, False)
    editor = Editor(program)
    for name in means:
        _rewrite(editor, editor.node(name))
    return PassResult(editor.finish(note=f"wrote {len(means)} means as pooling"), True)


def _is_spatial(node: Node) -> bool:
    source = node.args[0]
    rank = source.meta["val"].dim()  # type: ignore[union-attr]
    axes = node.args[1] if len(node.args) > 1 else None
    return rank == 4 and isinstance(axes, list | tuple) and sorted(a % 4 for a in axes) == [2, 3]


def _rewrite(editor: Editor, node: Node) -> None:
    keep = len(node.args) > 2 and bool(node.args[2])
    source = node.args[0]
    if keep:
        editor.set_target(node, aten.adaptive_avg_pool2d.default, (source, [1, 1]))
        return
    pooled = editor.call(aten.adaptive_avg_pool2d.default, (source, [1, 1]), before=node, name=f"{node.name}_pool")
    editor.set_target(node, aten.flatten.using_ints, (pooled, 1))
