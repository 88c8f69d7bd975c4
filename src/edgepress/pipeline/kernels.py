"""Kernel times told by the nodes of the program they belong to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import onnx

from edgepress.exporters.onnx_graph import output_nodes
from edgepress.ir import Program
from edgepress.quantize.profit import Costs
from edgepress.targets import Target
from edgepress.targets.runtimes import Array
from edgepress.targets.runtimes.onnxruntime_profile import KernelTime, kernel_times

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
FLOAT_KERNELS = ("Conv", "FusedConv", "MatMul", "Gemm", "FusedMatMul", "FusedGemm")
LARGE = 4096  # values; below, a conversion is all launch


@dataclass(frozen=True)
class Profile:
    """Where the time of one artifact goes, in microseconds.

    Attributes:
        path: the artifact. total: of all kernels. compute: node of the float program -> its kernels, with conversions
            that its own kernel needs. conversions: (value, direction) -> conversions at the border of integers.
        sizes: value -> number of values. fell_back: nodes planned on integers whose kernel computes in float.
    """

    path: Path
    total: float
    compute: Mapping[str, float]
    conversions: Mapping[tuple[str, str], float]
    sizes: Mapping[str, int]
    fell_back: tuple[str, ...] = ()

    def compute_of(self, nodes: Iterable[str]) -> dict[str, float]:
        """The time of each of `nodes`; one without a kernel of its own is free."""
        return {node: self.compute.get(node, 0.0) for node in nodes}

    def rates(self) -> tuple[float, float]:
        """Microseconds per value (to integer, to float), from the large conversions seen here."""
        return self._rate("QuantizeLinear", Costs.to_integer), self._rate("DequantizeLinear", Costs.to_float)

    def _rate(self, direction: str, default: float) -> float:
        found = [
            us / self.sizes[value]
            for (value, kind), us in self.conversions.items()
            if kind == direction and self.sizes.get(value, 0) >= LARGE
        ]
        return median(found) if found else default


def profile(
    original: Program,
    program: Program,
    path: Path,
    target: Target,
    feeds: Mapping[str, Array],
    quantized: Collection[str] = (),
) -> Profile:
    """Run the artifact of `program` and sort its kernels by node of `original`, the float program behind it.

    Args:
        quantized: nodes that are planned on integers.
    """
    owner = _owners(onnx.load(path), program)
    names = {node.name for node in original.graph.nodes}
    kernels = kernel_times(path, target, feeds)
    sorted_ = _Sorted(original, set(quantized))
    for kernel in kernels:
        sorted_.take(kernel, _float_name(owner.get(kernel.value, ""), names))
    total = sum(kernel.microseconds for kernel in kernels)
    return Profile(path, total, sorted_.compute, sorted_.conversions, sorted_.sizes, tuple(sorted_.fell_back))


class _Sorted:
    """Kernel times on their way to the nodes they belong to."""

    def __init__(self, original: Program, quantized: set[str]) -> None:
        self.nodes = {node.name: node for node in original.graph.nodes}
        self.weights = original.state_names()
        self.quantized = quantized
        self.compute: dict[str, float] = {}
        self.conversions: dict[tuple[str, str], float] = {}
        self.sizes: dict[str, int] = {}
        self.fell_back: list[str] = []

    def take(self, kernel: KernelTime, node: str) -> None:
        """Charge one kernel."""
        if not node:
            return
        if kernel.op in CONVERSIONS:
            self._convert(kernel, node)
            return
        self.compute[node] = self.compute.get(node, 0.0) + kernel.microseconds
        if node in self.quantized and kernel.op in FLOAT_KERNELS:
            self.fell_back.append(node)

    def _convert(self, kernel: KernelTime, value: str) -> None:
        """A conversion at the border, or one that a kernel inside the integers brings along."""
        readers = [user.name for user in self.nodes[value].users]
        inside = value in self.weights or all(name in self.quantized for name in readers)
        if kernel.op == "QuantizeLinear":
            charged = [value] if value in self.quantized else []
        else:
            charged = readers if inside else []
        for name in charged:
            self.compute[name] = self.compute.get(name, 0.0) + kernel.microseconds / len(charged)
        if not charged:
            key = value, kernel.op
            self.conversions[key] = self.conversions.get(key, 0.0) + kernel.microseconds
            self.sizes[value] = _size(self.nodes[value].meta["val"].shape)


def _size(shape: Iterable[object]) -> int:
    count = 1
    for size in shape:
        count *= size if isinstance(size, int) else 1
    return count


def _owners(model: onnx.ModelProto, program: Program) -> dict[str, str]:
    """Value of the ONNX graph -> the node of `program` that it is part of."""
    names = {node.name for node in program.graph.nodes}
    shown = {name: node.name for name, node in zip(program.output_names, output_nodes(program), strict=True)}
    owner: dict[str, str] = {}
    wanted: dict[str, str] = {}
    for node in reversed(model.graph.node):
        first = node.output[0]
        own = shown.get(first) or (first if first in names else "") or wanted.get(first, "")
        owner[first] = own
        for value in node.input:
            wanted.setdefault(value, own)
    return owner


def _float_name(name: str, names: set[str]) -> str:
    """The node of the float program behind a node that quantization added."""
    while name and name not in names:
        name = name.rpartition("_")[0]
    return name
