"""Quantize and dequantize nodes in ONNX: per tensor, per channel, in blocks, and on float8."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import IN_BLOCKS, Translation, arg, zero_point


def _quantize(op: str) -> Translation:
    def per_tensor(g: GraphBuilder, node: Node, out: str) -> None:
        scale, zero = (
            g.constant(np.asarray(arg(node, 1), np.float32)),
            g.constant(zero_point(arg(node, 2), arg(node, 5))),
        )
        g.emit(op, [g.name(arg(node, 0)), scale, zero], out=out)

    return per_tensor


def _quantize_per_channel(op: str) -> Translation:
    def per_channel(g: GraphBuilder, node: Node, out: str) -> None:
        scales, zeros, dtype = g.tensor(arg(node, 1)), g.tensor(arg(node, 2)), arg(node, 6)
        if scales is None or zeros is None:
            raise NotTranslated("scales that are computed")
        names = [g.name(arg(node, 0)), g.constant(to_numpy(scales), "s"), g.constant(zero_point(zeros, dtype))]
        g.emit(op, names, out=out, axis=arg(node, 3))

    return per_channel


def _float8(op: str) -> Translation:
    def rule(g: GraphBuilder, node: Node, out: str) -> None:
        scale, axis = g.tensor(arg(node, 1)), arg(node, 2)
        if scale is None:
            raise NotTranslated("scales that are computed")
        zero = g.constant(to_numpy(torch.zeros_like(scale).to(torch.float8_e4m3fn)))
        names = [g.name(arg(node, 0)), g.constant(to_numpy(scale), "s"), zero]
        g.emit(op, names, out=out, axis=None if axis < 0 else axis)

    return rule


def _blocks(g: GraphBuilder, node: Node, out: str) -> None:
    """A matrix (rows, columns) with scales (rows, columns / block); linear layers take it transposed instead."""
    scales = g.tensor(arg(node, 1))
    if scales is None:
        raise NotTranslated("scales that are computed")
    names = [g.name(arg(node, 0)), g.constant(to_numpy(scales), "s")]
    g.emit("DequantizeLinear", names, out=out, axis=1, block_size=arg(node, 6))


def _dynamic(g: GraphBuilder, node: Node, out: str) -> None:
    """The runtime measures each input, rounds it, and goes on in float."""
    whole, scale, zero = (g.fresh("t") for _ in range(3))
    g.emit("DynamicQuantizeLinear", [g.name(arg(node, 0))], out=[whole, scale, zero])
    g.emit("DequantizeLinear", [whole, scale, zero], out=out)


QDQ: Mapping[str, Translation] = {
    "quantized_decomposed.quantize_per_tensor": _quantize("QuantizeLinear"),
    "quantized_decomposed.dequantize_per_tensor": _quantize("DequantizeLinear"),
    "quantized_decomposed.quantize_per_channel": _quantize_per_channel("QuantizeLinear"),
    "quantized_decomposed.dequantize_per_channel": _quantize_per_channel("DequantizeLinear"),
    IN_BLOCKS: _blocks,
    "edgepress.dynamic_quantize": _dynamic,
    "edgepress.quantize_float8": _float8("QuantizeLinear"),
    "edgepress.dequantize_float8": _float8("DequantizeLinear"),
}
"""Operator -> translation."""
