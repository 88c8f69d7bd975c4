"""Recognise layers: steps whose weights are known become the operators that pruning and quantization look for.

Gemm and MatMul(+Add) become `linear`, a recurrent node gets torch's weight layout, a bias added after a convolution
joins it, and the chains that exporters write for layer normalisation and GELU become single operators. Each rule
looks at one step and its readers, and answers with the steps that replace them, or `None`.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from edgepress.importers.onnx.bounds import bounded
from edgepress.importers.onnx.entry import Operator
from edgepress.importers.onnx.graph import Body, Network, Step
from edgepress.importers.onnx.ops import einsum
from edgepress.importers.onnx.ops.quant import dequantize
from edgepress.importers.onnx.ops.recurrent import GATES, cell_of, torch_weights
from edgepress.importers.onnx.table import find
from edgepress.importers.onnx.values import Constant

GRID_TYPES = {torch.uint8: 2, torch.int8: 3, torch.int32: 6}
BIAS_TYPE = 6
LINEAR = ("edgepress::Linear", "edgepress::QuantizedLinear")


def recognise_layers(network: Network) -> Network:
    """Apply every rule to the main body and the bodies within, until nothing changes any more."""
    work = Workspace(network)
    body = work.rewrite(network.body)
    used = set(body.reads())
    constants = {name: constant for name, constant in work.constants.items() if name in used}
    return replace(network, body=body, constants=constants)


class Workspace:
    """Constants, and who reads what, while steps are replaced."""

    def __init__(self, network: Network) -> None:
        self.constants = dict(network.constants)
        self.reads = Counter(network.body.reads())
        self.made: dict[tuple[str, ...], str] = {}
        self.makers: dict[str, Step] = {}

    def rewrite(self, body: Body) -> Body:
        """The body with its layers recognised."""
        steps = tuple(self.inner(step) for step in body.steps)
        steps = tuple(kept for step in steps if (kept := self.on_grid(step)) is not None)
        for rule in RULES:
            steps = self.apply(rule, steps)
        return Body(body.inputs, body.outputs, steps)

    def inner(self, step: Step) -> Step:
        attributes = {k: self.rewrite(v) if isinstance(v, Body) else v for k, v in step.attributes.items()}
        return replace(step, attributes=attributes) if any(step.bodies()) else step

    def apply(self, rule: "Rule", steps: tuple[Step, ...]) -> tuple[Step, ...]:
        self.makers = {name: step for step in steps for name in step.outputs if name}
        position = {id(step): index for index, step in enumerate(steps)}
        replaced: dict[int, Step | None] = {}
        for index, step in enumerate(steps):
            found = self.ask(rule, step)
            if found is None:
                continue
            new, absorbed = found
            if any(replaced.get(position[id(old)], old) is not old for old in absorbed):
                continue  # part of another layer already
            replaced[index] = new
            replaced.update({position[id(old)]: None for old in absorbed})
            self.makers.update(dict.fromkeys(new.outputs, new))
            position[id(new)] = index
        kept = (replaced.get(index, step) for index, step in enumerate(steps))
        return tuple(step for step in kept if step is not None)

    def on_grid(self, step: Step) -> Step | None:
        """The step with a stored integer weight made trainable; `None` if its result is a constant."""
        try:
            return quantized_weight(self, step)
        except (RuntimeError, ValueError, IndexError):
            return step

    def ask(self, rule: "Rule", step: Step) -> "Found":
        """A rule's answer. Weights of impossible shapes are no layer: the node itself says so when it is run."""
        try:
            return rule(self, step)
        except (RuntimeError, ValueError, IndexError):
            return None

    def tensor(self, name: str) -> Tensor | None:
        """The value of a constant, or `None` if it is none."""
        constant = self.constants.get(name)
        return None if constant is None else constant.tensor

    def add(self, key: tuple[str, ...], tensor: Callable[[], Tensor]) -> str:
        """A derived constant; the same one for the same key, so that shared weights stay shared."""
        if key not in self.made:
            name = key[0] if key[0] not in self.constants else f"{key[0]}::{'::'.join(key[1:])}"
            self.constants[name] = Constant(name, tensor())
            self.made[key] = name
        return self.made[key]

    def transposed(self, name: str) -> str:
        """A matrix turned to (outputs, inputs)."""
        return self.add((f"{name}", "transposed"), lambda: self.constants[name].tensor.t().contiguous())

    def maker(self, name: str, kind: str | tuple[str, ...]) -> Step | None:
        """The step of that kind that makes a value, if nothing else reads the value."""
        step = self.makers.get(name)
        kinds = (kind,) if isinstance(kind, str) else kind
        return step if step is not None and step.kind in kinds and self.reads[name] == 1 else None

    def scalar(self, name: str) -> float | None:
        """A constant of one element as number."""
        tensor = self.tensor(name)
        return float(tensor.reshape(-1)[0]) if tensor is not None and tensor.numel() == 1 else None


