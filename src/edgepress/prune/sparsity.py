"""Which single weights go: magnitude, Wanda and SparseGPT, unstructured or N of every M; and what sparsity is worth."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgepress.analysis.coupling import arguments
from edgepress.analysis.pruning_terms import SparsityMethod, SparsityScope
from edgepress.errors import UserError
from edgepress.ir.program import Program, Refusal
from edgepress.passes.mask_weights import mask_weights
from edgepress.prune import score
from edgepress.prune.calibrate import input_products
from edgepress.prune.regression import can_regress

DAMPING = 0.01  # of the mean diagonal of the Hessian (Frantar & Alistarh 2023)
BLOCK = 64  # columns per lazy update


@dataclass(frozen=True)
class SparsityOptions:
    """Settings of weight masks.

    Attributes:
        method: "magnitude"; "wanda" (|w| · ‖x‖, Sun et al. 2024); "sparsegpt" (optimal brain surgeon column by column
            with updates of the weights that stay, Frantar & Alistarh 2023).
        sparsity: fraction of zeros; unused where `pattern` is given.
        scope: "layer" takes that fraction of each layer; "network" takes it of all of them together, by one threshold
            on LAMP scores, which gives each layer its own fraction.
        pattern: (N, M): of every M weights in a row along the input, N stay.
        ignore: regular expressions of parameters to leave dense.
    """

    method: SparsityMethod = "magnitude"
    sparsity: float = 0.5
    scope: SparsityScope = "layer"
    pattern: tuple[int, int] | None = None
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise UserError("sparsity", found=str(self.sparsity), expected="a fraction from 0 to below 1")
        if self.pattern is not None and not 0 < self.pattern[0] <= self.pattern[1]:
            raise UserError(
                "sparsity pattern", found=str(self.pattern), expected="(N, M) with 0 < N <= M, such as (2, 4)"
            )


@dataclass(frozen=True)
class SparsityResult:
    """The sparse program, the masks, layers that stayed dense and why, and counts."""

    program: Program
    changed: bool
    masks: Mapping[str, Tensor]
    refusals: tuple[Refusal, ...]
    facts: Mapping[str, float]


def sparsify(program: Program, options: SparsityOptions, batches: Iterable[tuple[Tensor, ...]] = ()) -> SparsityResult:
    """Mask the weights of every dense convolution and linear layer.

    Args:
        batches: calibration inputs; read by "wanda" and "sparsegpt".

    Raises:
        UserError: a method that needs calibration data was given none.
    """
    layers, refusals = maskable(program, options)
    products = {} if options.method == "magnitude" else input_products(program, batches, layers)
    if options.method != "magnitude" and not products and layers:
        raise UserError(f"sparsity by {options.method}", found="no calibration data", expected="at least one batch")
    masks, fresh = {}, {}
    shares = layer_shares({name: program.state()[name].detach() for name in layers.values()}, options)
    for node_name, weight_name in layers.items():
        weight = program.state()[weight_name].detach()
        own = replace(options, sparsity=shares[weight_name])
        rows, mask = _sparse_rows(weight.flatten(1), products.get(node_name), own)
        masks[weight_name] = mask.reshape(weight.shape)
        fresh[weight_name] = torch.where(masks[weight_name], rows.reshape(weight.shape), weight)
    updated = program.with_state(fresh)
    result = mask_weights(updated, masks)
    return SparsityResult(result.program, result.changed, masks, tuple(refusals), sparsity_facts(result.program))


def layer_shares(weights: Mapping[str, Tensor], options: SparsityOptions) -> dict[str, float]:
    """The fraction of zeros of each weight: the one asked for, or what one LAMP threshold for all of them gives."""
    if options.scope == "layer" or options.pattern is not None or not weights:
        return dict.fromkeys(weights, options.sparsity)
    scores = {name: score.lamp(weight).flatten() for name, weight in weights.items()}
    together = torch.cat(list(scores.values()))
    drop = int(options.sparsity * together.numel())
    if not drop:
        return dict.fromkeys(weights, 0.0)
    threshold = together.kthvalue(drop).values
    return {name: float((own <= threshold).double().mean()) for name, own in scores.items()}


def maskable(program: Program, options: SparsityOptions) -> tuple[dict[str, str], list[Refusal]]:
    """Node name -> weight name of the layers to mask, and why others stay dense."""
    names, refusals = program.state_names(), list[Refusal]()
    layers: dict[str, str] = {}
    for node in program.nodes:
        if not can_regress(node, names):
            continue
        weight = names[arguments(node)["weight"].name]
        inputs = program.state()[weight][0].numel()
        if any(re.search(pattern, weight) for pattern in options.ignore):
            continue
        if options.pattern is not None and inputs % options.pattern[1]:
            needed = f"a multiple of {options.pattern[1]} inputs"
            refusals.append(Refusal(weight, f"{inputs} inputs per output", needed))
            continue
        layers[node.name] = weight
    return layers, refusals


def _sparse_rows(weight: Tensor, product: Tensor | None, options: SparsityOptions) -> tuple[Tensor, Tensor]:
    """The weight (out, in) with its mask applied, and the mask."""
    if options.method == "sparsegpt":
        assert product is not None
        return sparsegpt(weight, product, options.sparsity, options.pattern)
    score = weight.abs() if product is None else weight.abs() * product.diagonal().clamp_min(0).sqrt().to(weight.dtype)
    whole = options.method == "magnitude"
    mask = keep_pattern(score, options.pattern) if options.pattern else keep_largest(score, options.sparsity, whole)
    return weight * mask, mask


def keep_largest(score: Tensor, sparsity: float, whole: bool) -> Tensor:
    """True for the largest scores: of the whole (out, in) matrix, or of each row (Wanda compares per output)."""
    flat = score.reshape(1, -1) if whole else score
    drop = int(sparsity * flat.shape[1])
    mask = torch.ones_like(flat, dtype=torch.bool)
    mask.scatter_(1, flat.argsort(1)[:, :drop], False)
    return mask.reshape(score.shape)


def keep_pattern(score: Tensor, pattern: tuple[int, int]) -> Tensor:
    """True for the N largest of every M scores in a row along the input."""
    n, m = pattern
    chunks = score.reshape(-1, m)
    mask = torch.zeros_like(chunks, dtype=torch.bool)
    mask.scatter_(1, chunks.topk(n, 1).indices, True)
    return mask.reshape(score.shape)


def sparsegpt(
    weight: Tensor, product: Tensor, sparsity: float, pattern: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """Frantar & Alistarh 2023, algorithm 1: prune column by column, spread each error over the columns to come.

    Args:
        weight: (out, in). product: (in, in), mean of x xᵀ.
    """
    hessian = product.double().clone()
    dead = hessian.diagonal() == 0
    hessian.diagonal().add_(DAMPING * hessian.diagonal().mean().clamp_min(1e-12)).add_(dead.double())
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    rows, mask = weight.double().clone(), torch.ones_like(weight, dtype=torch.bool)
    step = BLOCK if pattern is None else BLOCK // pattern[1] * pattern[1] or pattern[1]
    for start in range(0, weight.shape[1], step):
        end = min(start + step, weight.shape[1])
        errors = _prune_block(rows, mask, upper, slice(start, end), sparsity, pattern)
        rows[:, end:] -= errors @ upper[start:end, end:]
    return (rows * mask).to(weight.dtype), mask


def _prune_block(
    rows: Tensor, mask: Tensor, upper: Tensor, block: slice, sparsity: float, pattern: tuple[int, int] | None
) -> Tensor:
    """Choose and apply the mask of one block of columns; gives the scaled errors (out, columns)."""
    diagonal = upper.diagonal()
    errors = torch.zeros_like(rows[:, block])
    if pattern is None:
        mask[:, block] = keep_largest((rows[:, block] / diagonal[block]).square(), sparsity, whole=True)
    for column in range(block.start, block.stop):
        if pattern is not None and (column - block.start) % pattern[1] == 0:
            part = slice(column, column + pattern[1])
            mask[:, part] = keep_pattern((rows[:, part] / diagonal[part]).square(), pattern)
        error = rows[:, column] * ~mask[:, column] / diagonal[column]
        rows[:, column : block.stop] -= torch.outer(error, upper[column, column : block.stop])
        errors[:, column - block.start] = error
    return errors


def cubic_sparsity(step: int, steps: int, final: float, initial: float = 0.0) -> float:
    """Sparsity at `step` of a gradual schedule (Zhu & Gupta 2017, eq. 1): fast at first, slow at the end."""
    progress = min(max(step / max(steps, 1), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3


def sparsity_facts(program: Program) -> dict[str, float]:
    """Weights, zeros, dense bytes, and bytes with zeros left out (values plus one bit per weight)."""
    state = program.state()
    tensors = [state[name].detach() for name in program.parameter_names()]
    weights = sum(t.numel() for t in tensors)
    zeros = sum(int((t == 0).sum()) for t in tensors)
    dense = sum(t.numel() * t.element_size() for t in tensors)
    packed = sum(min(t.numel() * t.element_size(), _packed_bytes(t)) for t in tensors)
    return {"weights": weights, "zeros": zeros, "dense_bytes": dense, "compressed_bytes": packed}


def _packed_bytes(tensor: Tensor) -> int:
    return int((tensor != 0).sum()) * tensor.element_size() + (tensor.numel() + 7) // 8
