"""Second moments of a layer's inputs, as the matrix product it is: what rounding needs to know of the data.

A convolution is a product of its weight, as (groups, rows, columns), with the patches of its input, columns = input
channels of a group x kernel. With x the float network's patches and y those of the quantized one, both centred when the
layer has a bias to take up the means:  H = E[y y'] and C = E[x y'].
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx import Node

from edgepress.ir.text import op_name
from edgepress.quantize.operands import PRODUCTS

PATCHES = 64  # positions per image that are looked at; neighbours overlap and say much the same
CHUNK = 64  # images unfolded at a time
CONSTANT = 1e-5  # share of the energy that must change for a group's inputs to say anything


@dataclass(frozen=True)
class Moments:
    """What a layer sees, in float64.

    Attributes:
        second: H, (groups, columns, columns). cross: C, same shape.
        mean: of y, (groups, columns). reference_mean: of x. count: patches behind them.
    """

    second: torch.Tensor
    cross: torch.Tensor
    mean: torch.Tensor
    reference_mean: torch.Tensor
    count: int


def moments(node: Node, reference: torch.Tensor, quantized: torch.Tensor, weight: torch.Tensor) -> Moments:
    """Moments over all patches of one batch: `reference` and `quantized` are the layer's input in both networks."""
    sums: list[torch.Tensor] | None = None
    count = 0
    for x, y in zip(_patches(node, reference, weight), _patches(node, quantized, weight), strict=True):
        new = [y @ y.mT, x @ y.mT, y.sum(2), x.sum(2)]
        count += x.shape[2]
        sums = [n.double() for n in new] if sums is None else [s + n.double() for s, n in zip(sums, new, strict=True)]
    assert sums is not None
    second, cross, mean, reference_mean = (s / count for s in sums)
    return Moments(second, cross, mean, reference_mean, count)


def centred(m: Moments) -> Moments:
    """The moments about the means, for layers whose bias takes up the means."""
    second = m.second - m.mean[:, :, None] * m.mean[:, None, :]
    cross = m.cross - m.reference_mean[:, :, None] * m.mean[:, None, :]
    # Where a group's inputs never change, what is left is the rounding error of float32, with eigenvalues below zero.
    floor = CONSTANT * m.second.diagonal(dim1=1, dim2=2).mean(1)
    constant = second.diagonal(dim1=1, dim2=2).mean(1) <= floor
    nothing = floor[:, None, None] * torch.eye(second.shape[1], dtype=second.dtype)
    second, cross = (torch.where(constant[:, None, None], nothing, moment) for moment in (second, cross))
    return Moments(second, cross, m.mean, m.reference_mean, m.count)


def as_matrices(node: Node, weight: torch.Tensor) -> torch.Tensor:
    """The weight as (groups, rows, columns)."""
    if op_name(node) in PRODUCTS:  # (columns, rows)
        return weight.T[None]
    groups = _setting(node, 6, 1) if op_name(node).startswith("aten.conv") else 1
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def from_matrices(node: Node, matrices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The inverse of `as_matrices`."""
    flat = matrices[0].T if op_name(node) in PRODUCTS else matrices
    return flat.reshape(like.shape).to(like.dtype)


def _patches(node: Node, value: torch.Tensor, weight: torch.Tensor) -> Iterator[torch.Tensor]:
    """(groups, columns, patches) per chunk."""
    if not op_name(node).startswith("aten.conv"):
        yield value.reshape(-1, value.shape[-1]).T[None]
        return
    groups, spatial = _setting(node, 6, 1), weight.dim() - 2
    for chunk in value.split(CHUNK):
        image = chunk if spatial == 2 else chunk.unsqueeze(2)
        some = F.unfold(_padded(node, image, weight), **_geometry(node, weight))
        yield some.permute(1, 0, 2).reshape(groups, some.shape[1] // groups, -1)


def _geometry(node: Node, weight: torch.Tensor) -> dict[str, Any]:
    spatial = weight.dim() - 2
    lead = () if spatial == 2 else (1,)
    dilation = _pair(_setting(node, 5, 1), spatial)
    # Wider strides than the layer's own: a regular subset of its positions.
    sizes = [int(s) for s in node.meta["val"].shape[2:]]
    step = max(1, math.ceil((math.prod(sizes) / PATCHES) ** (1 / spatial)))
    stride = [s * step for s in _pair(_setting(node, 3, 1), spatial)]
    return {
        "kernel_size": (*lead, *weight.shape[2:]),
        "stride": (*lead, *stride),
        "dilation": (*lead, *dilation),
    }


def _padded(node: Node, image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    padding, spatial = _setting(node, 4, 0), weight.dim() - 2
    if padding == "valid":
        return image
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(_pair(_setting(node, 5, 1), spatial), weight.shape[2:], strict=True)]
        sizes = [(t // 2, t - t // 2) for t in total]
    else:
        sizes = [(p, p) for p in _pair(padding, spatial)]
    return F.pad(image, [side for pair in reversed(sizes) for side in pair])


def _setting(node: Node, position: int, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else default


def _pair(value: Any, count: int) -> list[int]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * count if len(items) == 1 else items