Found = tuple[Step, tuple[Step, ...]] | None
Rule = Callable[[Workspace, Step], Found]
"""(workspace, step) -> (new step in its place, steps it absorbs), or `None` where it does not apply."""


def quantized_weight(work: Workspace, step: Step) -> Step | None:
    """A stored integer weight becomes a float one on its grid, which can be trained; a stored bias becomes float."""
    inputs = [work.tensor(name) for name in step.inputs]
    if step.kind != "DequantizeLinear" or len(inputs) < 2 or inputs[0] is None or inputs[1] is None:
        return step
    kind = GRID_TYPES.get(inputs[0].dtype)
    blocked = step.attributes.get("block_size", 0) or inputs[1].dim() > 1
    if kind is None or blocked or (len(inputs) > 2 and step.inputs[2] and inputs[2] is None):
        return step
    zero = inputs[2] if len(inputs) > 2 and inputs[2] is not None else torch.zeros_like(inputs[1])
    axis = step.attributes.get("axis", 1) % max(inputs[0].dim(), 1)
    weight = dequantize(inputs[0], inputs[1], zero, axis=axis)
    if kind == BIAS_TYPE:
        work.constants[step.outputs[0]] = Constant(step.outputs[0], weight)
        return None
    name, offset = f"{step.inputs[0]}::float", f"{step.inputs[0]}::zero"
    work.constants[name] = Constant(name, weight)
    work.constants[offset] = Constant(offset, zero.to(torch.int64))
    operator = _operator("edgepress::QuantizedWeight")
    attributes = {"axis": axis, "zero_type": kind}
    return Step(
        step.name, "edgepress::QuantizedWeight", operator, (name, step.inputs[1], offset), step.outputs, attributes
    )


def _operator(kind: str) -> Operator:
    entry = find(kind)
    assert isinstance(entry, Operator)
    return entry


