"""The integer arithmetic of a quantized program, as runtimes carry it out: to compare them with, bit for bit.

A `Program` with Q/DQ computes in float between its grids; an integer kernel sums exactly in int32, multiplies the sum
by one float32 factor, and rounds once (ties to even). The two differ by a step now and then. Formulas below are those
of the ONNX operators QLinearConv, QGemm and QLinearAdd as onnxruntime's kernels evaluate them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Interpreter, Node

from edgepress.ir import quant_ops  # noqa: F401  (registers the operators below)
from edgepress.ir.program import Program
from edgepress.ir.text import op_name

qd = torch.ops.quantized_decomposed
QUANTIZE = qd.quantize_per_tensor.default
DEQUANTIZE = (qd.dequantize_per_tensor.default, qd.dequantize_per_channel.default)
RELU = ("aten.relu", "aten.relu_")


@dataclass(frozen=True)
class Grid:
    """Where an integer tensor stands: scale (scalar or per channel), zero point, range."""

    scale: torch.Tensor
    zero: int
    low: int
    high: int


def run_integers(program: Program, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Outputs of the integer arithmetic of a program with Q/DQ. Nodes without integers compute in float."""
    state, names, given = program.state(), program.state_names(), iter(inputs)
    arguments = [
        state[names[n.name]].detach() if n.name in names else next(given)
        for n in program.graph.nodes
        if n.op == "placeholder"
    ]
    with torch.no_grad():
        return tuple(_Integers(program).run(*arguments))


class _Integers(Interpreter):
    """Replaces quantize(op(dequantize ...)) by the integer kernel of `op`, where there is one."""

    def __init__(self, program: Program) -> None:
        super().__init__(program.exported.graph_module, garbage_collect_values=False)

    def run_node(self, n: Node) -> Any:
        if n.target is QUANTIZE and n.args[0].op == "call_function":  # type: ignore[union-attr]
            return self._requantized(n)
        if n.target is QUANTIZE and n.args[0].op == "placeholder":  # type: ignore[union-attr]
            return _quantized(self.env[n.args[0]], _grid(self, n), n.args[5])  # type: ignore[index]
        if op_name(n) == "aten.linear" and _is_integer(n) and not _feeds_quantize(n):
            return _sum(self, n).float() * _factor(self, n)  # handed out as float
        return super().run_node(n)

    def _requantized(self, quantize: Node) -> torch.Tensor:
        source = quantize.args[0]
        assert isinstance(source, Node)
        rectified = op_name(source) in RELU
        core = source.args[0] if rectified else source
        assert isinstance(core, Node)
        kernel = KERNELS.get(op_name(core))
        grid = _grid(self, quantize)
        if kernel is None or not _is_integer(core):
            return _quantized(self.env[source], grid, quantize.args[5])
        low = max(grid.low, grid.zero) if rectified else grid.low
        return torch.clamp(kernel(self, core, grid), low, grid.high).to(quantize.args[5])  # type: ignore[arg-type]


def _quantized(value: torch.Tensor, grid: Grid, dtype: Any) -> torch.Tensor:
    """QuantizeLinear divides by the scale (torch multiplies by its inverse: another rounding)."""
    return torch.clamp(torch.round(value / grid.scale) + grid.zero, grid.low, grid.high).to(dtype)


def _grid(run: _Integers, node: Node) -> Grid:
    """The grid of a quantize or dequantize node."""
    values: list[Any] = [run.env[a] if isinstance(a, Node) else a for a in node.args]
    _, scale, zero, *rest = values
    if isinstance(scale, torch.Tensor):  # per channel: (axis, low, high, dtype); zero points are 0
        return Grid(scale.float(), 0, int(rest[1]), int(rest[2]))
    return Grid(torch.tensor(scale, dtype=torch.float32), int(zero), int(rest[0]), int(rest[1]))


def _is_integer(node: Node) -> bool:
    """Whether everything the node reads comes out of a dequantize node."""
    return all(a.target in DEQUANTIZE for a in node.all_input_nodes)


def _feeds_quantize(node: Node) -> bool:
    users = list(node.users)
    ends = list(users[0].users) if len(users) == 1 and op_name(users[0]) in RELU else users
    return bool(ends) and all(e.target is QUANTIZE for e in ends)


def _integers(run: _Integers, dequantize: Any) -> torch.Tensor:
    """The integers behind a dequantize node less their zero point, as float64: products and sums of them are exact."""
    return run.env[dequantize.args[0]].double() - _grid(run, dequantize).zero


def _sum(run: _Integers, node: Node) -> torch.Tensor:
    """The int32 accumulator of a layer, bias included, as float64."""
    bias = node.args[2] if len(node.args) > 2 else None
    arguments = [_integers(run, node.args[0]), _integers(run, node.args[1])]
    arguments.append(None if bias is None else _integers(run, bias))  # type: ignore[arg-type]
    return node.target(*arguments, *node.args[3:])  # type: ignore[operator]


def _factor(run: _Integers, node: Node) -> torch.Tensor:
    """Input scale x weight scale in float32, shaped to broadcast over the layer's output."""
    factor = _grid(run, node.args[0]).scale * _grid(run, node.args[1]).scale  # type: ignore[arg-type]
    if factor.dim() == 0 or op_name(node) == "aten.linear":
        return factor
    return factor.reshape(-1, *[1] * (node.meta["val"].dim() - 2))


def _layer(run: _Integers, node: Node, out: Grid) -> torch.Tensor:
    """QLinearConv, QGemm: round(float32(sum) * (s_x s_w / s_y)) + zero."""
    return torch.round(_sum(run, node).float() * (_factor(run, node) / out.scale)) + out.zero


def _addition(run: _Integers, node: Node, out: Grid) -> torch.Tensor:
    """QLinearAdd: round(fma(r_a, a, fma(r_b, b, zero - (r_a z_a + r_b z_b)))) with r = s / s_y, in float32."""
    terms = []
    fixed = torch.tensor(float(out.zero))
    for dequantize in node.args[:2]:
        assert isinstance(dequantize, Node)
        grid = _grid(run, dequantize)
        ratio = grid.scale / out.scale
        terms.append((ratio, run.env[dequantize.args[0]]))  # type: ignore[index]
        fixed = fixed - ratio * grid.zero
    (ratio_a, a), (ratio_b, b) = terms
    return torch.round(_fma(ratio_a, a, _fma(ratio_b, b, fixed)))


def _fma(factor: torch.Tensor, values: torch.Tensor, summand: torch.Tensor) -> torch.Tensor:
    """factor * values + summand, rounded once: the product of a float32 and an 8-bit integer is exact in float64."""
    return (factor.double() * values.double() + summand.double()).float()


def _global_average(run: _Integers, node: Node, out: Grid) -> torch.Tensor:
    """QLinearGlobalAveragePool: round(float32(sum) * (s_x / (s_y n))) + zero."""
    values, grid = _integers(run, node.args[0]), _grid(run, node.args[0])  # type: ignore[arg-type]
    factor = grid.scale / (out.scale * math.prod(values.shape[2:]))
    total = values.sum(tuple(range(2, values.dim())), keepdim=True)
    return torch.round(total.float() * factor) + out.zero


Kernel = Callable[[_Integers, Node, Grid], torch.Tensor]
KERNELS: Mapping[str, Kernel] = {
    **{f"aten.conv{d}d": _layer for d in (1, 2, 3)},
    **{f"aten.conv{d}d.padding": _layer for d in (1, 2, 3)},
    "aten.linear": _layer,
    "aten.add.Tensor": _addition,
    **{f"aten.adaptive_avg_pool{d}d": _global_average for d in (1, 2)},
}
