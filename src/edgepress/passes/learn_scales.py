"""Make the scales of a quantized program trainable, and take the trained scales back into its plan.

LSQ (Esser et al. 2020): quantize-dequantize becomes one node whose gradient reaches the weight (straight through where
the value is not clipped) and the scale (eq. 3), the latter damped by 1 / sqrt(values x largest integer). LSQ+ (Bhalgat
et al. 2020, eq. 4): so do the zero points of activations with values on both sides of zero. They are rounded whenever
they are used: the integer that is trained with is the one that ships.
"""

import math

import torch
from torch.fx import Node

from edgepress.errors import UserError
from edgepress.ir.edit import Editor
from edgepress.ir.program import PassResult, Program
from edgepress.ir.quant_ops import PER_TENSOR
from edgepress.ir.quant_plan import ActivationPoint, QuantPlan, WeightPoint
from edgepress.passes.insert_qdq import PLAN, insert_qdq
from edgepress.passes.strip_quantization import strip_quantization

LEARNED = torch.ops.edgepress.learned_quantize.default
PREFIX = "learned"
SMALLEST = 1e-12  # a scale that training drove to zero or beyond


def learn_scales(program: Program, *, offsets: bool = True) -> PassResult:
    """A quantized program in the form that is trained: every scale of a weight or activation is a parameter.

    Parameters are called `learned.<group or weight>_scale` and `learned.<group>_offset`. Biases train in float; their
    int32 grid follows from the scales in the end. See `fix_scales` for the way back.

    Args:
        offsets: whether zero points are parameters as well, where `has_offset`.

    Raises:
        UserError: the program carries no calibrated plan.
    """
    plan = plan_of(program)
    strange = next((w for w in plan.weights if w.block or w.grid.dtype not in ("int8", "uint8")), None)
    if strange:
        found = f"blocks in {strange.tensor}" if strange.block else f"{strange.tensor} in {strange.grid.dtype}"
        raise UserError("these scales cannot be trained", found=found,
                        expected="integers with a scale per channel or tensor",
                        fix="quantize for an integer target, without weight_block")  # fmt: skip
    editor = Editor(strip_quantization(program).program)
    grids: dict[str, tuple[Node, Node]] = {}
    for point in plan.activations:
        if point.group not in grids:
            grids[point.group] = _learned_grid(editor, point, offset=offsets and has_offset(point))
        _learn_activation(editor, point, grids[point.group])
    for weight in plan.weights:
        _learn_weight(editor, program, weight)
    changed = bool(plan.activations or plan.weights)
    return PassResult(editor.finish(note="made the scales trainable"), changed)


def fix_scales(program: Program) -> PassResult:
    """The trained program with its learned scales fixed: quantize/dequantize pairs again, the plan brought up to date.

    Raises:
        UserError: the program does not come from `learn_scales`.
    """
    plan, state = plan_of(program), program.state()
    missing = [p.tensor for p in plan.weights if scale_name(p.tensor) not in state]
    if missing:
        raise UserError("the program has no learned scales", found=f"none for {missing[0]}",
                        expected="one of learn_scales", fix="learn_scales, then train, then fix_scales")  # fmt: skip
    activations = tuple(_fixed_activation(p, state) for p in plan.activations)
    weights = tuple(p.model_copy(update={"scales": _numbers(state[scale_name(p.tensor)])}) for p in plan.weights)
    learned = plan.model_copy(update={"activations": activations, "weights": weights})
    return insert_qdq(strip_quantization(program).program, follow_biases(learned))


def plan_of(program: Program) -> QuantPlan:
    """The plan a quantized program carries.

    Raises:
        UserError: it carries none.
    """
    if PLAN not in program.plans:
        raise UserError("the program is not quantized", found="no quantization plan", expected="a quantized program",
                        fix="put a quantize step before this one")  # fmt: skip
    return QuantPlan.model_validate(program.plans[PLAN])


