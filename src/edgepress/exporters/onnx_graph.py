"""Build an ONNX graph from the values of a program: names, initializers, shapes. For each operator see `onnx_ops`."""

import hashlib
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.fx import Node

from edgepress.ir.program import Program

ELEMENT = {
    torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16,
    torch.float64: TensorProto.DOUBLE, torch.int64: TensorProto.INT64, torch.int32: TensorProto.INT32,
    torch.int16: TensorProto.INT16, torch.int8: TensorProto.INT8, torch.uint8: TensorProto.UINT8,
    torch.uint16: TensorProto.UINT16, torch.uint32: TensorProto.UINT32, torch.uint64: TensorProto.UINT64,
    torch.bool: TensorProto.BOOL,
}  # fmt: skip
# How sizes are computed from sizes, none of them negative.
ARITHMETIC = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "floordiv": "Div", "truediv": "Div", "mod": "Mod", "sym_max": "Max",
    "sym_min": "Min", "sym_float": "Identity", "floor": "Floor", "ceil": "Ceil", "_sym_sqrt": "Sqrt",
}  # fmt: skip
ROUNDED = ("floor", "ceil")
READ = ("item.default", "_local_scalar_dense.default")  # a number taken from a tensor while running


class NotTranslated(Exception):
    """An operator, or a form of it, that has no translation here."""


class GraphBuilder:
    """Collects ONNX nodes and initializers for one program.

    Equal initializers are stored once. Every value is called as its node in the program, so that layers of the
    artifact can be compared with layers of the program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, np.ndarray[Any, Any]] = {}  # weights share memory with the program
        self.names: dict[Node, str] = {}
        self._by_content: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._counts: dict[str, int] = {}
        self._sizes: dict[Node, str] = {}
        self._taken = {*program.input_names, *program.output_names}
        self._free = program.free_sizes()
        self._state, self._state_names = program.state(), program.state_names()
        for node, name in zip(program.user_inputs(), program.input_names, strict=True):
            self.names[node] = name

    # -- values --------------------------------------------------------------------------------------------------

    def name(self, value: Any) -> str:
        """The ONNX name of a node's value; weights become initializers when first asked for."""
        if not isinstance(value, Node):
            raise NotTranslated(f"{value!r} where a tensor was expected")
        if value not in self.names:
            tensor = self.tensor(value)
            if tensor is None:
                raise NotTranslated(f"{value.name} has no value in the ONNX graph")
            self.names[value] = self.constant(to_numpy(tensor), self._state_names[value.name])
        return self.names[value]

    def tensor(self, value: Any) -> torch.Tensor | None:
        """The weight behind a node, or `None`."""
        if not isinstance(value, Node) or value.name not in self._state_names:
            return None
        return self._state[self._state_names[value.name]]

    def constant(self, array: np.ndarray[Any, Any], hint: str = "c") -> str:
        """The name of an initializer with this content."""
        array = np.asarray(array, order="C")  # ascontiguousarray would turn scalars into vectors
        content = array.reshape(-1).view(np.uint8).data  # float8, which numpy lacks, has no buffer of its own
        key = (array.dtype.name, array.shape, hashlib.sha256(content).digest())
        if key not in self._by_content:
            name = self.fresh(hint)
            self.initializers[name] = array
            self._by_content[key] = name
        return self._by_content[key]

    def integers(self, values: Sequence[int]) -> str:
        """An int64 vector."""
        return self.constant(np.asarray(values, dtype=np.int64))

    def scalar(self, value: float, like: torch.dtype = torch.float32) -> str:
        """A scalar of the given dtype."""
        return self.constant(to_numpy(torch.tensor(value, dtype=like)))

    # -- nodes ---------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], *, out: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node; returns the name of its first output. Attributes that are `None` are left out."""
        outputs = [out or self.fresh("t")] if isinstance(out, str) else list(out)
        given = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **given))
        return outputs[0]

    def fresh(self, hint: str) -> str:
        """A name that is not taken."""
        while True:
            count = self._counts.get(hint, 0)
            self._counts[hint] = count + 1
            name = hint if count == 0 and hint not in ("c", "t") else f"{hint}{count}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    # -- shapes --------------------------------------------------------------------------------------------------

    def target_shape(self, node: Node) -> str:
        """The shape of `node`'s value as an input of Reshape.

        Free sizes that stay where they are become 0 ("as in the input"); one other free size may be -1.
        """
        shape, source = list(node.meta["val"].shape), node.args[0]
        free = [i for i, size in enumerate(shape) if not isinstance(size, int)]
        written = [0 if i in free else int(size) for i, size in enumerate(shape)]
        if len(free) == 1:
            written[free[0]] = -1
        elif free:
            before = source.meta["val"].shape if isinstance(source, Node) else ()
            moved = [i for i in free if i >= len(before) or str(before[i]) != str(shape[i])]
            if len(moved) > 1:
                return self.sizes(node.args[1])
            for i in moved:
                written[i] = -1
        return self.integers(written)

    def full_shape(self, node: Node) -> str:
        """The shape of `node`'s value, its free sizes read while running."""
        shape = node.meta["val"].shape
        if all(isinstance(size, int) for size in shape):
            return self.integers([int(size) for size in shape])
        source, wanted = node.args[0], node.args[1]
        assert isinstance(source, Node) and isinstance(wanted, list | tuple)
        kept = source.meta["val"].dim() - len(wanted)
        return self.sizes([size if size != -1 else (source, kept + i) for i, size in enumerate(wanted)])

    def sizes(self, wanted: Any) -> str:
        """A vector of sizes: numbers, nodes that compute a size, or (node, axis)."""
        if not isinstance(wanted, list | tuple):
            raise NotTranslated(f"{wanted!r} where a shape was expected")
        if all(isinstance(size, int) for size in wanted):  # also a scalar's, which has none
            return self.integers(wanted)
        return self.emit("Concat", [self._size(size) for size in wanted], axis=0)

    def number(self, value: Any, like: torch.dtype) -> str:
        """A scalar of the given type: a number, or one computed from sizes while running."""
        if not isinstance(value, Node):
            return self.scalar(value, like)
        scalar = self.emit("Squeeze", [self._size(value), self.integers([0])])
        made = torch.float32 if _is_fraction(value) else torch.int64
        return scalar if like == made else self.emit("Cast", [scalar], to=ELEMENT[like])

    def _size(self, size: Any) -> str:
        """A vector of one number."""
        if isinstance(size, int):
            return self.integers([size])
        if isinstance(size, float):
            return self.constant(np.asarray([size], np.float32))
        if isinstance(size, tuple):
            return self._axis(*size)
        if size not in self._sizes:
            self._sizes[size] = self._computed_size(size)
        return self._sizes[size]

    def _computed_size(self, size: Node) -> str:
        name = size.target.__name__ if callable(size.target) else str(size.target)
        if name == "sym_size.int":
            return self._axis(*size.args)  # type: ignore[arg-type]
        if name in READ and not isinstance(size.meta["val"], float | torch.SymFloat):
            whole = self.emit("Cast", [self.name(size.args[0])], to=TensorProto.INT64)
            return self.emit("Reshape", [whole, self.integers([1])])
        if name not in ARITHMETIC or not is_size(size):
            raise NotTranslated(f"a size computed by {name}")
        fractions = _is_fraction(size) or name in ROUNDED
        operands = [self._size(value) for value in size.args]
        if fractions:
            operands = [
                made if _is_fraction(value) else self.emit("Cast", [made], to=TensorProto.FLOAT)
                for made, value in zip(operands, size.args, strict=True)
            ]
        made = self.emit(ARITHMETIC[name], operands)
        return self.emit("Cast", [made], to=TensorProto.INT64) if name in ROUNDED and not _is_fraction(size) else made

    def _axis(self, source: Node, axis: int) -> str:
        return self.emit("Shape", [self.name(source)], start=axis, end=axis + 1)

    # -- the whole -----------------------------------------------------------------------------------------------

    def model(self, opset: int, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model, dead nodes removed; the builder is used up."""
        nodes = _alive(self.nodes, self.program.output_names)
        read = {name for node in nodes for name in node.input}
        graph = helper.make_graph(nodes, "edgepress", list(self._inputs()), list(self._outputs()))
        versions = [helper.make_opsetid("", opset)]
        versions += [helper.make_opsetid(domain, 1) for domain in sorted({n.domain for n in nodes} - {""})]
        model = helper.make_model(graph, opset_imports=versions, producer_name="edgepress")
        model.ir_version = helper.find_min_ir_version_for(list(model.opset_import), True)
        self._place_weights(model.graph, read | {*self.program.output_names})
        for key, value in sorted(metadata.items()):
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        return model

    def _place_weights(self, graph: onnx.GraphProto, read: set[str]) -> None:
        """Protobuf copies what is put into a message: moved last and one by one, weights are never there twice."""
        for name in list(self.initializers):
            array = self.initializers.pop(name)
            if name in read:
                graph.initializer.append(numpy_helper.from_array(array, name))

    def _inputs(self) -> Iterator[onnx.ValueInfoProto]:
        for node, name in zip(self.program.user_inputs(), self.program.input_names, strict=True):
            yield _value_info(node, name, self._free)

    def _outputs(self) -> Iterator[onnx.ValueInfoProto]:
        for node, name in zip(output_nodes(self.program), self.program.output_names, strict=True):
            yield _value_info(node, name, self._free)


def is_size(value: Any) -> bool:
    """Whether a node's value is a size, or a number computed from sizes, not a tensor."""
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.SymInt | torch.SymFloat | int | float)


