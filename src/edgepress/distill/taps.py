"""Where student and teacher are compared inside: nodes chosen by name, by pattern, or where resolutions match."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import Node

from edgepress.errors import UserError
from edgepress.ir.program import Program

aten = torch.ops.aten
CONVOLUTIONS = {
    aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv1d.padding, aten.convolution.default,
}  # fmt: skip
# Nodes that only rearrange what others computed: never a tap of the automatic choice.
REARRANGING = {
    aten.slice.Tensor, aten.pad.default, aten.constant_pad_nd.default, aten.permute.default, aten.transpose.int,
    aten.view.default, aten.reshape.default, aten.flatten.using_ints, aten.expand.default, aten.select.int,
    aten.dropout.default, aten.unsqueeze.default, aten.clone.default, aten.contiguous.default,
}  # fmt: skip
TOKEN_TAPS = {aten.add.Tensor, aten.add_.Tensor, aten.layer_norm.default}
DEPTHS = (1 / 3, 2 / 3, 1.0)  # where tokens are compared, as fractions of the candidates


class Tap(NamedTuple):
    """A pair of nodes to compare.

    Attributes:
        student, teacher: node names. tokens: features are (N, T, D), channels last, instead of (N, C, ...).
    """

    student: str
    teacher: str
    tokens: bool = False


def automatic_taps(student: Program, teacher: Program) -> tuple[Tap, ...]:
    """Taps of two networks of any architecture.

    Convolutional networks: the last computing node at each spatial size that both have, deepest last. Networks on
    tokens (N, T, D): residual sums or layer norms at a third, two thirds and the whole of the depth.

    Raises:
        UserError: nothing to compare; name the nodes instead.
    """
    ours, theirs = _last_by_size(student), _last_by_size(teacher)
    pairs = tuple(Tap(ours[size], theirs[size]) for size in ours if size in theirs)
    pairs = pairs or _token_taps(student, teacher)
    if not pairs:
        raise UserError(
            "student and teacher have no features of one size",
            found=f"student {_sizes(ours)}, teacher {_sizes(theirs)}",
            expected="a spatial size that both have",
            fix="name pairs of nodes under `taps`, or use losses on outputs",
        )
    return pairs


def matching_taps(student: Program, teacher: Program, student_pattern: str, teacher_pattern: str) -> tuple[Tap, ...]:
    """Nodes whose whole name matches a regular expression, paired in order of execution.

    Raises:
        UserError: not a regular expression, no match, or different numbers of matches.
    """
    ours, theirs = _matching(student, student_pattern), _matching(teacher, teacher_pattern)
    if len(ours) != len(theirs) or not ours:
        raise UserError(
            "the tap patterns do not pair up",
            found=f"{len(ours)} student nodes match, {len(theirs)} teacher nodes match",
            expected="the same number of matches, at least one",
            fix="`edgepress inspect` lists the nodes",
        )
    tokens = not _is_convolutional(student)
    return tuple(Tap(s.name, t.name, tokens and _value(s).dim() == 3) for s, t in zip(ours, theirs, strict=True))


def feature_shape(program: Program, name: str) -> tuple[int, ...]:
    """Shape of a node's value without the batch; -1 for free sizes.

    Raises:
        UserError: no such node, or one whose value is no tensor with a batch dimension.
    """
    node = next((n for n in program.nodes if n.name == name), None)
    value = None if node is None else node.meta.get("val")
    if not isinstance(value, Tensor) or value.dim() < 2:
        found = "no such node" if node is None else "no tensor (N, C, ...)"
        raise UserError(f"no features at node {name}", found=found, expected="a node with features",
                        fix="`edgepress inspect` lists the nodes")  # fmt: skip
    return tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])


def _last_by_size(program: Program) -> dict[tuple[int, ...], str]:
    """Spatial size -> last computing node of that size, in order of first appearance."""
    if not _is_convolutional(program):
        return {}
    found: dict[tuple[int, ...], str] = {}
    for node in program.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dim() >= 3 and node.target not in REARRANGING:
            size = tuple(value.shape[2:])
            if value.is_floating_point() and all(isinstance(s, int) for s in size) and max(size) > 1:
                found[size] = node.name
    return found


def _is_convolutional(program: Program) -> bool:
    """Whether convolutions do most of the work: a patch embedding alone does not make a network convolutional."""
    convolutions = sum(node.target in CONVOLUTIONS for node in program.nodes)
    linears = sum(node.target is aten.linear.default for node in program.nodes)
    return convolutions > linears


def _token_taps(student: Program, teacher: Program) -> tuple[Tap, ...]:
    ours, theirs = _token_nodes(student), _token_nodes(teacher)
    if not ours or not theirs:
        return ()
    pairs = [Tap(_at(ours, depth), _at(theirs, depth), tokens=True) for depth in DEPTHS]
    return tuple(dict.fromkeys(pairs))


def _token_nodes(program: Program) -> list[str]:
    """Residual sums and layer norms on (N, T, D)."""
    return [n.name for n in program.nodes if n.target in TOKEN_TAPS and n.meta["val"].dim() == 3]


def _at(names: Sequence[str], depth: float) -> str:
    return names[max(round(depth * len(names)) - 1, 0)]


def _matching(program: Program, pattern: str) -> list[Node]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"cannot read the pattern {pattern!r}", found=str(error), expected="a regular expression",
                        fix="correct `taps`") from error  # fmt: skip
    return [node for node in program.nodes if expression.fullmatch(node.name)]


def _value(node: Node) -> Tensor:
    return node.meta["val"]


def _sizes(found: dict[tuple[int, ...], str]) -> str:
    return ", ".join("x".join(map(str, size)) for size in found) or "none"
