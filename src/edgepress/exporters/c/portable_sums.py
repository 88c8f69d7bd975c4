"""Lowering sums of products over any axes, and quotients, to their portable kernels."""

import numpy as np

from edgepress.errors import UserError
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.calls import Argument, Call, Constant, Field, In, Layer, Out, Overlap, Ref
from edgepress.exporters.c.portable_parts import single

OUTER, SUMMED = 5, 3  # loops of ep_loops
Loop = tuple[int, int, int]  # count, step in a, step in b
LARGEST_PRODUCT = 255 * 255


def contract(graph: g.Graph, op: g.Contract) -> Layer:
    reach = op.loops.products * (LARGEST_PRODUCT if len(op.inputs) > 1 else 255)
    if reach >= 2**31:
        found, expected = f"{op.loops.products} products per sum", f"up to {(2**31 - 1) // LARGEST_PRODUCT}"
        raise UserError(f"{op.name}: sums may leave 32 bits", found=found, expected=expected, fix="sum in two steps")
    operands, constants = _operands(graph, op)
    fields = _fields(graph, op, op.loops)
    if op.staircase is None:
        fields |= single(op.rescale)
        call = Call("ep_contract_ref", "ep_contract.h", (*operands, Out(op.output)), "ep_loops", fields)
        return Layer(op, (call,), constants, overlaps=_in_place(graph, op), kernel="sums of products")
    fields["stairs"] = len(op.staircase.starts)
    constants += (
        Constant("starts", "int32_t", np.asarray(op.staircase.starts)),
        Constant("values", "int8_t", np.asarray(op.staircase.values)),
    )
    arguments = (*operands, Ref("starts"), Ref("values"), Out(op.output))
    call = Call("ep_contract_stairs", "ep_contract.h", arguments, "ep_loops", fields)
    return Layer(op, (call,), constants, kernel="sums of products, a function of them by steps")


def divide(graph: g.Graph, op: g.Divide) -> Layer:
    if op.rescale.shift[0] > 0:
        ratio = f"a step of the quotient is 2**{op.rescale.shift[0] + 21} of the result's"
        raise UserError(f"{op.name}: the scale of the quotient is too small", found=ratio, expected="below 2**22")
    operands, constants = _operands(graph, op)
    fields = _fields(graph, op, op.loops) | single(op.rescale)
    call = Call("ep_divide_ref", "ep_divide.h", (*operands, Out(op.output)), "ep_loops", fields)
    return Layer(op, (call,), constants, overlaps=_in_place(graph, op), kernel="quotients")


def _operands(graph: g.Graph, op: g.Contract | g.Divide) -> tuple[tuple[Argument, ...], tuple[Constant, ...]]:
    """Pointers to both operands; a missing second one is a 1."""
    arguments, constants = list[Argument](), list[Constant]()
    for name, letter in zip((*op.inputs, None)[:2], "ab", strict=True):
        data = np.ones(1, np.int8) if name is None else graph.tensor(name).data
        if data is not None:
            constants.append(Constant(letter, "int8_t", data))
        arguments.append(Ref(letter) if data is not None or name is None else In(name))
    return tuple(arguments), tuple(constants)


def _fields(graph: g.Graph, op: g.Contract | g.Divide, loops: g.Loops) -> dict[str, Field]:
    walks = list(zip(loops.counts, loops.a_steps, loops.b_steps, strict=True))
    at = len(walks) - loops.summed
    outer, inner = _filled(op, walks[:at], OUTER), _filled(op, walks[at:], SUMMED)
    fields: dict[str, Field] = dict(zip(("count", "a_step", "b_step"), outer, strict=True))
    fields |= dict(zip(("summed", "a_summed", "b_summed"), inner, strict=True))
    zeros = [graph.tensor(name).zero_point for name in op.inputs]
    fields |= {"a_zero": zeros[0], "b_zero": zeros[1] if len(zeros) > 1 else 0}
    low, high = op.clamp
    return fields | {"out_zero": graph.tensor(op.output).zero_point, "low": low, "high": high}


def _filled(op: g.Op, loops: list[Loop], size: int) -> list[tuple[int, ...]]:
    """Counts, steps in a and steps in b, loops that continue one another joined, filled up with loops of one."""
    joined: list[Loop] = []
    for count, *steps in loops:
        if count == 1:
            continue
        if joined and joined[-1][1:] == tuple(count * step for step in steps):
            count *= joined.pop()[0]
        joined.append((count, steps[0], steps[1]))
    if len(joined) > size:
        raise UserError(f"{op.name}: too many axes", found=f"{len(joined)} axes above 1", expected=f"up to {size}")
    return list(zip(*([(1, 0, 0)] * (size - len(joined)) + joined), strict=True))


def _in_place(graph: g.Graph, op: g.Contract | g.Divide) -> dict[str, Overlap]:
    """Without sums, an operand that is walked element by element may give its bytes to the result."""
    if op.loops.summed:
        return {}
    size, counts = graph.tensor(op.output).size, op.loops.counts
    plain = tuple(int(np.prod(counts[i + 1 :], dtype=np.int64)) for i in range(len(counts)))
    free = {}
    for name, steps in zip(op.inputs, (op.loops.a_steps, op.loops.b_steps), strict=False):
        straight = all(s == p or n == 1 for s, p, n in zip(steps, plain, counts, strict=True))
        x = graph.tensor(name)
        if straight and x.data is None and x.size == size and op.inputs.count(name) == 1:
            free[name] = Overlap(0)
    return free
