"""Layers as regressions: what they read and what they give, row by row."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from edgepress.analysis.coupling import arguments
from edgepress.analysis.operators import CONVOLUTIONS

LINEAR = torch.ops.aten.linear.default


def can_regress(node: Node, names: dict[str, str]) -> bool:
    """Dense 2-D convolutions and linear layers whose weights are stored and theirs alone."""
    if node.target == LINEAR:
        return _stored(node, names)
    if node.target not in CONVOLUTIONS:
        return False
    bound = arguments(node)
    plain = bound["groups"] == 1 and isinstance(bound["padding"], list | tuple) and len(bound["stride"]) == 2
    return plain and node.meta["val"].dim() == 4 and _stored(node, names)


def _stored(node: Node, names: dict[str, str]) -> bool:
    weights = [node.args[1], arguments(node)["bias"]]
    return all(w is None or (isinstance(w, Node) and w.name in names and len(w.users) == 1) for w in weights)


def channel_dim(node: Node) -> int:
    """The dimension of the output that holds the channels."""
    return len(node.meta["val"].shape) - 1 if node.target == LINEAR else 1


def rows_of(layer: Node, x: Tensor, y: Tensor, per_example: int, seed: int) -> tuple[Tensor, Tensor]:
    """(rows, in) what the layer reads and (rows, out) the values of `y`, shaped like its output, at the same places.

    Of a convolution about `per_example` positions, on a grid whose offset `seed` decides: neighbours say nearly the
    same. Give each batch another seed.
    """
    if layer.target == LINEAR:
        return x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    bound = arguments(layer)
    kernel = bound["weight"].meta["val"].shape[2:]
    height, width = y.shape[2:]
    step = max(1, int((height * width / per_example) ** 0.5))
    generator = torch.Generator().manual_seed(seed)
    up, left = (int(torch.randint(min(step, size), (), generator=generator)) for size in (height, width))
    (sy, sx), (py, px) = bound["stride"], bound["padding"]
    padded = F.pad(x, (px, px, py, py))[:, :, up * sy :, left * sx :]
    patches = F.unfold(padded, tuple(kernel), dilation=bound["dilation"], stride=(sy * step, sx * step))
    wanted = y[:, :, up::step, left::step].flatten(2)
    return patches.transpose(1, 2).reshape(-1, patches.shape[1]), wanted.transpose(1, 2).reshape(-1, wanted.shape[1])
