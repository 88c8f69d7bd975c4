"""Einsum as what it usually is: a product of matrices, or a layer, which pruning and quantization know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepress.importers.onnx.entry import Operator, Operators


@dataclass(frozen=True)
class Contraction:
    """Two operands, letters sorted by what becomes of them.

    Attributes:
        batch: in both and in the result. left, right: in one operand and in the result. summed: in both alone.
        result: the letters in the order that is wanted.
    """

    first: str
    second: str
    batch: str
    left: str
    right: str
    summed: str
    result: str

    @property
    def made(self) -> str:
        """The order in which a product of matrices leaves the letters."""
        return self.batch + self.left + self.right


def parse(equation: str) -> Contraction | None:
    """The equation as a product of matrices; `None` where it is none (diagonals, outer products, three operands)."""
    inputs, _, result = equation.replace(" ", "").partition("->")
    if "->" not in equation:
        letters = inputs.replace(",", "")
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    operands = inputs.split(",")
    if len(operands) != 2 or "." in equation or any(len(set(term)) != len(term) for term in (*operands, result)):
        return None
    first, second = operands
    summed = "".join(c for c in first if c in second and c not in result)
    alone = [c for c in first + second if c not in result and c not in summed]
    if not summed or alone:
        return None
    batch = "".join(c for c in result if c in first and c in second)
    left = "".join(c for c in result if c in first and c not in batch)
    right = "".join(c for c in result if c in second and c not in batch)
    return Contraction(first, second, batch, left, right, summed, result)


def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """Einstein summation; of two operands as a product of matrices where the equation is one."""
    found = parse(equation)
    if found is None or any(value.dim() != len(term) for value, term in zip(inputs, terms(equation), strict=False)):
        return torch.einsum(equation.replace(" ", ""), *inputs)
    a, b = inputs
    sizes = dict(zip(found.first + found.second, (*a.shape, *b.shape), strict=False))
    a = grouped(turned(a, found.first, found.batch + found.left + found.summed), found.batch, found.left, found.summed)
    b = grouped(
        turned(b, found.second, found.batch + found.summed + found.right), found.batch, found.summed, found.right
    )
    made = torch.matmul(a, b)
    if len(found.left) != 1 or len(found.right) != 1:
        made = made.reshape([sizes[c] for c in found.made])
    return turned(made, found.made, found.result)


def terms(equation: str) -> list[str]:
    """The operands' letters."""
    return equation.replace(" ", "").partition("->")[0].split(",")


def turned(value: Tensor, letters: str, wanted: str) -> Tensor:
    """Axes in another order."""
    return value if letters == wanted else value.permute([letters.index(c) for c in wanted])


def grouped(value: Tensor, batch: str, rows: str, columns: str) -> Tensor:
    """Batch axes as they are, then one axis for each of two groups of letters."""
    if len(rows) == len(columns) == 1:
        return value
    lead, shape = len(batch), value.shape
    middle = lead + len(rows)
    return value.reshape([*shape[:lead], _product(shape[lead:middle]), _product(shape[middle:])])


def _product(sizes: Sequence[int]) -> int:
    return math.prod(sizes)


def layer_weight(found: Contraction, weight: Tensor) -> Tensor:
    """A constant second operand as the (outputs, inputs) matrix of a layer."""
    flat = turned(weight, found.second, found.right + found.summed)
    outputs = math.prod(weight.shape[found.second.index(c)] for c in found.right)
    return flat.reshape(outputs, -1).contiguous()


def layer(x: Tensor, weight: Tensor, *, equation: str, sizes: tuple[int, ...]) -> Tensor:
    """Einsum(x, W) with a constant W as a linear layer; `sizes` are those of the letters that W alone has."""
    found = parse(equation)
    assert found is not None, "made by the importer for such equations alone"
    x = turned(x, found.first, found.left + found.summed)
    made = F.linear(x if len(found.summed) == 1 else x.flatten(len(found.left)), weight)
    if len(sizes) != 1:
        made = made.unflatten(-1, sizes) if sizes else made.squeeze(-1)
    return turned(made, found.made, found.result)


OPERATORS: Operators = {
    "Einsum": Operator(einsum, weights=(0, 1)),
    "edgepress::EinsumLayer": Operator(layer, weights=(1,)),
}
