"""Blocks on integers of onnxruntime's own domain: attention, embeddings and the LSTM, as the float blocks they mean.

QAttention               -> DequantizeLinear (input), matrix on its grid, attention
QEmbedLayerNormalization -> tables on their grids, EmbedLayerNormalization
DynamicQuantizeLSTM      -> input rounded as the runtime does, LSTM with the weights that the integers stand for
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, select
from edgepress.importers.onnx.graph import Step
from edgepress.importers.onnx.ops import quant, recurrent, transformers
from edgepress.importers.onnx.values import Constant, Unsupported

MICROSOFT = "com.microsoft"
Known = Mapping[str, Constant]
Expanded = tuple[tuple[Step, ...], tuple[Constant, ...]]


def expand_block(step: Step, constants: Known) -> Expanded | None:
    """The float steps of a block on integers and the constants they need; `None` for any other step.

    Raises:
        Unsupported: weights that are computed while the network runs.
    """
    expand = BLOCKS.get(step.kind)
    return None if expand is None else expand(step, constants)


def _inputs(step: Step, count: int) -> tuple[str, ...]:
    """Names of all inputs, "" for what is left out."""
    return (*step.inputs, *[""] * count)[:count]


def _stored(step: Step, name: str, constants: Known) -> Tensor:
    if name not in constants:
        raise Unsupported(f"node {step.name!r} ({step.kind})", found=f"{name or 'an input'!r} is not stored",
                          expected="constant weights, scales and zero points")  # fmt: skip
    return constants[name].tensor


def _dequantized(name: str, facts: tuple[str, ...], output: str, axis: int) -> Step:
    given = facts if facts[-1] else facts[:-1]
    return Step(name, "DequantizeLinear", DEQUANTIZE, given, (output,), {"axis": axis})


def _attention(step: Step, constants: Known) -> Expanded:
    """x (B, L, E) and the matrix (E, Q + K + V), which is stored turned, as layers have it."""
    x, weight, bias, x_scale, scale, mask, x_zero, zero, past = _inputs(step, 9)
    base = step.outputs[0]
    turned = Constant(f"{weight}::turned", _stored(step, weight, constants).t().contiguous())
    steps = (
        _dequantized(f"{step.name}_input", (x, x_scale, x_zero), f"{base}::input", 1),
        _dequantized(f"{step.name}_weight", (turned.name, scale, zero), f"{base}::weight", 0),
        Step(step.name, "edgepress::Attention", ATTENTION, (f"{base}::input", f"{base}::weight", bias, mask, past),
             step.outputs, {k: v for k, v in step.attributes.items() if k != "past_present_share_buffer"}),
    )  # fmt: skip
    return steps, (turned,)


def _embeddings(step: Step, constants: Known) -> Expanded:
    """Three tables, gamma and beta, each on a grid of its own."""
    tokens, segments, *tables = _inputs(step, 18)
    mask, scales, zeros = tables[5], tables[6:11], tables[11:16]
    base = step.outputs[0]
    names = [f"{base}::{role}" if table else "" for role, table in zip(TABLES, tables[:5], strict=True)]
    steps = [
        _dequantized(f"{step.name}_{role}", facts, name, 0)
        for role, name, facts in zip(TABLES, names, zip(tables[:5], scales, zeros, strict=True), strict=True)
        if name
    ]
    inputs = (tokens, segments, *names, mask)
    return (*steps, Step(step.name, EMBEDDINGS_KIND, EMBEDDINGS, inputs, step.outputs, step.attributes)), ()


def _lstm(step: Step, constants: Known) -> Expanded:
    """Matrices (directions, inputs, 4 H) of integers become (directions, 4 H, inputs) of floats."""
    x, w, r, bias, lengths, hidden, cell, peepholes, *facts = _inputs(step, 12)
    base = next(name for name in (*step.outputs, step.name) if name)
    matrices = tuple(
        Constant(f"{base}::{role}", _real(*(None if not n else _stored(step, n, constants) for n in names)))
        for role, names in (("weight_ih", (w, *facts[:2])), ("weight_hh", (r, *facts[2:])))
    )
    grid = f"{base}::grid"
    steps = (
        Step(f"{step.name}_input", "edgepress::DynamicGrid", GRID, (x,), (grid,)),
        Step(step.name, "LSTM", LSTM, (grid, *(m.name for m in matrices), bias, lengths, hidden, cell, peepholes),
             step.outputs, step.attributes),
    )  # fmt: skip
    return steps, matrices


def _real(whole: Tensor | None, scale: Tensor | None, zero: Tensor | None) -> Tensor:
    """(integers (D, I, G) - zero) scale, turned to (D, G, I); one scale for each direction or each column."""
    if whole is None or scale is None:
        raise Unsupported("DynamicQuantizeLSTM", found="no weights or scales", expected="both stored in the file")
    spread = [scale.reshape(whole.shape[0], 1, -1)]
    spread.append(torch.zeros(()) if zero is None else zero.reshape(whole.shape[0], 1, -1).float())
    return ((whole.float() - spread[1]) * spread[0]).transpose(1, 2).contiguous()


def _newest(kind: str, table: Mapping[str, Operator | dict[int, Operator]]) -> Operator:
    found = select(table[kind], 1000)
    assert found is not None
    return found


TABLES = ("words", "places", "segments", "gamma", "beta")
EMBEDDINGS_KIND = f"{MICROSOFT}::EmbedLayerNormalization"
DEQUANTIZE, GRID = (_newest(kind, quant.OPERATORS) for kind in ("DequantizeLinear", "edgepress::DynamicGrid"))
ATTENTION, EMBEDDINGS = (_newest(k, transformers.OPERATORS) for k in ("edgepress::Attention", EMBEDDINGS_KIND))
LSTM = _newest("LSTM", recurrent.OPERATORS)
BLOCKS: dict[str, Callable[[Step, Known], Expanded]] = {
    f"{MICROSOFT}::QAttention": _attention,
    f"{MICROSOFT}::QEmbedLayerNormalization": _embeddings,
    f"{MICROSOFT}::DynamicQuantizeLSTM": _lstm,
}
SIMPLIFIED = {
    f"{MICROSOFT}::DynamicQuantizeLSTM": "the runtime also rounds the states of DynamicQuantizeLSTM to 8 bits at every "
    "step; here they are float, so outputs differ by some 1e-3"
}
"""Kind of block -> a note on what its float form leaves out."""

OPERATORS = {kind: Operator(lambda *_, **__: None, foldable=False) for kind in BLOCKS}
