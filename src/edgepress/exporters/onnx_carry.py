"""Let nodes that only move values work on the integers themselves.

A row looked up in a dequantized table is dequantized after it was looked up, and not the table each time.
Dequantize -> move -> Quantize on one grid is the move of the integers. Runtimes find that for some operators (not for
Pad, whose zeros become zero points); written out, it is certain and the file is smaller.
"""

import onnx
from onnx import numpy_helper

MOVES = {"Slice", "Pad", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "DepthToSpace"}


def carry_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the model in place, in one sweep from inputs to outputs; returns it."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {output.name: 1 for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for quantize in [n for n in graph.node if n.op_type == "QuantizeLinear"]:
        move = makers.get(quantize.input[0])
        if move is None or move.op_type not in MOVES or readers[move.output[0]] != 1:
            continue
        dequantize = makers.get(move.input[0])
        if dequantize is not None and dequantize.op_type == "DequantizeLinear" and _same_grid(dequantize, quantize):
            _carry(graph, dequantize, move, quantize, weights)
            makers[move.output[0]] = move
    for lookup in [n for n in graph.node if n.op_type == "Gather"]:
        dequantize = makers.get(lookup.input[0])
        if dequantize is not None and dequantize.op_type == "DequantizeLinear" and _is_table(dequantize, weights):
            _look_up_integers(graph, lookup, dequantize)
    _drop_unread(graph)
    return model


def _same_grid(dequantize: onnx.NodeProto, quantize: onnx.NodeProto) -> bool:
    """Equal constants share a name (see GraphBuilder.constant), so comparing names is enough."""
    return list(dequantize.input[1:]) == list(quantize.input[1:])


def _is_table(dequantize: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    """Stored integers with one scale for all."""
    table, scale = (weights.get(name) for name in dequantize.input[:2])
    return table is not None and scale is not None and not scale.dims


def _look_up_integers(graph: onnx.GraphProto, lookup: onnx.NodeProto, dequantize: onnx.NodeProto) -> None:
    """Gather(DequantizeLinear(table), rows) -> DequantizeLinear(Gather(table, rows))."""
    out, integers = lookup.output[0], f"{lookup.output[0]}_int"
    lookup.input[0], lookup.output[0] = dequantize.input[0], integers
    after = onnx.helper.make_node(
        "DequantizeLinear", [integers, *dequantize.input[1:]], [out], name=f"{out}_dequantize"
    )
    graph.node.insert(list(graph.node).index(lookup) + 1, after)


def _carry(
    graph: onnx.GraphProto,
    dequantize: onnx.NodeProto,
    move: onnx.NodeProto,
    quantize: onnx.NodeProto,
    weights: dict[str, onnx.TensorProto],
) -> None:
    move.input[0] = dequantize.input[0]
    move.output[0] = quantize.output[0]
    if move.op_type == "Pad" and len(move.input) > 2:
        filling = weights.get(move.input[2])
        # Placement only quantizes padding with zeros, and the integer of 0 is the zero point.
        assert filling is None or not numpy_helper.to_array(filling).any()
        move.input[2] = quantize.input[2]
    graph.node.remove(quantize)


def _drop_unread(graph: onnx.GraphProto) -> None:
    wanted = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):
        if wanted.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            wanted.update(node.input)
    for tensor in [t for t in graph.initializer if t.name not in wanted]:
        graph.initializer.remove(tensor)