def _is_float(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.dtype.is_floating_point


def _linear(step: Step, inputs: tuple[str, ...]) -> Step:
    return Step(step.name, "edgepress::Linear", _operator("edgepress::Linear"), inputs, step.outputs)


def gemm_to_linear(work: Workspace, step: Step) -> Found:
    """Gemm(A, B, C) with constant B (and C constant, a row or a number)."""
    if step.kind != "Gemm" or step.attributes.get("transA", 0):
        return None
    weight, factors = work.tensor(step.inputs[1]), (step.attributes.get("alpha", 1.0), step.attributes.get("beta", 1.0))
    if weight is None or weight.dim() != 2 or not _is_float(weight):
        return None
    name = step.inputs[1] if step.attributes.get("transB", 0) else work.transposed(step.inputs[1])
    if factors[0] != 1.0:
        source = name
        name = work.add((source, f"times {factors[0]}"), lambda: work.constants[source].tensor * factors[0])
    if len(step.inputs) < 3 or not step.inputs[2]:
        return _linear(step, (step.inputs[0], name)), ()
    bias = row_bias(work, step.inputs[2], work.constants[name].tensor.shape[0], factors[1])
    return None if bias is None else (_linear(step, (step.inputs[0], name, bias)), ())


def row_bias(work: Workspace, name: str, outputs: int, factor: float = 1.0) -> str | None:
    """A constant that adds the same row to every row, as a vector of `outputs` elements."""
    tensor = work.tensor(name)
    if tensor is None or tensor.numel() not in (1, outputs) or not _is_float(tensor):
        return None
    if (tensor.dim() and tensor.shape[-1] not in (1, outputs)) or (tensor.numel() != 1 and tensor.shape[-1] == 1):
        return None
    if tensor.shape == (outputs,) and factor == 1.0:
        return name
    return work.add(
        (name, f"row {outputs} times {factor}"), lambda: (tensor.reshape(-1) * factor).expand(outputs).clone()
    )


def matmul_to_linear(work: Workspace, step: Step) -> Found:
    """MatMul(x, W) with a constant matrix W."""
    if step.kind != "MatMul" or step.inputs[0] in work.constants:
        return None
    weight = work.tensor(step.inputs[1])
    if weight is None or weight.dim() != 2 or not _is_float(weight):
        return None
    return _linear(step, (step.inputs[0], work.transposed(step.inputs[1]))), ()


def einsum_to_layer(work: Workspace, step: Step) -> Found:
    """Einsum(x, W) or Einsum(W, x) with a constant W that shares only summed letters with x."""
    if step.kind != "Einsum" or len(step.inputs) != 2:
        return None
    x, name = step.inputs
    equation = str(step.attributes["equation"])
    if x in work.constants:
        x, name = name, x
        equation = ",".join(reversed(einsum.terms(equation))) + equation[equation.find("->") :] * ("->" in equation)
    found, weight = einsum.parse(equation), work.tensor(name)
    if found is None or found.batch or weight is None or x in work.constants or not _is_float(weight):
        return None
    sizes = tuple(weight.shape[found.second.index(letter)] for letter in found.right)
    matrix = work.add((name, f"layer of {found.second}-{found.right}{found.summed}"),
                      lambda: einsum.layer_weight(found, weight))  # fmt: skip
    kind = "edgepress::EinsumLayer"
    attributes = {"equation": equation, "sizes": sizes}
    return Step(step.name, kind, _operator(kind), (x, matrix), step.outputs, attributes), ()


def quantized_matmul_to_linear(work: Workspace, step: Step) -> Found:
    """MatMul(x, W) with a matrix W on an integer grid."""
    grid = work.maker(step.inputs[1], "edgepress::QuantizedWeight") if step.kind == "MatMul" else None
    if grid is None or work.constants[grid.inputs[0]].tensor.dim() != 2:
        return None
    scale, zero = grid.inputs[1:]
    inputs = (step.inputs[0], work.transposed(grid.inputs[0]), "", scale, zero)
    attributes = {**grid.attributes, "axis": 1 - grid.attributes["axis"]}
    kind = "edgepress::QuantizedLinear"
    return Step(step.name, kind, _operator(kind), inputs, step.outputs, attributes), (grid,)


def quantized_rows(work: Workspace, step: Step) -> Found:
    """DequantizeLinear(Gather(integer table, rows)): the table becomes a float one on its grid, like any weight."""
    rows = work.maker(step.inputs[0], "Gather") if step.kind == "DequantizeLinear" else None
    table = work.tensor(rows.inputs[0]) if rows else None
    scale, zero = (work.tensor(name) for name in (*step.inputs, "")[1:3])
    if rows is None or table is None or table.dtype not in GRID_TYPES or scale is None or scale.numel() != 1:
        return None
    offset = torch.zeros_like(scale) if zero is None else zero
    name, at = (f"{rows.inputs[0]}::{part}" for part in ("float", "zero"))
    work.constants[name] = Constant(name, dequantize(table, scale, offset))
    work.constants[at] = Constant(at, offset.to(torch.int64))
    attributes = {"axis": rows.attributes.get("axis", 0), "zero_type": GRID_TYPES[table.dtype]}
    kind = "edgepress::QuantizedRows"
    inputs = (name, rows.inputs[1], step.inputs[1], at)
    return Step(rows.name, kind, _operator(kind), inputs, step.outputs, attributes), (rows,)


def fused_attention(work: Workspace, step: Step) -> Found:
    """Attention with its three projections in one constant matrix, which then lies as in a linear layer."""
    weight = work.tensor(step.inputs[1]) if step.kind == "com.microsoft::Attention" else None
    if weight is None or weight.dim() != 2:
        return None
    inputs = (step.inputs[0], work.transposed(step.inputs[1]), *step.inputs[2:])
    return replace(step, kind="edgepress::Attention", operator=_operator("edgepress::Attention"), inputs=inputs), ()


def add_bias(work: Workspace, step: Step) -> Found:
    """Add(linear or convolution without bias, constant per output)."""
    if step.kind != "Add":
        return None
    for value, other in (step.inputs, step.inputs[::-1]):
        layer = work.maker(value, (*LINEAR, "Conv", "ConvTranspose"))
        if layer is None or (len(layer.inputs) > 2 and layer.inputs[2]):
            continue
        bias = _layer_bias(work, layer, other)
        if bias is not None:
            return replace(layer, inputs=(*layer.inputs[:2], bias, *layer.inputs[3:]), outputs=step.outputs), (layer,)
    return None


def _layer_bias(work: Workspace, layer: Step, name: str) -> str | None:
    weight, bias = work.tensor(layer.inputs[1]), work.tensor(name)
    if weight is None or bias is None or bias.dtype != weight.dtype:
        return None
    if layer.kind in LINEAR:
        return row_bias(work, name, weight.shape[0]) if bias.dim() <= 1 or bias.numel() == bias.shape[-1] else None
    group = layer.attributes.get("group", 1)
    channels = weight.shape[0] if layer.kind == "Conv" else weight.shape[1] * group
    spatial = weight.dim() - 2
    aligned = [1] * (spatial + 2 - bias.dim()) + list(bias.shape)
    if aligned != [1, channels, *[1] * spatial]:
        return None
    return work.add((name, f"channels {channels}"), lambda: bias.reshape(-1).clone())


def recurrent_layer(work: Workspace, step: Step) -> Found:
    """LSTM, GRU or RNN with constant weights that torch computes the same way."""
    if step.kind not in GATES:
        return None
    inputs = (*step.inputs, *[""] * (8 - len(step.inputs)))
    w, r, b = (work.tensor(name) for name in inputs[1:4])
    ragged, peepholes = bool(inputs[4]) and inputs[4] not in work.constants, bool(inputs[7])
    cell = cell_of(step.kind, dict(step.attributes))
    if w is None or r is None or (inputs[3] and b is None) or ragged or peepholes or not cell.torch_has_it():
        return None
    flat = torch_weights(step.kind, w, r, b)
    names = tuple(
        work.add((step.name, step.outputs[0] or step.name, str(i)), tensor.contiguous) for i, tensor in enumerate(flat)
    )
    kind = f"edgepress::{step.kind}"
    new_inputs = (inputs[0], inputs[4], inputs[5], inputs[6], *names)
    return replace(step, kind=kind, operator=_operator(kind), inputs=new_inputs), ()


def channel_slopes(work: Workspace, step: Step) -> Found:
    """PRelu with a constant slope (C, 1, ...): a plain vector, which torch's prelu takes as it is."""
    slope = work.tensor(step.inputs[1]) if step.kind == "PRelu" else None
    if slope is None or slope.dim() < 2 or slope.shape[0] != slope.numel():
        return None
    name = work.add((step.inputs[1], "vector"), lambda: slope.reshape(-1).clone())
    new = replace(step, kind="edgepress::PRelu", operator=_operator("edgepress::PRelu"))
    return replace(new, inputs=(step.inputs[0], name), attributes={"rank": slope.dim()}), ()


def layer_norm(work: Workspace, step: Step) -> Found:
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias over the last axis."""
    if step.kind != "Add":
        return None
    for value, bias in (step.inputs, step.inputs[::-1]):
        scaled = work.maker(value, "Mul")
        if scaled is None or bias not in work.constants:
            continue
        for normal, scale in (scaled.inputs, scaled.inputs[::-1]):
            core = _normalised(work, normal)
            if core is not None and _fits_last_axis(work, scale, bias):
                source, epsilon, absorbed = core
                attributes = {"axis": -1, "epsilon": epsilon}
                operator = _operator("LayerNormalization")
                new = Step(step.name, "LayerNormalization", operator, (source, scale, bias), step.outputs, attributes)
                return new, (scaled, *absorbed)
    return None


def _fits_last_axis(work: Workspace, scale: str, bias: str) -> bool:
    a, b = work.tensor(scale), work.tensor(bias)
    return a is not None and b is not None and a.dim() == b.dim() == 1 and a.shape == b.shape


def _normalised(work: Workspace, name: str) -> tuple[str, float, tuple[Step, ...]] | None:
    """(x, epsilon, steps) of Div(Sub(x, mean), Sqrt(Add(mean(square), epsilon)))."""
    divided = work.maker(name, "Div")
    root = work.maker(divided.inputs[1], "Sqrt") if divided else None
    shifted = work.maker(root.inputs[0], "Add") if root else None
    if divided is None or root is None or shifted is None:
        return None
    centred = work.makers.get(divided.inputs[0])
    for value, constant in (shifted.inputs, shifted.inputs[::-1]):
        epsilon = work.scalar(constant)
        variance = work.maker(value, "ReduceMean")
        if epsilon is None or variance is None or centred is None or not _over_last_axis(work, variance):
            continue
        found = _centred(work, centred, variance)
        if found is not None:
            return found[0], epsilon, (divided, root, shifted, variance, *found[1])
    return None


def _centred(work: Workspace, centred: Step, variance: Step) -> tuple[str, tuple[Step, ...]] | None:
    square = work.maker(variance.inputs[0], ("Pow", "Mul"))
    if square is None or centred.kind != "Sub" or square.inputs[0] != centred.outputs[0]:
        return None
    squares = work.scalar(square.inputs[1]) == 2.0 if square.kind == "Pow" else square.inputs[1] == square.inputs[0]
    mean = work.maker(centred.inputs[1], "ReduceMean")
    expected_reads = 2 if square.kind == "Pow" else 3
    if not squares or mean is None or mean.inputs[0] != centred.inputs[0] or not _over_last_axis(work, mean):
        return None
    if work.reads[centred.outputs[0]] != expected_reads:
        return None
    return centred.inputs[0], (square, centred, mean)


def _over_last_axis(work: Workspace, step: Step) -> bool:
    axes: Any = step.attributes.get("axes")
    if axes is None and len(step.inputs) > 1:
        tensor = work.tensor(step.inputs[1])
        axes = None if tensor is None else tensor.reshape(-1).tolist()
    return axes is not None and list(axes) == [-1] and step.attributes.get("keepdims", 1) == 1


def gelu(work: Workspace, step: Step) -> Found:
    """x * 0.5 * (1 + erf(x / sqrt(2))), multiplied in any order."""
    if step.kind != "Mul":
        return None
    factors, absorbed = _factors(work, step)
    halves = [name for name in factors if work.scalar(name) == 0.5]
    sums = [name for name in factors if work.maker(name, "Add") is not None]
    others = [name for name in factors if name not in halves and name not in sums]
    if len(halves) != 1 or len(sums) != 1 or len(others) != 1:
        return None
    inner = _erf_sum(work, sums[0], others[0])
    if inner is None:
        return None
    operator = _operator("Gelu")
    return Step(step.name, "Gelu", operator, (others[0],), step.outputs), (*absorbed, *inner)


def _factors(work: Workspace, step: Step) -> tuple[list[str], tuple[Step, ...]]:
    """The factors of a product of up to two Mul steps."""
    for value, other in (step.inputs, step.inputs[::-1]):
        inner = work.maker(value, "Mul")
        if inner is not None:
            return [*inner.inputs, other], (inner,)
    return list(step.inputs), ()


def _erf_sum(work: Workspace, name: str, source: str) -> tuple[Step, ...] | None:
    """The steps of 1 + erf(source / sqrt(2))."""
    added = work.maker(name, "Add")
    if added is None:
        return None
    for value, one in (added.inputs, added.inputs[::-1]):
        erf = work.maker(value, "Erf")
        scaled = work.maker(erf.inputs[0], ("Div", "Mul")) if erf else None
        if work.scalar(one) != 1.0 or erf is None or scaled is None or scaled.inputs[0] != source:
            continue
        factor = work.scalar(scaled.inputs[1])
        expected = 2**0.5 if scaled.kind == "Div" else 2**-0.5
        if factor is not None and abs(factor - expected) < 1e-4:
            return added, erf, scaled
    return None


RULES: tuple[Rule, ...] = (
    gemm_to_linear,
    matmul_to_linear,
    einsum_to_layer,
    quantized_matmul_to_linear,
    quantized_rows,
    fused_attention,
    add_bias,
    recurrent_layer,
    channel_slopes,
    layer_norm,
    gelu,
    bounded,
)
