"""Keep onnxruntime from computing on integers what was left float for the sake of accuracy.

It moves Quantize and Dequantize through reshapes and transpositions, and where they meet around a Softmax it takes a
table of 8 bits for it, whose results are far off where the output's scale is small: the boxes of a detector that are
means of distributions lose 47 dB. A maximum with zero, which changes no value of a softmax, stands in between.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

MOVED_THROUGH = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
ZERO = "softmax_floor"


def keep_softmax_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite the model in place; returns it."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    caught = [n for n in graph.node if n.op_type == "Softmax" and _behind(n, makers) and _before(n, readers)]
    for softmax in caught:
        _stand_between(graph, softmax)
    if caught:
        graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), ZERO))
    return model


def _behind(softmax: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether what it reads was dequantized, but for moves."""
    node = makers.get(softmax.input[0])
    while node is not None and node.op_type in MOVED_THROUGH:
        node = makers.get(node.input[0])
    return node is not None and node.op_type == "DequantizeLinear"


def _before(softmax: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    """Whether what it makes is quantized, but for moves."""
    todo = list(readers.get(softmax.output[0], []))
    while todo:
        node = todo.pop()
        if node.op_type == "QuantizeLinear":
            return True
        if node.op_type in MOVED_THROUGH:
            todo += readers.get(node.output[0], [])
    return False


def _stand_between(graph: onnx.GraphProto, softmax: onnx.NodeProto) -> None:
    name = softmax.output[0]
    softmax.output[0] = f"{name}_table_free"
    guard = onnx.helper.make_node("Max", [softmax.output[0], ZERO], [name], name=f"{name}_guard")
    graph.node.insert(list(graph.node).index(softmax) + 1, guard)
