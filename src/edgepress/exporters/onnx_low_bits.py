"""Integers of four and two bits in ONNX: stored packed, computed on as runtimes can.

From opset 21 on a tensor may be INT4, from 25 on INT2. A weight that is multiplied with integers is cast to int8 first:
runtimes fold the cast when they load the model and find the same int8 kernels as ever (an int4 weight right at the
DequantizeLinear keeps onnxruntime 1.31 from them). A weight that meets float activations is dequantized as it is: with
blocks, onnxruntime fuses that and the product into MatMulNBits.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKED_SINCE = {4: 21, 2: 25}  # bits -> opset
Readers = dict[str, list[onnx.NodeProto]]
TYPES = {4: TensorProto.INT4, 2: TensorProto.INT2}


def pack_low_bits(model: onnx.ModelProto, *, casts: bool) -> onnx.ModelProto:
    """Store int8 weights whose values fit in fewer bits in as many, as far as the model's opset has them, in place.

    Args:
        casts: whether the runtime folds casts of weights; if not, weights that meet integers stay in bytes.
    """
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    graph = model.graph
    readers = _readers(graph)
    for tensor in list(graph.initializer):
        users = readers.get(tensor.name, [])
        if tensor.data_type != TensorProto.INT8 or not users or not all(_dequantizes(u, tensor.name) for u in users):
            continue
        values = numpy_helper.to_array(tensor)
        bits = _bits(values, opset)
        meets = [user for user in users if _meets_integers(graph, user, readers)]
        if bits and values.size > 1 and (casts or not meets):
            _store(graph, tensor, values.astype(helper.tensor_dtype_to_np_dtype(TYPES[bits])), users, meets)
    _drop_unread(graph)
    return model


def axes_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Reductions in the form of opset 18: the axes are an input, no longer an attribute. In place."""
    for node in model.graph.node:
        axes = next((a for a in node.attribute if a.name == "axes"), None)
        if node.op_type != "ReduceMean" or axes is None:
            continue
        name = f"{node.output[0]}_axes"
        model.graph.initializer.append(numpy_helper.from_array(np.array(axes.ints, np.int64), name))
        node.input.append(name)
        node.attribute.remove(axes)
    return model


def _readers(graph: onnx.GraphProto) -> Readers:
    readers: Readers = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def _dequantizes(node: onnx.NodeProto, name: str) -> bool:
    return node.op_type == "DequantizeLinear" and node.input[0] == name and name not in node.input[1:]


def _bits(values: np.ndarray, opset: int) -> int | None:
    """The fewest bits that hold the values and that the opset can store; `None`: no fewer than eight."""
    for bits in (2, 4):
        top = 2 ** (bits - 1)
        if values.size and values.min() >= -top and values.max() < top and opset >= PACKED_SINCE[bits]:
            return bits
    return None


def _store(
    graph: onnx.GraphProto,
    tensor: onnx.TensorProto,
    values: np.ndarray,
    users: list[onnx.NodeProto],
    with_integers: list[onnx.NodeProto],
) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    cast = f"{tensor.name}_int8"
    for user in users:
        if user in with_integers:
            user.input[0] = cast
        elif len(user.input) == 3:
            user.input.pop()  # the zero point: zero, and of the weight's own type where it is given
    if with_integers:
        graph.node.insert(0, helper.make_node("Cast", [tensor.name], [cast], to=TensorProto.INT8))


def _meets_integers(
    graph: onnx.GraphProto, dequantize: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]
) -> bool:
    """Whether any operand beside the weight comes from a DequantizeLinear of activations."""
    makers = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    others = [name for node in readers.get(dequantize.output[0], []) for name in node.input]
    sources = [makers[name] for name in others if name in makers and name != dequantize.output[0]]
    return any(s.op_type == "DequantizeLinear" and s.input[0] not in weights for s in sources)


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
