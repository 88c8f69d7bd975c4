"""Round a weight so that the layer's *output* errs least, not the weight itself.

GPTQ (Frantar et al. 2023): columns are rounded one after the other, and what each rounding adds to the output's error
is taken up by the columns still open, as the second moments H of the inputs say.
All matrices are (groups, rows, columns).
"""

from dataclasses import dataclass

import torch

from edgepress.ir.quant_plan import Grid

DAMPING = 0.01  # share of H's mean diagonal added to it: few patches leave directions nobody has seen
BLOCK = 64
SWEEPS = 8
SHRINK = torch.linspace(1.0, 0.3, 24).tolist()


def damped(second: torch.Tensor) -> torch.Tensor:
    """H with a little of its mean diagonal added, so that it can be inverted."""
    mean = second.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    eye = torch.eye(second.shape[1], dtype=second.dtype)
    return second + DAMPING * mean[:, None, None] * eye


def compensated(weight: torch.Tensor, second: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The float weight that on the quantized network's inputs y best does what `weight` does on the float inputs x.

    argmin_V E|W x - V y|^2 + damping |V - W|^2 = W + W (C - H) (H + damping)^-1.
    """
    correction: torch.Tensor = torch.linalg.solve(damped(second), (weight @ (cross - second)).mT).mT
    return weight + correction


def output_error(difference: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """E|D y|^2 per row for a difference D of weights: (groups, rows)."""
    return torch.einsum("grc,gcd,grd->gr", difference, second, difference)


def best_scales(weight: torch.Tensor, second: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Per row the scale, between 0.3 and 1 of min-max, with the smallest output error: (groups, rows)."""
    rows, moments = weight.float(), second.float()
    full = rows.abs().amax(2) / max(grid.high, 1)
    full = torch.where(full > 0, full, torch.ones_like(full))
    best, least = full, torch.full_like(full, torch.inf)
    for shrink in SHRINK:
        scale = full * shrink
        rounded = _nearest(rows, scale, grid) * scale[:, :, None]
        error = output_error(rows - rounded, moments)
        best, least = torch.where(error < least, scale, best), torch.minimum(error, least)
    return best.double()


@dataclass(frozen=True)
class Order:
    """The order in which columns are rounded, and how errors travel along it.

    Attributes:
        columns: (groups, columns), those with most energy first. factor: upper Cholesky factor of H^-1 in that order.
    """

    columns: torch.Tensor
    factor: torch.Tensor


def column_order(second: torch.Tensor) -> Order:
    """The order for the second moments H. It does not depend on the weight or its scales."""
    columns = second.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
    hessian = torch.gather(damped(second), 1, columns[:, :, None].expand_as(second))
    hessian = torch.gather(hessian, 2, columns[:, None, :].expand_as(second))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return Order(columns, torch.linalg.cholesky(inverse, upper=True))


def best_block_scales(weight: torch.Tensor, second: torch.Tensor, grid: Grid, block: int) -> torch.Tensor:
    """`best_scales` for every `block` columns of a single group on their own: (1, rows, columns / block)."""
    starts = range(0, weight.shape[2], block)
    blocks = torch.stack([weight[0, :, i : i + block] for i in starts])
    moments = torch.stack([second[0, i : i + block, i : i + block] for i in starts])
    return best_scales(blocks, moments, grid).T[None]


def round_columns(weight: torch.Tensor, order: Order, scales: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Integers of `weight`, as floats, by GPTQ. `scales`: one per row, or one per element of the weight."""
    columns = order.columns[:, None, :].expand_as(weight)
    steps = scales if scales.dim() == 3 else scales[:, :, None].expand_as(weight)
    rounded = _sweep(torch.gather(weight, 2, columns).clone(), order.factor, torch.gather(steps, 2, columns), grid)
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def _sweep(open_: torch.Tensor, factor: torch.Tensor, scales: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Round column by column; errors travel to the right at once within a block, and block by block beyond it.

    All operands in the order of rounding; `scales` has the shape of the weight.
    """
    result = torch.empty_like(open_)
    for start in range(0, open_.shape[2], BLOCK):
        stop = min(start + BLOCK, open_.shape[2])
        errors = torch.empty_like(open_[:, :, start:stop])
        for j in range(start, stop):
            column, step = open_[:, :, j], scales[:, :, j]
            result[:, :, j] = torch.clamp(torch.round(column / step), grid.low, grid.high)
            error = (column - result[:, :, j] * step) / factor[:, j, j][:, None]
            errors[:, :, j - start] = error
            open_[:, :, j + 1 : stop] -= error[:, :, None] * factor[:, None, j, j + 1 : stop]
        open_[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return result


def descended(
    weight: torch.Tensor, second: torch.Tensor, integers: torch.Tensor, scales: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Better integers for given scales, by cyclic coordinate descent (Behdin et al. 2023, QuantEase).

    With all other columns fixed, the best value of column j is known: q + G_j / (s H_jj), with G = (W - s Q) H the
    gradient of the output's error. Columns are swept until none changes or `SWEEPS` are done; the error never grows.

    Args:
        integers, scales: as `round_columns` gives and takes them.
    """
    hessian = damped(second)
    steps = scales if scales.dim() == 3 else scales[:, :, None].expand_as(weight)
    result, gradient = integers.clone(), (weight - integers * steps) @ hessian
    for _ in range(SWEEPS):
        changed = False
        for start in range(0, weight.shape[2], BLOCK):
            block = slice(start, start + BLOCK)
            moved = _descend_block(result[:, :, block], gradient[:, :, block], steps[:, :, block],
                                   hessian[:, block, block], grid)  # fmt: skip
            if bool(moved.any()):
                gradient = gradient - moved @ hessian[:, block]
                changed = True
        if not changed:
            break
    return result


def _descend_block(
    integers: torch.Tensor, gradient: torch.Tensor, steps: torch.Tensor, hessian: torch.Tensor, grid: Grid
) -> torch.Tensor:
    """Sweep the columns of one block, changing `integers` in place; by how much each value of the weight moved."""
    inside, moved = gradient.clone(), torch.zeros_like(steps)
    for j in range(integers.shape[2]):
        wish = integers[:, :, j] + inside[:, :, j] / (hessian[:, j, j][:, None] * steps[:, :, j])
        wish = torch.clamp(torch.round(wish), grid.low, grid.high)
        moved[:, :, j] = (wish - integers[:, :, j]) * steps[:, :, j]
        integers[:, :, j] = wish
        inside -= moved[:, :, j, None] * hessian[:, None, j]
    return moved


def fitted_scales(
    weight: torch.Tensor, second: torch.Tensor, integers: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor:
    """The scale per row that fits given integers best: argmin_s E|(W - s Q) y|^2 = <W, Q>_H / <Q, Q>_H."""
    above = torch.einsum("grc,gcd,grd->gr", weight, second, integers)
    below = output_error(integers, second)
    fitted = above / below.clamp_min(1e-30)
    return torch.where((below > 0) & (fitted > 0.2 * scales) & (fitted < 2 * scales), fitted, scales)


def _nearest(weight: torch.Tensor, scales: torch.Tensor, grid: Grid) -> torch.Tensor:
    return torch.clamp(torch.round(weight / scales[:, :, None]), grid.low, grid.high)
