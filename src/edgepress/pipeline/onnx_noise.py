"""Noise of a quantized ONNX file against the float one, value by value: for files of any maker, as long as names match.

Both run in onnxruntime without optimizations, with every value of the float file that the quantized one also has as an
output. Beside them the float file computes each layer once more with the weight that the quantized file holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from edgepress.errors import UserError
from edgepress.quantize.diagnose import Diagnosis, NodeNoise, Ratio, diagnosis, noise_cause

Array = np.ndarray
WEIGHTED = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}
MOVES = {"QuantizeLinear", "DequantizeLinear", "Identity", "Cast", "Constant"}
AGAIN = "__weight_only"


def diagnose_onnx(reference: Path, quantized: Path, batches: Iterable[Mapping[str, Array]]) -> Diagnosis:
    """Noise at every value both files have, in the float file's order of execution.

    Args:
        batches: inputs by name.

    Raises:
        UserError: the files share no inner value (the quantized one was fused, or renamed).
    """
    first, second = _File(onnx.load(reference)), _File(onnx.load(quantized))
    shared = [n for n in first.nodes if n.op_type not in MOVES and n.output[0] in second.makers]
    if not any(n.output[0] not in first.outputs for n in shared):
        raise UserError(
            f"{quantized} shares no inner value with {reference}",
            found="other names, or operators that hold integers only (QLinearConv)",
            expected="QuantizeLinear and DequantizeLinear around the float file's own operators",
            fix="quantize with edgepress, or in the QDQ format",
        )
    watched = {node.output[0]: _value(first, second, node) for node in shared}
    for value in watched.values():
        first.add_again(value)
    _measure(first, second, watched, batches)
    compared = {name: value for name, value in watched.items() if value.seen}
    if first.outputs[0] not in compared:
        raise UserError(
            f"{quantized} gives another output than {reference}",
            found="other names or sizes",
            expected=f"{first.outputs[0]} of the same shape",
            fix="compare a file with the one it was quantized from",
        )
    noises = tuple(value.noise() for value in compared.values())
    return diagnosis(noises, compared[first.outputs[0]].total.decibels())


@dataclass
class _Value:
    """One shared value, and what has been summed up of its noise.

    Attributes:
        node: the float file's. base: the layer the value comes from: the node itself, or the one before an activation
            function that the other file has left to the grid. there: name of the value in the other file.
        layer: name of the weight. weight: as the quantized file holds it, dequantized.
        grid: scale, zero point, lowest and highest integer of the QuantizeLinear that reads the value.
    """

    node: onnx.NodeProto
    base: onnx.NodeProto
    there: str
    layer: str
    weight: Array | None
    grid: tuple[float, int, int, int] | None
    total: Ratio = field(default_factory=Ratio)
    alone: Ratio = field(default_factory=Ratio)
    rounded: Ratio = field(default_factory=Ratio)
    clipped: list[float] = field(default_factory=list)
    span: tuple[float, float] = (np.inf, -np.inf)
    seen: bool = False

    def look(self, value: Array, noisy: Array, alone: Array | None) -> None:
        self.seen = True
        self.total.add(torch.from_numpy(value), torch.from_numpy(noisy.reshape(value.shape)))
        if alone is not None:
            self.alone.add(torch.from_numpy(value), torch.from_numpy(alone))
        if self.grid:
            scale, zero, low, high = self.grid
            steps = value / scale + zero
            inside = np.clip(np.rint(steps), low, high)
            self.rounded.add(torch.from_numpy(value), torch.from_numpy((inside - zero) * scale))
            self.clipped.append(float(((steps < low - 0.5) | (steps > high + 0.5)).mean()))
            self.span = min(self.span[0], float(inside.min())), max(self.span[1], float(inside.max()))

    def noise(self) -> NodeNoise:
        total = self.total.decibels()
        weight = self.alone.decibels() if self.weight is not None else None
        rounding = self.rounded.decibels() if self.grid else None
        clipped = float(np.mean(self.clipped)) if self.clipped else None
        used = (self.span[1] - self.span[0]) / (self.grid[3] - self.grid[2]) if self.grid else None
        return NodeNoise(
            node=self.node.output[0],
            op=self.node.op_type,
            layer=self.layer,
            sqnr_db=total,
            weight_db=weight,
            rounding_db=rounding,
            clipped=clipped,
            used=used,
            cause=noise_cause(total, weight, rounding, clipped),
        )


class _File:
    """A model with its names looked up."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.nodes = model, list(model.graph.node)
        self.outputs = [output.name for output in model.graph.output]
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(self, name: str) -> Array | None:
        """The values of an initializer, as they are computed with: casts and dequantization carried out."""
        if name in self._weights:
            return numpy_helper.to_array(self._weights[name])
        node = self.makers.get(name)
        if node is None or node.op_type not in ("Cast", "DequantizeLinear", "Constant", "Transpose"):
            return None
        if node.op_type == "Constant":
            return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)
        source = self.constant(node.input[0])
        if source is None or node.op_type == "Cast":
            return source
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Transpose":
            return source.transpose(attributes.get("perm"))
        return self._dequantized(node, source, int(attributes.get("axis", 1)), int(attributes.get("block_size", 0)))

    def _dequantized(self, node: onnx.NodeProto, source: Array, axis: int, block: int) -> Array | None:
        scale = self.constant(node.input[1])
        zero = self.constant(node.input[2]) if len(node.input) > 2 else np.zeros((), np.int64)
        if scale is None or zero is None:
            return None
        return (source.astype(np.float64) - _spread(zero, source, axis, block)) * _spread(scale, source, axis, block)

    def grid_of(self, node: onnx.NodeProto) -> tuple[float, int, int, int] | None:
        """The grid of the QuantizeLinear that reads the value a node of that output name makes here."""
        for reader in self.nodes:
            if reader.op_type == "QuantizeLinear" and reader.input[0] == node.output[0]:
                scale = self.constant(reader.input[1])
                zero = self.constant(reader.input[2]) if len(reader.input) > 2 else np.zeros((), np.uint8)
                if scale is not None and zero is not None and scale.size == 1 and zero.dtype.kind in "iu":
                    limits = np.iinfo(zero.dtype)
                    return float(scale.ravel()[0]), int(zero.ravel()[0]), int(limits.min), int(limits.max)
        return None

    def dequantized(self, name: str) -> str:
        """The value behind the pair of QuantizeLinear and DequantizeLinear that reads a value, or the value itself."""
        readers = {n.input[0]: n.output[0] for n in self.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
        return readers.get(readers.get(name, ""), name)

    def add_again(self, value: _Value) -> None:
        """Compute the value's node a second time, with the other file's weight."""
        if value.weight is None:
            return
        name = value.node.output[0] + AGAIN
        stored = numpy_helper.from_array(value.weight.astype(np.float32), f"{name}_weight")
        self.model.graph.initializer.append(stored)
        base = _copy(value.base, name if value.base is value.node else f"{name}_base")
        base.input[WEIGHTED[base.op_type]] = stored.name
        self.model.graph.node.append(base)
        if value.base is not value.node:
            function = _copy(value.node, name)
            function.input[0] = base.output[0]
            self.model.graph.node.append(function)

    def session(self, wanted: Iterable[str]) -> object:
        import onnxruntime

        del self.model.graph.output[:]
        self.model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(self.model.SerializeToString(), options, providers=providers)


def _copy(node: onnx.NodeProto, output: str) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name, copied.output[0] = "", output
    return copied


def _measure(first: _File, second: _File, watched: dict[str, _Value], batches: Iterable[Mapping[str, Array]]) -> None:
    names = list(watched)
    again = [name + AGAIN for name in names if watched[name].weight is not None]
    left, right = first.session([*names, *again]), second.session([v.there for v in watched.values()])
    for batch in batches:
        values = dict(zip([*names, *again], left.run(None, batch), strict=True))  # type: ignore[attr-defined]
        noisy = dict(zip(names, right.run(None, batch), strict=True))  # type: ignore[attr-defined]
        for name, value in watched.items():
            # Another size: the network was cut before it was quantized.
            if values[name].dtype.kind == "f" and values[name].size == noisy[name].size:
                value.look(values[name].astype(np.float32), noisy[name], values.get(name + AGAIN))


def _value(first: _File, second: _File, node: onnx.NodeProto) -> _Value:
    """What is to be compared at a shared value."""
    other, base, there = second.makers[node.output[0]], node, node.output[0]
    if other.op_type != node.op_type:  # an activation function that the grid's lowest integer has replaced
        base, there = first.makers.get(node.input[0], node), second.dequantized(there)
    return _Value(node, base, there, *_stored(first, second, base, other), second.grid_of(node))


def _stored(first: _File, second: _File, node: onnx.NodeProto, other: onnx.NodeProto) -> tuple[str, Array | None]:
    """(name of a layer's weight, the weight as the second file holds it), where both can be told."""
    position = WEIGHTED.get(node.op_type)
    if position is None or other.op_type != node.op_type:
        return "", None
    name = node.input[position]
    own, weight = first.constant(name), second.constant(other.input[position])
    quantized = second.makers.get(other.input[position])
    if own is None or weight is None or quantized is None or own.shape != weight.shape:
        return name.rpartition(".")[0] or name, None
    return name.rpartition(".")[0] or name, weight


def _spread(scales: Array, like: Array, axis: int, block: int) -> Array:
    """Scales or zero points in a shape that broadcasts against the weight."""
    values = scales.astype(np.float64)
    if values.size == 1:
        return values.reshape(())
    if block:
        return np.repeat(values, block, axis)[tuple(slice(0, size) for size in like.shape)]
    shape = [1] * like.ndim
    shape[axis] = -1
    return values.reshape(shape)
