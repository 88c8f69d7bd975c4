"""The rules of the IR as code: run after every edit."""

import math
from collections.abc import Iterator

import torch
from torch.fx import Node

from edgepress.errors import EdgepressError, ExitCode
from edgepress.ir.program import Program

ALLOWED_NAMESPACES = {"aten", "quantized_decomposed", "higher_order", "prim", "edgepress"}


class InvalidProgram(EdgepressError):
    """A pass broke a rule of the IR: a defect of ours, not of the user."""

    exit_code = ExitCode.DEFECT


def verify(program: Program) -> None:
    """Check every rule.

    Raises:
        InvalidProgram: with the broken rules, one per line.
    """
    broken = list(violations(program))
    if broken:
        raise InvalidProgram("the program breaks its rules: " + "; ".join(broken[:5]), fix="report this as a defect")


def violations(program: Program) -> Iterator[str]:
    """Each broken rule, in words."""
    yield from _state_is_complete(program)
    yield from _shapes_match(program)
    yield from _operators_are_known(program)
    yield from _scales_are_positive(program)
    yield from _names_match(program)


def _state_is_complete(program: Program) -> Iterator[str]:
    state = program.state()
    for placeholder, target in program.state_names().items():
        if target not in state:
            yield f"{placeholder}: no tensor named {target}"


def _shapes_match(program: Program) -> Iterator[str]:
    state, names = program.state(), program.state_names()
    for node in program.graph.nodes:
        tensor = state.get(names.get(node.name, ""))
        if node.op != "placeholder" or tensor is None:
            continue
        value = node.meta.get("val")
        if value is None or tuple(value.shape) != tuple(tensor.shape):
            yield f"{node.name}: graph says {getattr(value, 'shape', None)}, the tensor is {tuple(tensor.shape)}"


def _operators_are_known(program: Program) -> Iterator[str]:
    for node in program.graph.nodes:
        if node.op not in ("placeholder", "call_function", "output", "get_attr"):
            yield f"{node.name}: node kind {node.op}"
        elif node.op == "call_function" and namespace(node) not in ALLOWED_NAMESPACES:
            yield f"{node.name}: operator {node.target} is not in {sorted(ALLOWED_NAMESPACES)}"


def namespace(node: Node) -> str:
    """`aten` for `aten.conv2d.default`; plain Python operators on sizes count as `prim`."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target.namespace
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return "higher_order"
    module = getattr(node.target, "__module__", "")
    return "prim" if module in ("_operator", "operator", "math", "builtins", "torch") else module


def _scales_are_positive(program: Program) -> Iterator[str]:
    for node in program.nodes:
        if namespace(node) == "quantized_decomposed" and "per_tensor" in str(node.target):
            scale = node.args[1]
            if isinstance(scale, float) and not (scale > 0 and math.isfinite(scale)):
                yield f"{node.name}: scale {scale}"


def _names_match(program: Program) -> Iterator[str]:
    for what, names, nodes in (
        ("input", program.input_names, program.exported.graph_signature.user_inputs),
        ("output", program.output_names, program.exported.graph_signature.user_outputs),
    ):
        if len(names) != len(nodes):
            yield f"{len(names)} {what} names for {len(nodes)} {what}s"
