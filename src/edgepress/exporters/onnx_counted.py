"""Results whose length depends on values: what a mask selects, positions, boxes that are kept."""

from collections.abc import Mapping

import torch
from torch.fx import Node

from edgepress.exporters.onnx_graph import ELEMENT, GraphBuilder, NotTranslated, to_numpy
from edgepress.exporters.onnx_ops import Translation, arg, nothing, rank

MASKS = (torch.bool, torch.uint8)


def _nonzero(g: GraphBuilder, node: Node, out: str) -> None:
    """Positions (n, axes); ONNX has them the other way round."""
    g.emit("Transpose", [g.emit("NonZero", [g.name(arg(node, 0))])], out=out, perm=[1, 0])


def _masked_select(g: GraphBuilder, node: Node, out: str) -> None:
    """Elements as a vector; mask and value must have one shape."""
    source, mask = arg(node, 0), arg(node, 1)
    if str(source.meta["val"].shape) != str(mask.meta["val"].shape):
        raise NotTranslated("masked_select with a mask to be spread")
    g.emit("Compress", [g.name(source), g.emit("Reshape", [g.name(mask), g.integers([-1])])], out=out)


def is_mask(value: Node) -> bool:
    """Whether an index selects by truth, not by position."""
    return value.meta["val"].dtype in MASKS


def index_by_mask(g: GraphBuilder, node: Node, out: str) -> None:
    """x[mask] over the leading axes, or x[:, mask] with a mask of one axis.

    Raises:
        NotTranslated: other forms.
    """
    places = {axis: value for axis, value in enumerate(arg(node, 1)) if value is not None}
    axis, mask = next(iter(places.items()))
    if len(places) > 1 or (axis and rank(mask) > 1):
        raise NotTranslated("indexing by a mask and by something else")
    source, flags = g.name(arg(node, 0)), g.name(mask)
    if mask.meta["val"].dtype != torch.bool:
        flags = g.emit("Cast", [flags], to=ELEMENT[torch.bool])
    if rank(mask) == 1:
        g.emit("Compress", [source, flags], out=out, axis=axis)
        return
    places_true = g.emit("Transpose", [g.emit("NonZero", [flags])], perm=[1, 0])
    g.emit("GatherND", [source, places_true], out=out)


def _suppressed(g: GraphBuilder, node: Node, out: str) -> None:
    """non_max_suppression(boxes, scores, limit, overlap, least score, boxes by their centres?)."""
    boxes, scores, limit, overlap, least, centres = (arg(node, position) for position in range(6))
    thresholds = [g.name(overlap), g.name(least)]
    if (lowest := g.tensor(least)) is not None and bool(torch.isinf(lowest).all()):
        thresholds = thresholds[:1]
    elif lowest is not None:
        thresholds[1] = g.constant(to_numpy(lowest))
    names = [g.name(boxes), g.name(scores), g.sizes([limit]), *thresholds]
    g.emit("NonMaxSuppression", names, out=out, center_point_box=int(bool(centres)))


COUNTED: Mapping[str, Translation] = {
    "aten.nonzero": _nonzero, "aten.masked_select": _masked_select, "edgepress.non_max_suppression": _suppressed,
    **dict.fromkeys(("aten.item", "aten._local_scalar_dense"), nothing),  # read where a size asks for them
    # What torch promises itself about such a length; the runtime has no use for it.
    **dict.fromkeys(("aten._assert_scalar", "aten._assert_async.msg", "aten.sym_constrain_range_for_size"), nothing),
}  # fmt: skip
"""ATen operator -> translation."""
