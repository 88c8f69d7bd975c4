"""Dynamically quantized layers become float ones with the same rounding in front of them.

A converter writes DynamicQuantizeLinear, an integer product with a stored integer weight, and the scales behind it.
What it means is a float layer whose weight lies on an integer grid and whose input is rounded to 256 steps between its
own extremes; in that form it can be trained, pruned, and stripped of its grids like any other layer.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from edgepress.importers.onnx.entry import Operator
from edgepress.importers.onnx.graph import Body, Network, Step
from edgepress.importers.onnx.table import find

FLOAT = 1
PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
DIRECT = ("com.microsoft::DynamicQuantizeMatMul", "com.microsoft::MatMulIntegerToFloat")


@dataclass(frozen=True)
class Product:
    """An integer product, the steps that scale it, and what they stand for.

    Attributes:
        kind, attributes: the float operator. source: the float input. weight: integers, scale and zero point ("" if 0).
        bias: "" if there is none. output: of the last step. replaced: every step that goes; the last one comes last.
    """

    kind: str
    attributes: dict[str, Any]
    source: str
    weight: tuple[str, str, str]
    bias: str
    output: str
    replaced: tuple[Step, ...]


def float_products(network: Network) -> Network:
    """Every dynamically quantized layer with a stored weight as a float layer on grids."""
    body = _regridded(_rewritten(network.body, network))
    return network if body is network.body else replace(network, body=body)


def _rewritten(body: Body, network: Network) -> Body:
    found = list(_Search(body, network).products())
    if not found:
        return body
    gone = {id(step) for product in found for step in product.replaced[:-1]}
    last = {id(product.replaced[-1]): product for product in found}
    rounded: set[str] = set()
    steps: list[Step] = []
    for step in body.steps:
        if id(step) in last:
            steps += _float_steps(last[id(step)], rounded)
        elif id(step) not in gone:
            steps.append(step)
    return Body(body.inputs, body.outputs, tuple(_needed(steps, body.outputs)))


def _regridded(body: Body) -> Body:
    """DynamicQuantizeLinear and DequantizeLinear of what it gave: one rounding, which lets gradients pass."""
    makers = {step.outputs: step for step in body.steps if step.kind == "DynamicQuantizeLinear"}
    steps = [
        _step(step.name, "edgepress::DynamicGrid", makers[step.inputs].inputs[:1], step.outputs[0])
        if step.kind == "DequantizeLinear" and step.inputs in makers
        else step
        for step in body.steps
    ]
    return body if steps == list(body.steps) else Body(body.inputs, body.outputs, tuple(_needed(steps, body.outputs)))


def _float_steps(product: Product, rounded: set[str]) -> Iterator[Step]:
    """The input on its grid (once for all that read it), the weight on its own, the layer, the bias."""
    name, source, grid = product.replaced[-1].name, product.source, f"{product.source}::grid"
    if source not in rounded:
        rounded.add(source)
        yield _step(f"{name}_input", "edgepress::DynamicGrid", (source,), grid)
    weight, bare = f"{product.output}::weight", f"{product.output}::product" if product.bias else product.output
    axis = 0 if product.kind == "Conv" else 1
    yield _step(f"{name}_weight", "DequantizeLinear", product.weight, weight, axis=axis)
    yield _step(name, product.kind, (grid, weight), bare, **product.attributes)
    if product.bias:
        yield _step(f"{name}_bias", "Add", (bare, product.bias), product.output)


def _step(name: str, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> Step:
    entry = find(kind)
    operator = entry if isinstance(entry, Operator) else entry[max(entry)] if entry else None
    assert operator is not None
    return Step(name, kind, operator, inputs, (output,), attributes)


def _needed(steps: list[Step], outputs: tuple[str, ...]) -> list[Step]:
    """Without the quantizers and products of scales that nothing reads any more."""
    read, kept = {*outputs}, list[Step]()
    for step in reversed(steps):
        if read & set(step.outputs):
            kept.append(step)
            read.update((*step.inputs, *_inner_reads(step)))
    return kept[::-1]


def _inner_reads(step: Step) -> Iterator[str]:
    for body in step.bodies():
        yield from body.reads()


class _Search:
    def __init__(self, body: Body, network: Network) -> None:
        self.body, self.constants = body, network.constants
        self.makers = {name: step for step in body.steps for name in step.outputs if name}
        self.reads = Counter(network.body.reads())
        self.readers: dict[str, list[Step]] = {}
        for step in body.steps:
            for name in step.inputs:
                self.readers.setdefault(name, []).append(step)

    def products(self) -> Iterator[Product]:
        for step in self.body.steps:
            found = None
            if step.kind in PRODUCTS:
                found = self.scaled(step)
            elif step.kind in DIRECT:
                found = self.direct(step)
            if found is not None:
                yield found

    def scaled(self, step: Step) -> Product | None:
        """(x - x zero) (W - W zero), cast to float, times the scales of both in any order."""
        inputs = (*step.inputs, "", "")
        source, cast = self.quantizer(inputs[0], inputs[2]), self.only_reader(step.outputs[0], "Cast")
        if source is None or cast is None or cast.attributes.get("to") != FLOAT or not self.known(inputs[1], inputs[3]):
            return None
        chain, scales = [step, cast], [source.outputs[1]]
        weight_scale, last = "", cast
        while scales or not weight_scale:
            product = self.only_reader(last.outputs[0], "Mul")
            if product is None:
                return None
            other = next(name for name in product.inputs if name != last.outputs[0])
            for factor in self.factors(other):
                if factor in scales:
                    scales.remove(factor)
                elif factor in self.constants and not weight_scale:
                    weight_scale = factor
                else:
                    return None
            chain.append(product)
            last = product
        weight = (inputs[1], weight_scale, inputs[3])
        if not self.fits(step.kind, weight):
            return None
        kind, attributes = PRODUCTS[step.kind], dict(step.attributes)
        return Product(kind, attributes, source.inputs[0], weight, "", last.outputs[0], tuple(chain))

    def factors(self, name: str) -> tuple[str, ...]:
        """A scale, or the two whose product it is."""
        maker = self.makers.get(name)
        return maker.inputs if maker is not None and maker.kind == "Mul" else (name,)

    def fits(self, kind: str, weight: tuple[str, str, str]) -> bool:
        """A matrix or a kernel with one scale, or with one per output of a matrix."""
        stored, scale = self.constants[weight[0]].tensor, self.constants[weight[1]].tensor
        if kind == "ConvInteger":
            return scale.numel() == 1
        return stored.dim() == 2 and scale.numel() in (1, stored.shape[1])

    def direct(self, step: Step) -> Product | None:
        """onnxruntime's fused forms."""
        if step.kind.endswith("DynamicQuantizeMatMul"):
            x, weight, scale, zero, bias = (*step.inputs, *[""] * 5)[:5]
        else:
            whole, weight, x_scale, scale, x_zero, zero, bias = (*step.inputs, *[""] * 7)[:7]
            quantizer = self.quantizer(whole, x_zero)
            if quantizer is None or quantizer.outputs[1] != x_scale:
                return None
            x = quantizer.inputs[0]
        facts = (weight, scale, zero)
        if not (weight and scale and self.known(*facts, bias)) or not self.fits(step.kind, facts):
            return None
        return Product("MatMul", {}, x, facts, bias, step.outputs[0], (step,))

    def quantizer(self, whole: str, zero: str) -> Step | None:
        """The DynamicQuantizeLinear that made these integers and their zero point."""
        step = self.makers.get(whole)
        fits = step is not None and step.kind == "DynamicQuantizeLinear" and whole == step.outputs[0]
        return step if fits and step is not None and zero == step.outputs[2] else None

    def known(self, *names: str) -> bool:
        return all(not name or name in self.constants for name in names)

    def only_reader(self, name: str, kind: str) -> Step | None:
        """The one step that reads a value, if it is of that kind."""
        readers = self.readers.get(name, [])
        single = len(readers) == 1 and self.reads[name] == 1 and readers[0].kind == kind
        return readers[0] if single else None
