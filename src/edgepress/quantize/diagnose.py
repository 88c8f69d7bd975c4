"""Which layer is at fault, and why: noise of a quantized program, node by node, against the float one.

Signal-to-quantization-noise ratio of a value: 10 log10(E[x^2] / E[(x - x_q)^2]), in dB; 6 dB are one bit.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.fx import Node

from edgepress.ir.program import Program
from edgepress.ir.quant_plan import ActivationPoint, Grid, QuantPlan
from edgepress.ir.text import op_name
from edgepress.passes.learn_scales import plan_of
from edgepress.quantize import operands
from edgepress.quantize.calibrate import Batch
from edgepress.quantize.qparams import nearest, rounded_weight
from edgepress.quantize.round_layers import gather
from edgepress.quantize.walk import Walk

NOISELESS_DB = 200.0  # stands for "no difference at all": infinite values do not survive JSON
SAMPLES = 64
SUSPECT_DB = 15.0  # noise of 3 % of the energy; below this a value has lost what two to three bits can say


@dataclass(frozen=True)
class NodeNoise:
    """Noise at one node.

    Attributes:
        node, op, layer: which. sqnr_db: of its value, with all noise from before it.
        weight_db: of its output when only its weight is quantized; `None` without a quantized weight.
        rounding_db: of its value when only that is rounded to its own grid; `None` if it has none.
        clipped: share of its float values outside the grid. used: share of the grid its float values span.
        cause: `weight`, `clipping`, `coarse grid` or `inherited`: the largest part of the noise.
    """

    node: str
    op: str
    layer: str
    sqnr_db: float
    weight_db: float | None
    rounding_db: float | None
    clipped: float | None
    used: float | None
    cause: str


@dataclass(frozen=True)
class Diagnosis:
    """All nodes that compute on integers, in order of execution.

    Attributes:
        nodes: their noise. output_db: of the program's first output. first_bad: the first node below `SUSPECT_DB` that
            does not merely hand on noise, or "".
    """

    nodes: tuple[NodeNoise, ...]
    output_db: float
    first_bad: str

    def to_text(self) -> str:
        """A table, one line per node."""
        lines = [f"{'node':28} {'layer':20} {'sqnr':>6} {'weight':>7} {'grid':>6} {'clipped':>8} {'used':>5}  cause"]
        lines += [_line(n) for n in self.nodes]
        lines.append(f"output {self.output_db:.1f} dB; first bad node: {self.first_bad or 'none'}")
        return "\n".join(lines) + "\n"

    def in_words(self) -> str:
        """One line: the output's ratio, and the first bad node with the cause."""
        bad = next((n for n in self.nodes if n.node == self.first_bad), None)
        if bad is None:
            return f"output {self.output_db:.1f} dB above the noise, no bad layer"
        where = f"{bad.node} ({bad.layer})" if bad.layer else bad.node
        found = f"first bad layer {where}: {bad.cause}, {bad.sqnr_db:.1f} dB"
        return f"output {self.output_db:.1f} dB above the noise; {found}"

    def worst(self, count: int) -> tuple[NodeNoise, ...]:
        """The nodes whose own weight or grid adds most noise, worst first."""
        return tuple(sorted(self.nodes, key=_own_db)[:count])


def diagnose(reference: Program, quantized: Program, batches: Iterable[Batch], *, samples: int = SAMPLES) -> Diagnosis:
    """Walk both programs in step over the same samples.

    Args:
        reference: the float program that `quantized` was placed for (see `post_training.prepare`).
    """
    inputs = gather(batches, samples)
    plan = plan_of(quantized)
    walks = Walk(reference, inputs), Walk(quantized, inputs)
    wanted = set(plan.quantized)
    found = [_noise(reference, plan, node, *walks) for node in reference.nodes if node.name in wanted]
    output = sqnr(first_output(reference(*inputs)), first_output(quantized(*inputs)))
    return diagnosis(tuple(found), output)


def diagnosis(nodes: tuple[NodeNoise, ...], output_db: float) -> Diagnosis:
    """The diagnosis of nodes in order of execution: names the first bad one."""
    bad = next((n.node for n in nodes if n.sqnr_db < SUSPECT_DB and n.cause != "inherited"), "")
    return Diagnosis(nodes, output_db, bad)


