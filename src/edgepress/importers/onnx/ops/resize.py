"""Resize and Upsample.

Where torch's `interpolate` computes exactly the same, it is used. Everything else is separable: one matrix (out, in)
per axis, built here from the coordinate rule, the filter and the border rule of the specification.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops.shape import sizes_of
from edgepress.importers.onnx.values import Numbers, Unsupported, ensure_affordable, is_symbolic

TORCH_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class Rule:
    """How positions and values are interpolated; attributes as in ONNX."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class Axis:
    """One axis: sizes, the scale of its coordinates, and the region of tf_crop_and_resize."""

    size: Any
    out: Any
    scale: Any
    start: float = 0.0
    end: float = 1.0

    @property
    def changes(self) -> bool:
        """False if the axis is copied."""
        whole = (self.start, self.end) == (0.0, 1.0)
        return not (whole and statically_known_true(self.scale == 1) and statically_known_true(self.out == self.size))


def resize(
    x: Tensor,
    roi: Numbers | None = None,
    scales: Numbers | None = None,
    sizes: Numbers | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    axes: Any = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Tensor:
    """Resize axes to `sizes`, or by `scales` (out = floor(in * scale))."""
    rule = Rule(
        mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, bool(exclude_outside), bool(antialias),
        extrapolation_value,
    )  # fmt: skip
    wanted = list(range(x.dim())) if axes is None else [axis % x.dim() for axis in axes]
    lengths = _lengths(x, wanted, scales, sizes, keep_aspect_ratio_policy)
    region = None if roi is None or rule.coordinates != "tf_crop_and_resize" else roi.tolist()
    plan: list[Axis] = [Axis(n, n, 1) for n in x.shape]
    for i, (axis, (out, scale)) in enumerate(zip(wanted, lengths, strict=True)):
        start, end = (region[i], region[len(wanted) + i]) if region else (0.0, 1.0)
        plan[axis] = Axis(x.shape[axis], out, scale, start, end)
    ensure_affordable([axis.out for axis in plan], x.dtype)
    return interpolate(x, plan, rule, exact_sizes=sizes is not None and sizes.size > 0)


def _lengths(
    x: Tensor, axes: list[int], scales: Numbers | None, sizes: Numbers | None, policy: str
) -> list[tuple[Any, Any]]:
    """(output size, scale) of each axis."""
    if sizes is None or sizes.size == 0:
        if scales is None or scales.size != len(axes):
            raise Unsupported("Resize", found="neither scales nor sizes of every axis", expected="one of them")
        return [(_scaled(x.shape[axis], s), s) for axis, s in zip(axes, scales.tolist(), strict=True)]
    outs = sizes_of(sizes)
    if policy == "stretch":
        return [(out, _ratio(out, x.shape[axis])) for axis, out in zip(axes, outs, strict=True)]
    pick: Callable[..., float] = min if policy == "not_larger" else max
    scale = pick(out / x.shape[axis] for axis, out in zip(axes, outs, strict=True))
    return [(math.floor(scale * x.shape[axis] + 0.5), scale) for axis in axes]


def _ratio(out: Any, size: Any) -> Any:
    return 1 if statically_known_true(out == size) else out / size


def _scaled(size: Any, scale: Any) -> Any:
    if is_symbolic(scale):
        return torch.sym_int(size * scale)
    if float(scale).is_integer():
        return size * int(scale)
    return torch.sym_int(size * scale) if is_symbolic(size) else math.floor(size * np.float32(scale))


def interpolate(x: Tensor, plan: list[Axis], rule: Rule, *, exact_sizes: bool) -> Tensor:
    """Interpolate the axes that change."""
    changing = [axis for axis, facts in enumerate(plan) if facts.changes]
    if not changing:
        return x
    spatial = plan[2:]
    if changing[0] >= 2 and 3 <= x.dim() <= 5 and x.dtype.is_floating_point:
        mode = torch_mode(spatial, rule)
        if mode is not None:
            return _by_torch(x, spatial, mode, exact_sizes=exact_sizes)
    return _by_matrices(x, plan, changing, rule)


def torch_mode(axes: list[Axis], rule: Rule) -> tuple[str, bool | None] | None:
    """(mode, align_corners) of torch's interpolate where it computes the same, else `None`."""
    if rule.antialias or rule.exclude_outside:
        return None
    if rule.mode == "nearest":
        return ("nearest", None) if all(_is_plain_nearest(axis, rule) for axis in axes) else None
    halves = ("half_pixel", "pytorch_half_pixel")
    aligned = {**dict.fromkeys(halves, False), "align_corners": True}.get(rule.coordinates)
    if aligned is None or any(_is_single(axis) for axis in axes if axis.changes):
        return None
    if rule.mode == "linear":
        return TORCH_LINEAR[len(axes)], aligned
    return ("bicubic", aligned) if rule.mode == "cubic" and len(axes) == 2 and rule.cubic_a == -0.75 else None


def _is_single(axis: Axis) -> bool:
    """An output of one pixel: the rules differ there."""
    return not is_symbolic(axis.out) and axis.out == 1


def _is_plain_nearest(axis: Axis, rule: Rule) -> bool:
    """Whole factors f: position x reads floor(x / f) under these rules, as torch does."""
    if not axis.changes:
        return True
    if is_symbolic(axis.scale) or not float(axis.scale).is_integer():
        return False
    if rule.coordinates == "asymmetric":
        return rule.nearest == "floor" or (rule.nearest == "round_prefer_floor" and axis.scale == 2)
    return rule.coordinates in ("half_pixel", "pytorch_half_pixel") and rule.nearest.startswith("round_prefer")


def _by_torch(x: Tensor, axes: list[Axis], mode: tuple[str, bool | None], *, exact_sizes: bool) -> Tensor:
    name, aligned = mode
    if exact_sizes or name == "nearest":
        return F.interpolate(x, size=[axis.out for axis in axes], mode=name, align_corners=aligned)
    return F.interpolate(x, scale_factor=[float(axis.scale) for axis in axes], mode=name, align_corners=aligned)


def _by_matrices(x: Tensor, plan: list[Axis], changing: list[int], rule: Rule) -> Tensor:
    held = x if x.dtype.is_floating_point else x.float()
    for axis in changing:
        facts = plan[axis]
        if is_symbolic(facts.size) or is_symbolic(facts.out):
            raise Unsupported(
                f"Resize of a dynamic axis with mode {rule.mode}, {rule.coordinates}, {rule.nearest}",
                found="a dynamic size",
                expected="a fixed size, or a mode that torch has",
            )
        matrix = torch.from_numpy(axis_matrix(facts, rule)).to(held.dtype)
        held = torch.matmul(held.movedim(axis, -1), matrix.t()).movedim(-1, axis)
    if rule.coordinates == "tf_crop_and_resize":
        held = _extrapolate(held, plan, changing, rule)
    return held.round().to(x.dtype) if rule.mode == "nearest" and held.dtype != x.dtype else held.to(x.dtype)


def _extrapolate(x: Tensor, plan: list[Axis], changing: list[int], rule: Rule) -> Tensor:
    for axis in changing:
        position = positions(plan[axis], rule)
        outside = torch.from_numpy((position < 0) | (position > plan[axis].size - 1))
        shape = [1] * x.dim()
        shape[axis] = -1
        x = torch.where(outside.reshape(shape), rule.extrapolation, x)
    return x


def positions(axis: Axis, rule: Rule) -> Any:
    """Where each output pixel lies in the input, in pixels: array (out,)."""
    # In float32, as onnxruntime: 3 / 0.6 is 5 there, and 4.9999998 in float64.
    x = np.arange(axis.out, dtype=np.float32)
    size, out, scale = int(axis.size), int(axis.out), np.float32(axis.scale)
    match rule.coordinates:
        case "half_pixel":
            return (x + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (x + 0.5) / scale - 0.5 if out > 1 else np.zeros(1)
        case "asymmetric":
            return x / scale
        case "tf_half_pixel_for_nn":
            return (x + 0.5) / scale
        case "align_corners":
            return x * (size - 1) / (out - 1) if out > 1 else np.zeros(1)
        case "half_pixel_symmetric":
            return size / 2 * (1 - out / (scale * size)) + (x + 0.5) / scale - 0.5
        case "tf_crop_and_resize":
            if out == 1:
                return np.array([0.5 * (axis.start + axis.end) * (size - 1)])
            return axis.start * (size - 1) + x * (axis.end - axis.start) * (size - 1) / (out - 1)
    raise Unsupported("Resize", found=f"coordinate mode {rule.coordinates!r}", expected="one of the specification")


def axis_matrix(axis: Axis, rule: Rule) -> Any:
    """Weights (out, in) of one axis."""
    where = positions(axis, rule)
    matrix = np.zeros((len(where), int(axis.size)), dtype=np.float32)
    for row, position in enumerate(where):
        taps, weights = _taps(float(position), axis, rule)
        inside = (taps >= 0) & (taps < axis.size)
        if rule.exclude_outside and rule.mode != "nearest":
            weights = np.where(inside, weights, 0.0)
            weights = weights / weights.sum()
        np.add.at(matrix[row], np.clip(taps, 0, int(axis.size) - 1), weights)
    return matrix


def _taps(position: float, axis: Axis, rule: Rule) -> tuple[Any, Any]:
    if rule.mode == "nearest":
        return np.array([_nearest(position, rule.nearest)]), np.array([1.0])
    reach = {"linear": 1, "cubic": 2}.get(rule.mode)
    if reach is None:
        raise Unsupported("Resize", found=f"mode {rule.mode!r}", expected="nearest, linear or cubic")
    shrink = min(float(axis.scale), 1.0) if rule.antialias else 1.0
    base = math.floor(position)
    first = math.floor(-reach / shrink) + 1
    taps = np.arange(base + first, base + 2 - first)
    distance = np.abs((taps - position) * shrink)
    weights = np.clip(1 - distance, 0, 1) if rule.mode == "linear" else _cubic(distance, rule.cubic_a)
    return taps, weights / weights.sum() if rule.antialias else weights


def _nearest(position: float, rule: str) -> int:
    match rule:
        case "round_prefer_floor":
            return math.ceil(position - 0.5)
        case "round_prefer_ceil":
            return math.floor(position + 0.5)
        case "floor" | "simple":
            return math.floor(position)
        case "ceil":
            return math.ceil(position)
    raise Unsupported("Resize", found=f"nearest_mode {rule!r}", expected="floor, ceil or round_prefer_*")


def _cubic(distance: Any, a: float) -> Any:
    """Keys' kernel: (a+2)d^3 - (a+3)d^2 + 1 up to 1, a d^3 - 5a d^2 + 8a d - 4a up to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def resize_10(x: Tensor, scales: Numbers, mode: str = "nearest") -> Tensor:
    """Resize of opset 10: asymmetric coordinates, nearest downwards."""
    return upsample(x, scales, mode)


def upsample(x: Tensor, scales: Numbers, mode: str = "nearest") -> Tensor:
    """Upsample (opset 9) by scales: asymmetric coordinates, nearest downwards."""
    mode = "linear" if mode in ("linear", "bilinear") else mode
    return resize(x, None, scales, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def upsample_attribute(x: Tensor, scales: Any = None, mode: str = "nearest", **old: Any) -> Tensor:
    """Upsample before opset 9: scales are an attribute (and before 7 two of them)."""
    factors = scales if scales is not None else (1.0, 1.0, old["height_scale"], old["width_scale"])
    return upsample(x, np.asarray(factors), mode)


OPERATORS: Operators = {
    "Resize": {10: Operator(resize_10, numbers=(1,)), 11: Operator(resize, numbers=(1, 2, 3))},
    "Upsample": {1: Operator(upsample_attribute), 9: Operator(upsample, numbers=(1,))},
}
