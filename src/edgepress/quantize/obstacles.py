"""Facts about a single node that keep it float although the target knows its operator."""

from collections.abc import Callable, Mapping

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.text import op_name
from edgepress.quantize import operands
from edgepress.quantize.options import QuantOptions
from edgepress.targets.capability import Rule

Reason = tuple[str, str]  # found, needed


def obstacle(program: Program, node: Node, rule: Rule, options: QuantOptions) -> Reason | None:
    """(found, needed) of the first thing in the way, or `None`."""
    kept = _kept(program, node, options.keep_float)
    if kept:
        return kept
    if node.name in options.slow:
        return options.slow[node.name], "a faster integer kernel, or integers on both sides"
    if not all(map(_is_float32, [node, *operands.activations(program, node)])):
        return "it does not compute in float32", "a float32 network"
    if op_name(node) in operands.WEIGHTED:
        return _weight(program, node)
    check = None if rule.any_form else CHECKS.get(op_name(node))
    return check(program, node) if check else None


def _kept(program: Program, node: Node, keep: tuple[str, ...]) -> Reason | None:
    layer = operands.layer_of(program, node)
    for name in keep:
        if name in (node.name, layer) or (layer and layer.startswith(name + ".")):
            return f"kept float by the recipe ({name})", "no entry in keep_float"
    return None


def _is_float32(node: Node) -> bool:
    value = node.meta.get("val")
    parts = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(part, torch.Tensor) and part.dtype == torch.float32 for part in parts)


def _weight(program: Program, node: Node) -> Reason | None:
    place = operands.weighted(program, node)
    if place is None:
        # matmul of two activations is fine; a convolution whose weight is computed has no integers to store.
        is_product = op_name(node) in operands.PRODUCTS
        return None if is_product else ("its weight is computed by other nodes", "a weight that is a parameter")
    tensor = program.tensor_of(operands.argument(node, place.weight))
    assert tensor is not None
    if tensor.dtype != torch.float32:
        return f"its weight is {tensor.dtype}", "a float32 weight"
    if tensor.dim() < 2:
        return "its weight is a vector", "a matrix or a convolution kernel"
    return None


def _two_activations(program: Program, node: Node) -> Reason | None:
    for operand in node.args[:2]:
        if not isinstance(operand, Node):
            return f"it combines an activation with the number {operand}", "two activations"
        if program.tensor_of(operand) is not None:
            return f"it combines an activation with the weight {operand.name}", "two activations"
    if node.kwargs.get("alpha", 1) != 1:
        return f"its second operand is scaled by {node.kwargs['alpha']}", "a plain sum"
    return None


def _zero_padding(program: Program, node: Node) -> Reason | None:
    if op_name(node) == "aten.pad":
        mode, value = operands.argument(node, 2) or "constant", operands.argument(node, 3)
    else:
        mode, value = "constant", operands.argument(node, 2)
    if mode != "constant" or value not in (None, 0, 0.0):
        return f"it pads with {value if mode == 'constant' else mode}", "padding with zeros"
    return None


def _spatial_mean(program: Program, node: Node) -> Reason | None:
    rank = node.args[0].meta["val"].dim()  # type: ignore[union-attr]
    axes = operands.argument(node, 1) or []
    if rank != 4 or sorted(a % rank for a in axes) != [2, 3]:
        return f"it averages over the axes {list(axes)} of {rank}", "a mean over height and width"
    return None


def _all_activations(program: Program, node: Node) -> Reason | None:
    for operand in operands.activations(program, node):
        if program.tensor_of(operand) is not None:
            return f"it joins the weight {operand.name}", "activations only"
    return None


def _own_table(program: Program, node: Node) -> Reason | None:
    table = node.args[0]
    if not isinstance(table, Node) or program.tensor_of(table) is None:
        return "its table is computed by other nodes", "a table that is a parameter"
    other = next((user for user in table.users if op_name(user) != op_name(node)), None)
    return (f"its table is a weight of {other.name} too", "a table of its own") if other else None


CHECKS: Mapping[str, Callable[[Program, Node], Reason | None]] = {
    **dict.fromkeys(operands.TWO_OPERANDS, _two_activations),
    "aten.pad": _zero_padding,
    "aten.constant_pad_nd": _zero_padding,
    "aten.mean.dim": _spatial_mean,
    "aten.cat": _all_activations,
    "aten.embedding": _own_table,
}