@dataclass
class Ratio:
    """A signal-to-noise ratio over several batches."""

    power: float = 0.0
    noise: float = 0.0

    def add(self, signal: torch.Tensor, noisy: torch.Tensor) -> None:
        """Take a batch into account."""
        self.noise += float((signal.double() - noisy.double()).square().sum())
        self.power += float(signal.double().square().sum())

    def unbounded_db(self) -> float:
        """The ratio in dB: infinite without noise, minus infinite without a signal or if the noise is no number."""
        if self.noise == 0.0:
            return math.inf
        if self.power == 0.0 or not math.isfinite(self.noise):
            return -math.inf
        return 10 * math.log10(self.power / self.noise)

    def decibels(self) -> float:
        """The same between -200 and 200."""
        return max(-NOISELESS_DB, min(NOISELESS_DB, self.unbounded_db()))


def sqnr(signal: torch.Tensor, noisy: torch.Tensor) -> float:
    """Signal-to-noise ratio in dB, between -200 and 200."""
    ratio = Ratio()
    ratio.add(signal, noisy)
    return ratio.decibels()


def _noise(program: Program, plan: QuantPlan, node: Node, reference: Walk, quantized: Walk) -> NodeNoise:
    here, there = reference.until(node.name), quantized.until(node.name)
    assert here is not None and there is not None
    arguments = reference.arguments(here)
    reference.compute(here)
    quantized.compute(there)
    value, noisy = first_output(reference.values[here]), first_output(quantized.values[there])
    point = plan.activation(node.name)
    weight_db = _weight_only(program, plan, node, arguments, value)
    rounding_db, clipped, used = _grid_use(point, value)
    total = sqnr(value, noisy)
    return NodeNoise(
        node=node.name,
        op=op_name(node),
        layer=operands.layer_of(program, node),
        sqnr_db=total,
        weight_db=weight_db,
        rounding_db=rounding_db,
        clipped=clipped,
        used=used,
        cause=noise_cause(total, weight_db, rounding_db, clipped),
    )


def _weight_only(
    program: Program, plan: QuantPlan, node: Node, arguments: tuple[object, ...], value: torch.Tensor
) -> float | None:
    place = operands.weighted(program, node)
    if place is None:
        return None
    weight = plan.weight(program.state_names()[operands.argument(node, place.weight).name])
    if weight is None:
        return None
    changed = list(arguments)
    tensor = changed[place.weight]
    assert isinstance(tensor, torch.Tensor)
    changed[place.weight] = rounded_weight(tensor, weight)
    with torch.no_grad():
        return sqnr(value, first_output(node.target(*changed)))  # type: ignore[operator]


def _grid_use(point: ActivationPoint | None, value: torch.Tensor) -> tuple[float | None, float | None, float | None]:
    """(noise of rounding alone in dB, share clipped, share of the grid in use)."""
    if point is None or point.scale is None:
        return None, None, None
    steps = value / point.scale + point.zero_point
    inside = nearest(steps, point.grid)
    clipped = float(((steps < point.grid.low - 0.5) | (steps > point.grid.high + 0.5)).float().mean())
    return sqnr(value, (inside - point.zero_point) * point.scale), clipped, _share(inside, point.grid)


def _share(integers: torch.Tensor, grid: Grid) -> float:
    return float(integers.max() - integers.min()) / grid.steps


def noise_cause(total: float, weight: float | None, rounding: float | None, clipped: float | None) -> str:
    """The largest part of the noise of a node; `inherited` where its own parts are small beside what reached it."""
    own = {"weight": weight, "coarse grid": rounding}
    present = {name: db for name, db in own.items() if db is not None}
    worst = min(present, key=lambda name: present[name], default="")
    if not worst or present[worst] > total + 6:
        return "inherited"
    return "clipping" if worst == "coarse grid" and (clipped or 0) > 1e-3 else worst


def _own_db(noise: NodeNoise) -> float:
    return min(v for v in (noise.weight_db, noise.rounding_db, NOISELESS_DB) if v is not None)


def first_output(outputs: object) -> torch.Tensor:
    """The first output of a network, or of a layer, that returns one tensor, or several: of an LSTM its sequence."""
    first = outputs[0] if isinstance(outputs, list | tuple) else outputs
    assert isinstance(first, torch.Tensor)
    return first


def _line(n: NodeNoise) -> str:
    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        f"{n.node:28} {n.layer[-20:]:20} {n.sqnr_db:6.1f} "
        f"{cell(n.weight_db, '.1f'):>7} {cell(n.rounding_db, '.1f'):>6} "
        f"{cell(n.clipped, '.3%'):>8} {cell(n.used, '.0%'):>5}  {n.cause}"
    )
