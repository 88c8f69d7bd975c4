"""Layers as regressions: what they read and what they give, row by row.

Every layer here is, per group of channels, y = M x with M of shape (out, in · kernel). A convolution reads patches; a
transposed one is a convolution with a mirrored kernel over its input with zeros between the positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.operators import CONVOLUTIONS, TRANSPOSED

LINEAR = torch.ops.aten.linear.default


def can_regress(node: Node, names: dict[str, str]) -> bool:
    """Dense convolutions and linear layers whose weights are stored and theirs alone."""
    return node.target not in TRANSPOSED and can_refit(node, names) and groups_of(node) == 1


def can_refit(node: Node, names: dict[str, str]) -> bool:
    """Also grouped, depthwise and transposed convolutions; not those padded by a word ("same") or without a batch."""
    if node.target == LINEAR:
        return _stored(node, names)
    if node.target not in (*CONVOLUTIONS, *TRANSPOSED):
        return False
    bound = arguments(node)
    batched = node.meta["val"].dim() == bound["weight"].meta["val"].dim()
    return batched and isinstance(bound["padding"], list | tuple) and _stored(node, names)


def _stored(node: Node, names: dict[str, str]) -> bool:
    weights = [node.args[1], arguments(node)["bias"]]
    return all(w is None or (isinstance(w, Node) and w.name in names and len(w.users) == 1) for w in weights)


def groups_of(node: Node) -> int:
    """Groups of channels that are read separately; 1 for a linear layer."""
    return 1 if node.target == LINEAR else int(arguments(node)["groups"])


def channel_dim(node: Node) -> int:
    """The dimension of the output that holds the channels."""
    return len(node.meta["val"].shape) - 1 if node.target == LINEAR else 1


def to_matrix(layer: Node, weight: Tensor) -> Tensor:
    """The weight as (groups, out / groups, in / groups · kernel)."""
    groups = groups_of(layer)
    if layer.target in TRANSPOSED:  # (in, out / groups, *kernel), mirrored
        split = weight.unflatten(0, (groups, -1)).transpose(1, 2)
        return split.flip(list(range(3, split.dim()))).flatten(2)
    return weight.flatten(1).unflatten(0, (groups, -1))


def from_matrix(layer: Node, matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `to_matrix`, in the shape of `like`."""
    if layer.target not in TRANSPOSED:
        return matrix.reshape(like.shape)
    groups, outs, _ = matrix.shape
    split = matrix.reshape(groups, outs, -1, *like.shape[2:])
    return split.flip(list(range(3, split.dim()))).transpose(1, 2).reshape(like.shape)


def rows_of(layer: Node, x: Tensor, y: Tensor, per_example: int, seed: int) -> tuple[Tensor, Tensor]:
    """`grouped_rows_of` for a layer of one group: (rows, in) and (rows, out)."""
    inputs, wanted = grouped_rows_of(layer, x, y, per_example, seed)
    return inputs[0], wanted[0]


def grouped_rows_of(layer: Node, x: Tensor, y: Tensor, per_example: int, seed: int) -> tuple[Tensor, Tensor]:
    """(groups, rows, in) what the layer reads and (groups, rows, out) values of `y`, shaped like its output, there.

    Of a convolution about `per_example` positions, on a grid whose offset `seed` decides: neighbours say nearly the
    same. Give each batch another seed.
    """
    if layer.target == LINEAR:
        return x.reshape(1, -1, x.shape[-1]), y.reshape(1, -1, y.shape[-1])
    window = _Window.of(layer)
    space = y.shape[2:]
    step = max(1, int((space.numel() / per_example) ** (1 / len(space))))
    while gcd(step, window.spread) > 1:  # a grid in step with the zeros would see some phases of the kernel alone
        step += 1
    generator = torch.Generator().manual_seed(seed)
    offsets = [int(torch.randint(min(step, size), (), generator=generator)) for size in space]
    patches = window.patches(x, offsets, step, space)
    wanted = y
    for dim, offset in enumerate(offsets):
        wanted = wanted.narrow(2 + dim, offset, space[dim] - offset)
        wanted = wanted.unfold(2 + dim, 1, step).squeeze(-1)
    return _by_group(patches, window.groups), _by_group(wanted.flatten(2).transpose(1, 2), window.groups)


def _by_group(rows: Tensor, groups: int) -> Tensor:
    """(batch, positions, groups · columns) -> (groups, batch · positions, columns)."""
    return rows.reshape(-1, groups, rows.shape[-1] // groups).transpose(0, 1)


@dataclass(frozen=True)
class _Window:
    """How a convolution slides over its input, written without transposition.

    Attributes:
        kernel, stride, padding, dilation: per spatial dimension. spread: distance of input positions once the zeros of
            a transposed convolution stand between them, 1 without.
    """

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    zeros: Sequence[int]

    @classmethod
    def of(cls, layer: Node) -> "_Window":
        bound = arguments(layer)
        kernel = [int(k) for k in bound["weight"].meta["val"].shape[2:]]
        stride, padding, dilation = (_each(bound[k], len(kernel)) for k in ("stride", "padding", "dilation"))
        ones = [1] * len(kernel)
        if layer.target not in TRANSPOSED:
            return cls(kernel, stride, padding, dilation, int(bound["groups"]), ones)
        mirrored = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        return cls(kernel, ones, mirrored, dilation, int(bound["groups"]), stride)

    @property
    def spread(self) -> int:
        return max(self.zeros)

    def patches(self, x: Tensor, offsets: Sequence[int], step: int, space: Sequence[int]) -> Tensor:
        """(batch, positions, channels · kernel): what is read for the outputs at `offsets`, every `step`-th."""
        x = self._spread_out(x)
        for dim, size in enumerate(space):
            reach = (self.kernel[dim] - 1) * self.dilation[dim] + 1
            needed = (size - 1) * self.stride[dim] + reach
            before = self.padding[dim]
            after = needed - before - x.shape[2 + dim]
            x = F.pad(x, [0, 0] * (x.dim() - 3 - dim) + [before, after])
            x = x.narrow(2 + dim, offsets[dim] * self.stride[dim], needed - offsets[dim] * self.stride[dim])
        for dim in range(len(space)):
            reach = (self.kernel[dim] - 1) * self.dilation[dim] + 1
            x = x.unfold(2 + dim, reach, self.stride[dim] * step)[..., :: self.dilation[dim]]
        count = len(space)
        order = [0, *range(2, 2 + count), 1, *range(2 + count, 2 + 2 * count)]
        moved = x.permute(order)
        return moved.reshape(moved.shape[0], -1, moved[0][(0,) * count].numel())

    def _spread_out(self, x: Tensor) -> Tensor:
        """Zeros between positions: (n - 1) · stride + 1 of them."""
        if self.spread == 1:
            return x
        for dim, zeros in enumerate(self.zeros, start=2):
            size = (x.shape[dim] - 1) * zeros + 1
            wide = torch.zeros([*x.shape[: dim + 1], zeros, *x.shape[dim + 1 :]], dtype=x.dtype, device=x.device)
            wide.select(dim + 1, 0).copy_(x)
            x = wide.flatten(dim, dim + 1).narrow(dim, 0, size)
        return x


def _each(value: Any, count: int) -> list[int]:
    """One number per spatial dimension; ATen allows one for all."""
    numbers = [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)]
    return numbers * count if len(numbers) == 1 else numbers