def _is_fraction(value: Any) -> bool:
    number = value.meta["val"] if isinstance(value, Node) else value
    return isinstance(number, float | torch.SymFloat)


def output_nodes(program: Program) -> list[Node]:
    """The nodes whose values the program returns."""
    output = next(n for n in reversed(program.graph.nodes) if n.op == "output")
    values = output.args[0]
    flat = list(values) if isinstance(values, list | tuple) else [values]
    if not all(isinstance(v, Node) for v in flat):
        raise NotTranslated("an output that is a constant")
    return flat


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's values; bfloat16, which numpy lacks, is not possible here."""
    if tensor.dtype == torch.bfloat16:
        raise NotTranslated("bfloat16 weights")
    if tensor.dtype == torch.float8_e4m3fn:  # numpy has it from ml_dtypes
        plain = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
        return plain.view(helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN))
    return tensor.detach().cpu().numpy()


def _value_info(node: Node, name: str, free: Mapping[str, str]) -> onnx.ValueInfoProto:
    value = node.meta["val"]
    shape = [int(s) if isinstance(s, int) else size_name(s, free) for s in value.shape]
    return helper.make_tensor_value_info(name, ELEMENT[value.dtype], shape)


def size_name(size: object, free: Mapping[str, str]) -> str:
    """What a free size of the inputs is called; a size computed from such gets a name that is the same everywhere."""
    text = str(size)
    for symbol, name in sorted(free.items(), key=lambda pair: -len(pair[0])):
        text = re.sub(rf"\b{symbol}\b", name, text)
    return text if text.isidentifier() else f"size_{zlib.crc32(text.encode()):x}"


def _alive(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    wanted, kept = set(outputs), list[onnx.NodeProto]()
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]
