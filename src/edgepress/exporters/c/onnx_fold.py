"""Computing what an ONNX graph says about constants: shapes, expanded class tokens, transposed weights."""

from typing import Any

import numpy as np

from edgepress.exporters.c.graph import Array

KEPT = {"QuantizeLinear", "DequantizeLinear"}  # they say what is an integer


def fold(nodes: list[Any], constants: dict[str, Array], shapes: dict[str, tuple[int, ...]]) -> list[Any]:
    """The raw ONNX nodes that are left once those of known result are computed into `constants`."""
    left = []
    for node in nodes:
        if node.op_type == "Shape" and shapes.get(node.input[0]) and 0 not in shapes[node.input[0]]:
            constants[node.output[0]] = np.asarray(shapes[node.input[0]], np.int64)[_bounds(node)]
        elif node.op_type not in KEPT and all(name in constants for name in node.input if name):
            constants.update(zip(node.output, _evaluate(node, constants), strict=True))
        else:
            left.append(node)
    return left


def _bounds(node: Any) -> slice:
    given = {a.name: a.i for a in node.attribute}
    return slice(given.get("start", 0), given.get("end"))


def _evaluate(node: Any, constants: dict[str, Array]) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in dict.fromkeys(node.input) if name]
    values = {name: constants[name] for name in names}
    kinds = [helper.np_dtype_to_tensor_dtype(values[name].dtype) for name in names]
    inputs = [helper.make_tensor_value_info(n, k, None) for n, k in zip(names, kinds, strict=True)]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, values)]
