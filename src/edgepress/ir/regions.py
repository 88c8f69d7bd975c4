"""Parts of `forward` under `torch.no_grad()` or `torch.autocast(...)`: torch.export puts each behind one opaque node.

Behind it no pass could count, cut or quantize anything, so the nodes of such a region are put in its place.
"""

import copy
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from edgepress.ir.edit import Editor

GRAD = torch.ops.higher_order.wrap_with_set_grad_enabled
AUTOCAST = torch.ops.higher_order.wrap_with_autocast


def open_regions(editor: Editor, module: GraphModule) -> None:
    """Put the nodes of all regions of `module`, whose graph the editor copied, in their place.

    What leaves a region without gradients is detached. Autocast that is off, or for another device, changed nothing
    of what was captured; where it is on for this device, the region stays: it computes in another type.
    """
    for node in list(editor.graph.nodes):
        if _opens(module, node):
            _replace(editor, node, _inlined(editor, module, node, {a: a for a in node.all_input_nodes}, before=node))
    for node in [n for n in editor.graph.nodes if n.op == "get_attr" and not n.users]:
        editor.erase(node)


def _opens(owner: GraphModule, node: Node) -> bool:
    """Whether this is a region that can be put in its place with all that it holds."""
    if node.target is AUTOCAST:
        device, _, enabled = node.args[:3]
        if enabled and device == "cpu":
            return False
    elif node.target is not GRAD:
        return False
    region = _region(owner, node)
    return all(_opens(region, user) for n in region.graph.nodes if n.op == "get_attr" for user in n.users)


def _region(owner: GraphModule, call: Node) -> GraphModule:
    name = next(a for a in call.args if isinstance(a, Node) and a.op == "get_attr").target
    region = owner.get_submodule(str(name))
    assert isinstance(region, GraphModule)
    return region


def _inlined(editor: Editor, owner: GraphModule, call: Node, values: Mapping[Node, Node], before: Node) -> list[Any]:
    """Copy the nodes of one region before a node of the edited graph; its outputs.

    Args:
        owner: the module that the region is an attribute of. values: what the arguments of `call` are there.
    """
    region = _region(owner, call)
    given = iter(values[a] for a in call.args if isinstance(a, Node) and a.op != "get_attr")
    inside: dict[Node, Any] = {}
    for node in region.graph.nodes:
        if node.op == "placeholder":
            inside[node] = next(given)
        elif node.op == "output":
            outputs = list(map_arg(node.args[0], inside.__getitem__))
        elif _opens(region, node):
            inside[node] = _inlined(editor, region, node, inside, before)
        elif node.op == "call_function":
            inside[node] = _copied(editor, node, inside, before)
    if call.target is GRAD and call.args[0] is False:
        return [_detached(editor, value, before) for value in outputs]
    return outputs


def _detached(editor: Editor, value: Any, before: Node) -> Any:
    if not isinstance(value, Node) or not isinstance(value.meta.get("val"), torch.Tensor):
        return value  # a size
    return editor.call(torch.ops.aten.detach.default, (value,), before=before)


def _copied(editor: Editor, node: Node, inside: Mapping[Node, Any], before: Node) -> Any:
    if node.target is operator.getitem and isinstance(inside[node.args[0]], list):  # type: ignore[index]
        return inside[node.args[0]][node.args[1]]  # type: ignore[index]  # an output of a region in this one
    args, kwargs = map_arg((node.args, node.kwargs), inside.__getitem__)
    made = editor.call(node.target, args, kwargs, before=before, name=node.name)  # type: ignore[arg-type]
    made.meta = copy.copy(node.meta)
    return made


def _replace(editor: Editor, region: Node, outputs: list[Any]) -> None:
    for reader in list(region.users):
        assert reader.target is operator.getitem
        editor.replace_uses(reader, outputs[reader.args[1]])  # type: ignore[index]
        editor.erase(reader)
    editor.erase(region)
