"""Sampling grids, regions of interest, non-maximum suppression."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import Numbers, Unsupported

GRID_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


def affine_grid(theta: Tensor, size: Numbers, align_corners: int = 0) -> Tensor:
    """Sampling positions of an affine map, 2-D or 3-D."""
    return F.affine_grid(theta, [int(n) for n in size], align_corners=bool(align_corners))


def grid_sample(
    x: Tensor, grid: Tensor, *, mode: str = "linear", padding_mode: str = "zeros", align_corners: int = 0
) -> Tensor:
    """Sample x at positions in [-1, 1]."""
    if x.dim() == 5 and GRID_MODES[mode] == "bicubic":
        raise Unsupported("GridSample", found="cubic in three dimensions", expected="linear or nearest")
    return F.grid_sample(x, grid, GRID_MODES[mode], padding_mode, bool(align_corners))


def roi_align(
    x: Tensor,
    rois: Tensor,
    images: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    coordinate_transformation_mode: str = "half_pixel",
) -> Tensor:
    """Pool regions into a grid of bins by bilinear samples: (regions, C, oh, ow)."""
    if rois.shape[0] == 0:
        return torch.zeros(0, x.shape[1], output_height, output_width, dtype=x.dtype)
    offset = 0.5 if coordinate_transformation_mode == "half_pixel" else 0.0
    out, legacy = (output_height, output_width), offset == 0.0
    pooled = [
        _pool_region(x[int(image)], roi * spatial_scale - offset, out, sampling_ratio, mode, legacy)
        for roi, image in zip(rois, images, strict=True)
    ]
    return torch.stack(pooled)


def _pool_region(x: Tensor, roi: Tensor, out: tuple[int, int], ratio: int, mode: str, at_least_one: bool) -> Tensor:
    left, top, right, bottom = roi
    width, height = right - left, bottom - top
    if at_least_one:
        width, height = width.clamp(min=1.0), height.clamp(min=1.0)
    bin_h, bin_w = height / out[0], width / out[1]
    samples_h = ratio or int(torch.ceil(bin_h))
    samples_w = ratio or int(torch.ceil(bin_w))
    ys = top + (torch.arange(out[0] * samples_h) + 0.5) * bin_h / samples_h
    xs = left + (torch.arange(out[1] * samples_w) + 0.5) * bin_w / samples_w
    parts = _bilinear_parts(x, ys, xs)  # (4, C, rows, columns): weighted corners
    bins = parts.reshape(4, x.shape[0], out[0], samples_h, out[1], samples_w)
    if mode == "max":  # the specification takes the largest weighted corner, not the largest sample
        return bins.amax((0, 3, 5))
    return bins.sum(0).mean((2, 4))


def _bilinear_parts(x: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    height, width = x.shape[1:]
    inside = ((ys >= -1) & (ys <= height))[:, None] & ((xs >= -1) & (xs <= width))[None, :]
    (y0, y1, fy), (x0, x1, fx) = _neighbours(ys, height), _neighbours(xs, width)
    corners = [
        (1 - fy)[:, None] * (1 - fx) * x[:, y0][:, :, x0],
        (1 - fy)[:, None] * fx * x[:, y0][:, :, x1],
        fy[:, None] * (1 - fx) * x[:, y1][:, :, x0],
        fy[:, None] * fx * x[:, y1][:, :, x1],
    ]
    return torch.where(inside, torch.stack(corners), 0.0)


def _neighbours(positions: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    held = positions.clamp(0, length - 1)
    low = held.floor().to(torch.int64).clamp(max=length - 1)
    return low, (low + 1).clamp(max=length - 1), held - low


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output: Numbers | None = None,
    iou_threshold: Tensor | None = None,
    score_threshold: Tensor | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Greedy suppression per image and class: rows (image, class, box) of what is kept."""
    limit = 0 if max_output is None else min(int(max_output.reshape(-1)[0]), boxes.shape[1])
    overlap = torch.zeros(1) if iou_threshold is None else iou_threshold
    least = torch.full((1,), -float("inf")) if score_threshold is None else score_threshold
    return torch.ops.edgepress.non_max_suppression(
        boxes, scores, limit, overlap.reshape(1), least.reshape(1), bool(center_point_box)
    )


@torch.library.custom_op("edgepress::non_max_suppression", mutates_args=())
def _suppress(
    boxes: Tensor, scores: Tensor, limit: int, iou_threshold: Tensor, score_threshold: Tensor, centers: bool
) -> Tensor:
    corners = _corners(boxes, centers)
    rows = []
    for image in range(scores.shape[0]):
        for category in range(scores.shape[1]):
            kept = _greedy(corners[image], scores[image, category], limit, float(iou_threshold), float(score_threshold))
            rows += [[image, category, box] for box in kept]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)


@_suppress.register_fake
def _suppress_shape(
    boxes: Tensor, scores: Tensor, limit: int, iou_threshold: Tensor, score_threshold: Tensor, centers: bool
) -> Tensor:
    count = torch.library.get_ctx().new_dynamic_size()
    return torch.empty(count, 3, dtype=torch.int64)


def _corners(boxes: Tensor, centers: bool) -> Tensor:
    """(y1, x1, y2, x2) with y1 <= y2, from corners in any order or (x, y, width, height)."""
    if centers:
        x, y, w, h = boxes.unbind(-1)
        return torch.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)
    first, second = boxes[..., :2], boxes[..., 2:]
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _greedy(boxes: Tensor, scores: Tensor, limit: int, overlap: float, least: float) -> list[int]:
    """In numpy: thousands of short steps, on which torch would spend its time calling itself."""
    ranked = torch.argsort(scores, descending=True, stable=True)
    order: Numbers = ranked[scores[ranked] > least].numpy()
    low, high = boxes[:, :2].numpy(), boxes[:, 2:].numpy()
    areas = np.prod(high - low, axis=1)
    kept: list[int] = []
    while len(order) and len(kept) < limit:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        sides = (np.minimum(high[best], high[rest]) - np.maximum(low[best], low[rest])).clip(min=0)
        common = sides[:, 0] * sides[:, 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = common / (areas[best] + areas[rest] - common)
        order = rest[~(iou > overlap)]
    return kept


def max_roi_pool(x: Tensor, rois: Tensor, *, pooled_shape: Any, spatial_scale: float = 1.0) -> Tensor:
    """Largest element of each bin of each region; rois (regions, 5) with the image first."""
    regions = []
    for image, left, top, right, bottom in rois.tolist():
        x0, y0, x1, y1 = (round(n * spatial_scale) for n in (left, top, right, bottom))
        region = x[int(image), :, y0 : max(y1 + 1, y0 + 1), x0 : max(x1 + 1, x0 + 1)]
        regions.append(F.adaptive_max_pool2d(region, tuple(pooled_shape)))
    return torch.stack(regions)


OPERATORS: Operators = {
    "AffineGrid": Operator(affine_grid, numbers=(1,)),
    "GridSample": Operator(grid_sample),
    "RoiAlign": Operator(roi_align),
    "MaxRoiPool": Operator(max_roi_pool),
    "NonMaxSuppression": Operator(non_max_suppression, numbers=(2,)),
}
