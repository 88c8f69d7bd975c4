"""How sums of products over named axes carry channels along: `einsum`."""

from collections.abc import Mapping, Sequence

import torch
from torch.fx import Node

from edgepress.analysis.coupling import Rule, arguments, rank
from edgepress.analysis.layout import Layout, blocks_of
from edgepress.analysis.trace import Trace


def einsum(trace: Trace, node: Node) -> Layout:
    """Axes of one letter belong together; a sum over fewer channels is the sum in which the others are zero."""
    bound = arguments(node)
    layouts = [trace.layout(n) for n in bound["tensors"]]
    terms, result = _letters(bound["equation"], [len(layout) for layout in layouts], rank(node))
    if any(len(set(term)) < len(term) for term in terms):
        for layout in layouts:
            trace.freeze_layout(layout, node.name, "takes a diagonal", "axes of different letters")
        return trace.fixed_output(node)
    once = _once(terms)
    layouts = [
        _settled(trace, layout, term, once | set(term) - set(result))
        for term, layout in zip(terms, layouts, strict=True)
    ]
    order = list(dict.fromkeys(letter for term in (result, *terms) for letter in term))
    padded = [_by_letter(term, layout, order) for term, layout in zip(terms, layouts, strict=True)]
    met = trace.match(padded, (node.name, "multiplies by a tensor without channels there", "the same channels there"))
    for position, letter in enumerate(order[: len(result)]):
        if letter in once:  # an axis that one operand brings, as an output of a layer
            trace.produce(met[position], node)
    return met[: len(result)]


def _once(terms: Sequence[Sequence[object]]) -> set[object]:
    """Letters that only one operand has."""
    return {letter for term in terms for letter in term if sum(letter in other for other in terms) == 1}


def _settled(trace: Trace, layout: Layout, term: Sequence[object], own: set[object]) -> Layout:
    """Axes that are summed over or have no partner made readable where an axis that has one is of the same block.

    As in a product of matrices: the heads beside them keep their channels, or these do.
    """
    settle = trace.settle if trace.attention == "heads" else trace.settle_inside
    for position in [p for p, letter in enumerate(term) if letter in own]:
        met = blocks_of(dim for dim, letter in zip(layout, term, strict=True) if letter not in own)
        if any(block in met for block in blocks_of([layout[position]])):
            layout = settle(layout, position)
    return layout


def _by_letter(term: Sequence[object], layout: Layout, order: Sequence[object]) -> Layout:
    return tuple(layout[term.index(letter)] if letter in term else () for letter in order)


def _letters(equation: str, ranks: Sequence[int], outputs: int) -> tuple[list[list[object]], list[object]]:
    """The letters of each operand and of the result; what `...` stands for is numbered from the right."""
    given, _, result = equation.replace(" ", "").partition("->")

    def spelled(term: str, dims: int) -> list[object]:
        before, dots, after = term.partition("...")
        free = dims - len(before) - len(after) if dots else 0
        return [*before, *range(free, 0, -1), *after]

    terms = [spelled(term, count) for term, count in zip(given.split(","), ranks, strict=True)]
    if "->" not in equation:
        every = [letter for term in terms for letter in term]
        numbers = sorted({x for x in every if isinstance(x, int)}, reverse=True)
        return terms, [*numbers, *sorted(x for x in set(every) if isinstance(x, str) and every.count(x) == 1)]
    return terms, spelled(result, outputs)


RULES: Mapping[object, Rule] = {torch.ops.aten.einsum.default: einsum}
