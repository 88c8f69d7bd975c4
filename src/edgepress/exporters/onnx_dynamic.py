"""Dynamically quantized layers as ONNX: integer weights, activations quantized by the runtime with every input."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import Translation, arg
from edgepress.exporters.onnx_recurrent import GATES, Array, gates, stack
from edgepress.passes.mark_dynamic import PLAN, row_scales

ONNXRUNTIME = "com.microsoft"


def is_dynamic(g: GraphBuilder, node: Node) -> bool:
    """Whether the program marks this layer."""
    plan = g.program.plans.get(PLAN)
    return isinstance(plan, Mapping) and node.name in plan["nodes"]


def _integers(g: GraphBuilder, weight: Node) -> tuple[Array, Array]:
    """(int8 matrix, scale per row)."""
    tensor = g.tensor(weight)
    if tensor is None:
        raise NotTranslated("a weight that is computed")
    scales = row_scales(tensor)
    return to_numpy((tensor / scales[:, None]).round().to(torch.int8)), to_numpy(scales)


def _linear(g: GraphBuilder, node: Node, out: str) -> None:
    """The pattern that onnxruntime fuses into one node: quantize, integer product, scale."""
    weight, scales = _integers(g, arg(node, 1))
    bias = arg(node, 2)
    source, scale, zero = (g.fresh("t") for _ in range(3))
    g.emit("DynamicQuantizeLinear", [g.name(arg(node, 0))], out=[source, scale, zero])
    product = g.emit("MatMulInteger", [source, g.constant(weight.T, "w"), zero])
    factor = g.emit("Mul", [scale, g.constant(scales, "s")])
    real = g.emit("Mul", [g.emit("Cast", [product], to=1), factor], out="" if bias is not None else out)
    if bias is not None:
        g.emit("Add", [real, g.name(bias)], out=out)


def _lstm(g: GraphBuilder, node: Node, out: str) -> None:
    """onnxruntime's own operator; its matrices lie the other way round than those of LSTM."""
    hidden, cell = arg(node, 1)
    stack(g, node, out, "LSTM", [hidden, cell], _lstm_layer)


def _lstm_layer(
    g: GraphBuilder, value: str, cells: list[list[Node]], initial: list[str], results: list[str], bias: str
) -> None:
    stored: list[str] = []
    for i in (0, 1):
        pairs = [_integers(g, cell[i]) for cell in cells]
        order = GATES["LSTM"]
        matrix = np.stack([gates(weight, order).T for weight, _ in pairs])
        scales = np.stack([gates(scale, order) for _, scale in pairs])
        stored += [g.constant(matrix, "w"), g.constant(scales, "s"), g.constant(np.zeros(scales.shape, np.int8))]
    names = [value, stored[0], stored[3], bias, "", *initial, "", *stored[1:3], *stored[4:6]]
    hidden = int(g.tensor(cells[0][1]).shape[1])  # type: ignore[union-attr]
    g.emit("DynamicQuantizeLSTM", names, out=results, domain=ONNXRUNTIME, hidden_size=hidden,
           direction="bidirectional" if len(cells) == 2 else "forward")  # fmt: skip


DYNAMIC: Mapping[str, Translation] = {"aten.linear": _linear, "aten.lstm.input": _lstm}
"""ATen operator -> translation of a marked layer."""
