"""What a gate needs to know about an ONNX file, read from its bytes: no onnx, no protobuf, no weights in memory.

Importing `onnx` takes longer than a whole gate should. An ONNX file is one protobuf message whose weights are
length-delimited fields: they are skipped, so that 10 MB or 10 GB take the same time. Field numbers are those of
onnx.proto3; the wire format is https://protobuf.dev/programming-guides/encoding/.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edgepress.errors import UserError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Fields of the messages that are entered.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_INITIALIZER = 1, 5
NODE_INPUT, NODE_OP_TYPE, NODE_ATTRIBUTE = 1, 4, 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH = 5, 6
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_EXTERNAL = 1, 2, 8, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2
NOT_WEIGHTS = {7, 8, 9}
"""int64, string and bool tensors are shapes, axes and labels."""


class Contents(NamedTuple):
    """Weights and structure of an ONNX file.

    Attributes:
        params: elements of all initialisers and constants that are numbers a layer computes with: integers of 64 bits
            (shapes, axes), booleans, strings, and the scales and zero points of Q/DQ nodes do not count.
        operators: nodes, those of subgraphs included.
        external: files beside the model that hold weights.
    """

    params: int
    operators: int
    external: tuple[str, ...]


class _Tensor(NamedTuple):
    name: str
    elements: int
    data_type: int
    external: str


def read_onnx(path: Path) -> Contents:
    """Count what is in an ONNX file.

    Raises:
        UserError: the file is empty, or no protobuf message with a graph.
    """
    if path.stat().st_size == 0:
        raise _not_onnx(path, "an empty file")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            graphs = [(start, end) for field, start, end in _fields(data, 0, len(data)) if field == MODEL_GRAPH]
            if not graphs:
                raise _not_onnx(path, "no graph")
            return _contents(data, *graphs[-1])
        except (IndexError, UnicodeDecodeError) as error:
            raise _not_onnx(path, "broken or cut off") from error


def _not_onnx(path: Path, found: str) -> UserError:
    return UserError(
        f"{path} is not an ONNX model", found=found, expected="a protobuf ModelProto", fix="export it again"
    )


def _contents(data: mmap.mmap, start: int, end: int) -> Contents:
    tensors, side_inputs, operators = _walk(data, start, end)
    weights = [t for t in tensors if t.data_type not in NOT_WEIGHTS and t.name not in side_inputs]
    external = dict.fromkeys(t.external for t in tensors if t.external)
    return Contents(sum(t.elements for t in weights), operators, tuple(external))


def _walk(data: mmap.mmap, start: int, end: int) -> tuple[list[_Tensor], set[str], int]:
    """Tensors, names of Q/DQ scales and zero points, and number of nodes of a graph and its subgraphs."""
    tensors: list[_Tensor] = []
    side_inputs: set[str] = set()
    operators = 0
    for field, first, last in _fields(data, start, end):
        if field == GRAPH_INITIALIZER:
            tensors.append(_tensor(data, first, last))
        elif field == GRAPH_NODE:
            inner, names, count = _node(data, first, last)
            tensors += inner
            side_inputs |= names
            operators += count
    return tensors, side_inputs, operators


def _node(data: mmap.mmap, start: int, end: int) -> tuple[list[_Tensor], set[str], int]:
    fields = list(_fields(data, start, end))
    op_type = "".join(_text(data, first, last) for field, first, last in fields if field == NODE_OP_TYPE)
    inputs = [_text(data, first, last) for field, first, last in fields if field == NODE_INPUT]
    tensors: list[_Tensor] = []
    side_inputs = set(inputs[1:]) if op_type in ("QuantizeLinear", "DequantizeLinear") else set()
    operators = 1
    for field, first, last in fields:
        for part, begin, stop in _fields(data, first, last) if field == NODE_ATTRIBUTE else ():
            if part == ATTRIBUTE_TENSOR:
                tensors.append(_tensor(data, begin, stop))
            elif part == ATTRIBUTE_GRAPH:
                inner, names, count = _walk(data, begin, stop)
                tensors, side_inputs, operators = tensors + inner, side_inputs | names, operators + count
    return tensors, side_inputs, operators


def _tensor(data: mmap.mmap, start: int, end: int) -> _Tensor:
    elements, data_type, name, external = 1, 0, "", ""
    for field, first, last in _fields(data, start, end):
        if field == TENSOR_DIMS:  # packed (a run of varints) or one by one
            for dimension in _varints(data, first, last):
                elements *= dimension
        elif field == TENSOR_TYPE:
            data_type = next(_varints(data, first, last))
        elif field == TENSOR_NAME:
            name = _text(data, first, last)
        elif field == TENSOR_EXTERNAL:
            entry = {part: _text(data, begin, stop) for part, begin, stop in _fields(data, first, last)}
            external = entry.get(ENTRY_VALUE, "") if entry.get(ENTRY_KEY) == "location" else external
    return _Tensor(name, elements, data_type, external)


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, first byte, end) of each field of a message; contents are not touched."""
    at = start
    while at < end:
        key, at = _varint(data, at)
        length, at = _extent(data, at, key & 7)
        if at + length > end:
            raise IndexError("a field reaches beyond its message")
        yield key >> 3, at, at + length
        at += length


def _extent(data: mmap.mmap, at: int, wire_type: int) -> tuple[int, int]:
    """(length, position) of the contents of a field whose key ends at `at`."""
    if wire_type == BYTES:
        return _varint(data, at)
    if wire_type == VARINT:
        return _varint(data, at)[1] - at, at
    if wire_type in (FIXED32, FIXED64):
        return (4 if wire_type == FIXED32 else 8), at
    raise IndexError(f"wire type {wire_type} does not exist in proto3")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """(value, position after it) of a base-128 varint."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise IndexError("a varint has more than ten bytes")


def _varints(data: mmap.mmap, start: int, end: int) -> Iterator[int]:
    while start < end:
        value, start = _varint(data, start)
        yield value


def _text(data: mmap.mmap, start: int, end: int) -> str:
    return data[start:end].decode()
