"""The `QuantPlan`: which tensors become integers, on which grid, and which stay float and why. Data only.

A plan is made by `quantize.place`, filled with scales by calibration, and applied by `passes.insert_qdq`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

IntegerType = Literal["int8", "uint8", "int32", "float8e4m3fn"]


class PlanRecord(BaseModel):
    """Base of the records of a plan: frozen, strict, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Grid(PlanRecord):
    """The integers a tensor may take: `low..high`, stored as `dtype`. 4-bit weights are -7..7 in an int8.

    With `float8e4m3fn` the numbers of that format between `low` and `high`.
    """

    dtype: IntegerType
    low: int
    high: int
    symmetric: bool

    @property
    def steps(self) -> int:
        """Number of steps from the lowest to the highest integer."""
        return self.high - self.low


class ActivationPoint(PlanRecord):
    """One activation that is quantized: real = (integer - zero_point) * scale.

    Attributes:
        node: the node whose output it is.
        group: points of one group share one scale (reshape, max pooling, concatenation on some targets).
        source: whether calibration looks at it; a reshaped copy of a source need not be looked at again.
        readers: nodes that read the quantized value; empty means all of them.
        scale, zero_point: `None` and 0 until calibrated.
    """

    node: str
    group: str
    grid: Grid
    source: bool = True
    readers: tuple[str, ...] = ()
    scale: float | None = None
    zero_point: int = 0


class WeightPoint(PlanRecord):
    """One weight that is quantized, seen from the nodes that read it.

    Attributes:
        tensor: its name in the program's state. nodes: the readers.
        axis: the axis that has one scale per index, `None` for one scale in all.
        scales: one per index of `axis` (or one); empty until calibrated. Zero points are 0.
        block: so many neighbours along the last axis of a matrix share a scale; `None`: the whole row. With blocks
            `scales` holds a row's blocks one after the other, then the next row's.
        input: the activation point (node name) the reader multiplies it with, "" if that stays float.
        why: the reason for its width, where one was weighed against others.
    """

    tensor: str
    nodes: tuple[str, ...]
    axis: int | None
    grid: Grid
    block: int | None = None
    input: str = ""
    scales: tuple[float, ...] = ()
    why: str = ""


class BiasPoint(PlanRecord):
    """A bias on the accumulator's grid: int32 with scale = input scale x weight scale, zero point 0.

    Attributes:
        tensor: its name in the state. node: the reader. weight: tensor name of its weight.
    """

    tensor: str
    node: str
    weight: str
    scales: tuple[float, ...] = ()


class FloatNode(PlanRecord):
    """A node that stays float: what was found, and what would be needed to quantize it."""

    node: str
    op: str
    found: str
    needed: str


class QuantPlan(PlanRecord):
    """All decisions of a quantization.

    Attributes:
        target: capability table it was placed for.
        quantized: nodes that compute on integers once a runtime has fused the graph.
        ranges: how the ranges of activations were chosen, where that was weighed.
    """

    target: str
    activations: tuple[ActivationPoint, ...] = ()
    weights: tuple[WeightPoint, ...] = ()
    biases: tuple[BiasPoint, ...] = ()
    quantized: tuple[str, ...] = ()
    float_nodes: tuple[FloatNode, ...] = ()
    ranges: str = ""

    def activation(self, node: str) -> ActivationPoint | None:
        """The point on the output of `node`, or `None`."""
        return next((p for p in self.activations if p.node == node), None)

    def weight(self, tensor: str) -> WeightPoint | None:
        """The point of the weight of that name, or `None`."""
        return next((p for p in self.weights if p.tensor == tensor), None)

    def groups(self) -> dict[str, list[ActivationPoint]]:
        """Activation points by group."""
        found: dict[str, list[ActivationPoint]] = {}
        for point in self.activations:
            found.setdefault(point.group, []).append(point)
        return found

    def to_text(self) -> str:
        """One line per decision, for people and diffs."""
        lines = [f"quantization for {self.target}: {len(self.quantized)} nodes on integers"]
        lines += [f"  ranges by {self.ranges}"] if self.ranges else []
        lines += [f"  activation {_activation_text(p)}" for p in self.activations]
        lines += [f"  weight {_weight_text(p)}" for p in self.weights]
        lines += [f"  bias {p.tensor}: int32, scale of {p.node}'s accumulator" for p in self.biases]
        lines += [f"  float {n.node} ({n.op}): {n.found} (needed: {n.needed})" for n in self.float_nodes]
        return "\n".join(lines) + "\n"


def _activation_text(point: ActivationPoint) -> str:
    scale = "not calibrated" if point.scale is None else f"scale {point.scale:.6g} zero {point.zero_point}"
    shared = "" if point.group == point.node else f", shares {point.group}"
    readers = f", for {', '.join(point.readers)}" if point.readers else ""
    return f"{point.node}: {_grid_text(point.grid)} {scale}{shared}{readers}"


def _weight_text(point: WeightPoint) -> str:
    spread = "per tensor" if point.axis is None else f"per index of axis {point.axis}"
    scales = f", scales {min(point.scales):.3g}..{max(point.scales):.3g}" if point.scales else ", not calibrated"
    blocks = f" in blocks of {point.block}" if point.block else ""
    why = f" ({point.why})" if point.why else ""
    return f"{point.tensor}: {_grid_text(point.grid)} {spread}{blocks}{scales}{why}"


def _grid_text(grid: Grid) -> str:
    return f"{grid.dtype}[{grid.low}..{grid.high}]"
