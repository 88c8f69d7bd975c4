"""A stable printer: equal programs print equal text, so tests compare text and people read diffs."""

import torch
from torch.fx import Node

from edgepress.ir.program import Program

DTYPES = {
    torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.float64: "f64",
    torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8", torch.bool: "b",
}  # fmt: skip


def to_text(program: Program) -> str:
    """One line per node: `%name: dtype[shape] = operator(arguments)`. Symbolic sizes print as `?`."""
    state = program.state_names()
    lines = [f"program({', '.join(program.input_names)}) -> ({', '.join(program.output_names)})"]
    for node in program.graph.nodes:
        if node.op == "placeholder":
            lines.append(f"  %{node.name}: {type_text(node)} = {_source(node, state)}")
        elif node.op == "output":
            lines.append(f"  return {_argument(node.args[0])}")
        else:
            lines.append(f"  %{node.name}: {type_text(node)} = {_call(node)}")
    return "\n".join(lines) + "\n"


def type_text(node: Node) -> str:
    """`f32[?, 16, 32, 32]` of a tensor node; a bracketed list for several results."""
    return _value_type(node.meta.get("val"))


def _value_type(value: object) -> str:
    if isinstance(value, torch.Tensor):
        sizes = ", ".join(str(s) if isinstance(s, int) else "?" for s in value.shape)
        return f"{DTYPES.get(value.dtype, str(value.dtype))}[{sizes}]"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_value_type(v) for v in value) + ")"
    if isinstance(value, torch.SymInt):
        return "int"
    return type(value).__name__


def _source(node: Node, state: dict[str, str]) -> str:
    return f"weight {state[node.name]}" if node.name in state else "input"


def _call(node: Node) -> str:
    arguments = [_argument(a) for a in node.args] + [f"{k}={_argument(v)}" for k, v in sorted(node.kwargs.items())]
    return f"{op_name(node)}({', '.join(arguments)})"


def op_name(node: Node) -> str:
    """`aten.conv2d` for an ATen overload, otherwise the function's name."""
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target).removesuffix(".default")
    return getattr(node.target, "__name__", str(node.target))


def _argument(value: object) -> str:
    if isinstance(value, Node):
        return f"%{value.name}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_argument(v) for v in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return str(value)