def follow_biases(plan: QuantPlan) -> QuantPlan:
    """The plan with the scale of every bias recomputed: input scale x weight scale."""
    inputs = {p.node: p.scale for p in plan.activations}
    weights = {w.tensor: w for w in plan.weights}
    biases = []
    for bias in plan.biases:
        weight = weights[bias.weight]
        scale = inputs[weight.input]
        assert scale is not None
        biases.append(bias.model_copy(update={"scales": _numbers(torch.tensor(weight.scales) * scale)}))
    return plan.model_copy(update={"biases": tuple(biases)})


def _learned_grid(editor: Editor, point: ActivationPoint, *, offset: bool) -> tuple[Node, Node]:
    """Scale and zero point of a group of activations."""
    scale = editor.add_tensor(scale_name(point.group), torch.tensor([point.scale]), parameter=True)
    name = offset_name(point.group) if offset else f"{scale_name(point.group)}_zero"
    return scale, editor.add_tensor(name, torch.tensor([float(point.zero_point)]), parameter=offset)


def _learn_activation(editor: Editor, point: ActivationPoint, grid: tuple[Node, Node]) -> None:
    value = editor.node(point.node)
    users = [editor.node(name) for name in point.readers] or list(value.users)
    damping = 1 / math.sqrt(_features(value) * max(point.grid.high, 1))
    arguments = (value, *grid, PER_TENSOR, point.grid.low, point.grid.high, damping)
    after = [n for n in editor.graph.nodes if n.op == "placeholder"][-1] if value.op == "placeholder" else value
    fake = editor.call(LEARNED, arguments, after=after, name=f"{value.name}_fq")
    for user in users:
        editor.replace_input(user, value, fake)


def _learn_weight(editor: Editor, program: Program, point: WeightPoint) -> None:
    names = {target: node for node, target in program.state_names().items()}
    source, tensor = editor.node(names[point.tensor]), editor.state[point.tensor]
    scale = editor.add_tensor(scale_name(point.tensor), torch.tensor(point.scales), parameter=True)
    zero = editor.add_tensor(f"{scale_name(point.tensor)}_zero", torch.zeros(len(point.scales)))
    damping = 1 / math.sqrt(tensor.numel() / len(point.scales) * max(point.grid.high, 1))
    first = next(n for n in editor.graph.nodes if n.op != "placeholder")
    axis = PER_TENSOR if point.axis is None else point.axis
    arguments = (source, scale, zero, axis, point.grid.low, point.grid.high, damping)
    fake = editor.call(LEARNED, arguments, before=first, name=f"{source.name}_fq")
    for name in point.nodes:
        editor.replace_input(editor.node(name), source, fake)


def _features(value: Node) -> int:
    """Values per example."""
    return math.prod(int(s) for s in value.meta["val"].shape[1:] if isinstance(s, int)) or 1


def _fixed_activation(point: ActivationPoint, state: dict[str, torch.Tensor]) -> ActivationPoint:
    (scale,) = _numbers(state[scale_name(point.group)])
    offset = state.get(offset_name(point.group))
    if offset is None:
        return point.model_copy(update={"scale": scale})
    zero = int(offset.detach().round().clamp(point.grid.low, point.grid.high))
    return point.model_copy(update={"scale": scale, "zero_point": zero})


def _numbers(scales: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(s) for s in scales.detach().float().abs().clamp_min(SMALLEST))


def scale_name(what: str) -> str:
    """Name of the parameter that is the scale of a weight or of a group of activations."""
    return f"{PREFIX}.{what.replace('.', '_')}_scale"


def offset_name(group: str) -> str:
    """Name of the parameter that is the zero point of a group of activations, in steps, where that is learned."""
    return f"{PREFIX}.{group.replace('.', '_')}_offset"


def has_offset(point: ActivationPoint) -> bool:
    """Whether the zero point can be learned: values on both sides of zero, on a grid that need not be symmetric.

    A grid that begins at zero stays so: kernels take its end for the ReLU.
    """
    return not point.grid.symmetric and point.grid.low < point.zero_point < point.grid.high
