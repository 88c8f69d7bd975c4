"""Layer by layer, with the inputs each layer really gets: compensate, choose scales, round, correct the bias.

Both networks are walked in step over the same samples. At each layer the float network says what its output should be;
the quantized one says what its input is, with the errors of all layers before it. Closed forms only, no gradients.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import QuantPlan, WeightPoint
from edgepress.passes.insert_qdq import insert_qdq
from edgepress.quantize import gptq, operands
from edgepress.quantize.calibrate import Batch, scale_weights
from edgepress.quantize.moments import Moments, as_matrices, centred, from_matrices, moments
from edgepress.quantize.walk import Walk

REFITS = 4  # rounds of: fit the scale to the integers, round again
DESCENTS = 3  # rounds of: improve the integers one by one, fit the scale to them


@dataclass(frozen=True)
class Rounded:
    """What rounding gives back.

    Attributes:
        program: float program whose weights lie on their grids. plan: with the scales of those grids.
        improvement: layer's tensor -> output error of rounding to nearest divided by the error now.
    """

    program: Program
    plan: QuantPlan
    improvement: Mapping[str, float]


@dataclass(frozen=True)
class RoundedLayer:
    """One layer, rounded: its weight on the grid, the grid's scales, the bias, and by how much the error fell."""

    weight: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None
    improvement: float


def round_layers(program: Program, plan: QuantPlan, batches: Iterable[Batch], *, samples: int = 256) -> Rounded:
    """Choose integers of every weight of a calibrated plan.

    Args:
        program: the prepared float program the plan was placed for.
        batches: data; the first `samples` are held in memory together, since layers are taken one at a time.
    """
    inputs = gather(batches, samples)
    reference, quantized = Walk(program, inputs), Walk(insert_qdq(program, plan).program, inputs)
    by_node = {point.nodes[0]: point for point in multiplied(program, plan)}
    found: dict[str, RoundedLayer] = {}
    biases: dict[str, torch.Tensor] = {}
    for node in [n for n in program.nodes if n.name in by_node]:
        point = by_node[node.name]
        layer = _round_one(program, point, reference, quantized, node)
        found[point.tensor] = layer
        if layer.bias is not None:
            biases[_bias_name(program, node)] = layer.bias
    state = {name: layer.weight for name, layer in found.items()} | biases
    rounded = program.with_state(state, note=f"rounded {len(found)} weights by layer output")
    scales = {name: layer.scales for name, layer in found.items()}
    return Rounded(rounded, scale_weights(rounded, plan, scales), {n: x.improvement for n, x in found.items()})


def multiplied(program: Program, plan: QuantPlan) -> list[WeightPoint]:
    """The weights that activations are multiplied with: all but tables."""
    layers = {node.name for node in program.nodes if operands.weighted(program, node) is not None}
    return [point for point in plan.weights if point.nodes[0] in layers]


def gather(batches: Iterable[Batch], samples: int) -> tuple[torch.Tensor, ...]:
    """The first `samples` samples as one batch."""
    kept: list[Batch] = []
    count = 0
    for batch in batches:
        kept.append(batch)
        count += len(batch[0])
        if count >= samples:
            break
    return tuple(torch.cat([torch.as_tensor(t) for t in column])[:samples] for column in zip(*kept, strict=True))


def _round_one(program: Program, point: WeightPoint, reference: Walk, quantized: Walk, node: Node) -> RoundedLayer:
    here, there = reference.until(node.name), quantized.until(node.name)
    assert here is not None and there is not None
    weight = program.state()[point.tensor].detach()
    seen = moments(node, reference.arguments(here)[0], quantized.arguments(there)[0], weight)
    bias = _own_bias(program, node)
    layer = solve_layer(node, point, weight, bias, centred(seen) if bias is not None else seen)
    arguments = list(quantized.arguments(there))
    place = operands.weighted(program, node)
    assert place is not None
    arguments[place.weight] = layer.weight
    if layer.bias is not None and place.bias is not None:
        arguments[place.bias] = layer.bias
    quantized.compute(there, tuple(arguments))
    reference.compute(here)
    return layer


def solve_layer(
    node: Node, point: WeightPoint, weight: torch.Tensor, bias: torch.Tensor | None, seen: Moments
) -> RoundedLayer:
    """One weight rounded for its output.

    Args:
        bias: what takes up the means, or `None`; `seen` is centred then (see `moments.centred`).
    """
    original = as_matrices(node, weight.double())
    target = gptq.compensated(original, seen.second, seen.cross)
    scales, steps, integers = _in_blocks(target, seen, point) if point.block else _in_rows(target, seen, point)
    values = integers * steps
    nearest = torch.clamp(torch.round(target / steps), point.grid.low, point.grid.high) * steps
    errors = [gptq.output_error(target - v, seen.second).sum() for v in (nearest, values)]
    fresh = None
    if bias is not None:
        shift = torch.einsum("grc,gc->gr", original, seen.reference_mean) - torch.einsum(
            "grc,gc->gr", values, seen.mean
        )
        fresh = (bias.double() + shift.reshape(-1)).to(bias.dtype)
    gain = float(errors[0] / errors[1].clamp_min(1e-30)) if float(errors[0]) > 0 else 1.0
    return RoundedLayer(from_matrices(node, values, weight), scales.float(), fresh, gain)


def _in_rows(target: torch.Tensor, seen: Moments, point: WeightPoint) -> tuple[torch.Tensor, ...]:
    """(scales to store, the same spread over the weight, integers) with a scale per row, or one in all."""
    per_row = point.axis is not None
    scales = gptq.best_scales(target, seen.second, point.grid)
    scales = scales if per_row else scales.amax().expand_as(scales)
    order = gptq.column_order(seen.second)
    integers = gptq.round_columns(target, order, scales, point.grid)
    for _ in range(REFITS if per_row else 0):
        scales = gptq.fitted_scales(target, seen.second, integers, scales)
        integers = gptq.round_columns(target, order, scales, point.grid)
    for _ in range(DESCENTS):
        integers = gptq.descended(target, seen.second, integers, scales, point.grid)
        if per_row:
            scales = gptq.fitted_scales(target, seen.second, integers, scales)
    scales = scales.float().double()  # what is stored
    kept = scales.reshape(-1) if per_row else scales.reshape(-1)[:1]
    return kept, scales[:, :, None], integers


def _in_blocks(target: torch.Tensor, seen: Moments, point: WeightPoint) -> tuple[torch.Tensor, ...]:
    """The same with a scale per block of columns."""
    assert point.block is not None
    scales = gptq.best_block_scales(target, seen.second, point.grid, point.block).float().double()
    steps = scales.repeat_interleave(point.block, 2)
    integers = gptq.round_columns(target, gptq.column_order(seen.second), steps, point.grid)
    return scales.reshape(-1), steps, gptq.descended(target, seen.second, integers, steps, point.grid)


def _own_bias(program: Program, node: Node) -> torch.Tensor | None:
    """The bias of a layer, if it has one that no other layer reads."""
    place = operands.weighted(program, node)
    bias = operands.argument(node, place.bias) if place else None
    if not isinstance(bias, Node) or len(bias.users) != 1:
        return None
    return program.tensor_of(bias)


def _bias_name(program: Program, node: Node) -> str:
    place = operands.weighted(program, node)
    assert place is not None
    return program.state_names()[operands.argument(node, place.bias).name]
