"""From `onnx_ir` to steps: operators looked up, attributes made plain, constants taken out, names made unique."""

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from edgepress.errors import UserError
from edgepress.importers.onnx.classical import expand_linear, without_text
from edgepress.importers.onnx.entry import Operator, select
from edgepress.importers.onnx.graph import Body, InputSpec, Network, Step
from edgepress.importers.onnx.integer_blocks import SIMPLIFIED, expand_block
from edgepress.importers.onnx.qoperators import expand
from edgepress.importers.onnx.table import find
from edgepress.importers.onnx.values import Constant, Unsupported, torch_dtype

TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type", "softmax_precision", "output_datatype")
"""Attributes that hold an element type."""

HALF = 10

# Attributes that exporters leave on nodes without a meaning for the result.
IGNORED_ATTRIBUTES = {"is_test", "consumed_inputs", "_inputs", "onnx_dtype"}


def lower(model: ir.Model, *, widen_half: bool = True) -> Network:
    """Turn a checked model into steps.

    Args:
        widen_half: hold float16 weights, inputs and casts as float32, so that the network can be trained.

    Raises:
        Unsupported: operators or types the importer does not take; all missing operators are named at once.
        UserError: a graph that reads what nothing makes.
    """
    return _Lowering(model, widen_half).network()


class _Lowering:
    def __init__(self, model: ir.Model, widen_half: bool) -> None:
        self.model = model
        self.widen_half = widen_half
        self.constants: dict[str, Constant] = {}
        self.names: dict[int, str] = {}
        self.taken: set[str] = set()
        self.widened = 0
        self.simplified: list[str] = []
        self.missing: dict[str, int] = {}
        self.values: list[ir.Value] = []  # keeps `id` of the keys in `names` from being reused

    def network(self) -> Network:
        left_out = without_text(self.model)
        graph = self.model.graph
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        for value in (*inputs, *graph.outputs):
            self.name(value)  # the interface keeps its names
        body = self.body(graph, tuple(inputs))
        if self.missing:
            raise _missing_operators(self.missing)
        return Network(
            body=body,
            inputs=tuple(self.input_spec(value) for value in inputs),
            output_names=tuple(value.name or f"output_{i}" for i, value in enumerate(graph.outputs)),
            output_types=tuple(self.element_type(value) for value in graph.outputs),
            constants=self.constants,
            opset=self.opset(""),
            notes=(*self.notes(), *left_out),
        )

    def notes(self) -> tuple[str, ...]:
        widened = f"{self.widened} float16 tensors or types are held as float32, so that the network can be trained"
        return (*([widened] if self.widened else []), *dict.fromkeys(self.simplified))

    def opset(self, domain: str) -> int:
        imports = self.model.graph.opset_imports
        return imports.get(domain, imports.get("ai.onnx", 0) if domain == "" else 1) or 0

    def body(self, graph: ir.Graph, inputs: tuple[ir.Value, ...]) -> Body:
        for value in graph.initializers.values():
            self.initializer(value)
        known = tuple(self.name(value) for value in inputs)
        steps = tuple(step for node in graph for step in self.steps(node))
        return Body(known, tuple(self.name(value) for value in graph.outputs), steps)

    def initializer(self, value: ir.Value) -> None:
        if value.const_value is not None:
            self.constant(value, self.tensor(value.const_value))

    def constant(self, value: ir.Value, tensor: Tensor) -> None:
        name = self.name(value)
        self.constants[name] = Constant(name, tensor)

    def name(self, value: ir.Value | None) -> str:
        """A name that is unique in the whole model, bodies included."""
        if value is None:
            return ""
        if id(value) not in self.names:
            wanted = value.name or "value"
            name, count = wanted, 0
            while name in self.taken:
                count += 1
                name = f"{wanted}__{count}"
            self.taken.add(name)
            self.names[id(value)] = name
            self.values.append(value)
        return self.names[id(value)]

    def steps(self, node: ir.Node) -> tuple[Step, ...]:
        """The steps of a node: one, none for a constant, several for an operator on integers."""
        step = self.step(node)
        if step is None:
            return ()
        expanded = self.expanded(step)
        if expanded is None:
            return (step,)
        steps, constants = expanded
        self.simplified += [SIMPLIFIED[step.kind]] if step.kind in SIMPLIFIED else []
        self.constants.update((constant.name, constant) for constant in constants)
        return steps

    def expanded(self, step: Step) -> tuple[tuple[Step, ...], tuple[Constant, ...]] | None:
        """The steps that a step stands for and their constants, if it stands for others.

        Raises:
            UserError: the node lacks what they are made of.
        """
        try:
            return expand(step, self.constants) or expand_block(step, self.constants) or expand_linear(step)
        except (KeyError, IndexError, ValueError, TypeError, RuntimeError, AttributeError, OverflowError) as error:
            raise UserError(
                f"node {step.name!r} ({step.kind}) does not have the inputs and attributes of its kind",
                found=f"{len(step.inputs)} inputs, attributes {sorted(step.attributes)}; {error}"[:300],
                expected="what the operator's definition says",
                fix="export the model again",
            ) from error

    def step(self, node: ir.Node) -> Step | None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        kind = f"{domain}::{node.op_type}" if domain else f"{node.op_type}"  # bytes where it is no text
        if kind == "Constant":
            self.constant(node.outputs[0], self.constant_value(node))
            return None
        entry = find(kind)
        operator = select(entry, self.opset(domain)) if entry is not None else None
        if operator is None:
            self.missing[kind] = self.missing.get(kind, 0) + 1
            return None
        return self.known_step(node, kind, operator)

    def known_step(self, node: ir.Node, kind: str, operator: Operator) -> Step:
        name = node.name or f"{node.op_type}_{node.outputs[0].name if node.outputs else ''}"
        check_against_schema(node, name, self.opset(""))
        for value in node.inputs:
            self.check_source(value, name)
        inputs = tuple(self.name(value) for value in node.inputs)
        attributes = {
            key: self.attribute(key, attribute, name)
            for key, attribute in node.attributes.items()
            if key not in IGNORED_ATTRIBUTES
        }
        for position, key in operator.input_types:
            if position < len(node.inputs) and (declared := declared_type(node.inputs[position])):
                attributes[key] = self.element(declared)
        return Step(name, kind, operator, inputs, tuple(self.output_name(v) for v in node.outputs), attributes)

    def output_name(self, value: ir.Value) -> str:
        return "" if value.name == "" else self.name(value)

    def check_source(self, value: ir.Value | None, node: str) -> None:
        """A value must be an input, an initialiser, or some node's output."""
        if value is None or value.producer() is not None or value.is_graph_input() or id(value) in self.names:
            return
        raise UserError(
            f"node {node!r} reads a value that nothing makes",
            found=repr(value.name),
            expected="a graph input, an initialiser or a node's output",
            fix="export the model again; this file is damaged or was cut out of a larger one",
        )

    def constant_value(self, node: ir.Node) -> Tensor:
        if len(node.attributes) != 1:
            raise UserError(f"Constant node {node.name!r}", found=f"{len(node.attributes)} values", expected="one")
        attribute = next(iter(node.attributes.values()))
        if attribute.type in (ir.AttributeType.TENSOR, ir.AttributeType.SPARSE_TENSOR):
            return self.tensor(attribute.value)
        if attribute.type in (ir.AttributeType.FLOAT, ir.AttributeType.FLOATS):
            return torch.tensor(attribute.value, dtype=torch.float32)
        if attribute.type in (ir.AttributeType.INT, ir.AttributeType.INTS):
            return torch.tensor(attribute.value, dtype=torch.int64)
        raise Unsupported(f"Constant node {node.name!r}", found=str(attribute.type), expected="numbers")

    def attribute(self, key: str, attribute: Any, node: str) -> Any:
        kind, value = attribute.type, attribute.value
        if kind == ir.AttributeType.GRAPH:
            return self.body(value, tuple(value.inputs))
        if kind == ir.AttributeType.TENSOR:
            return Constant(key, self.tensor(value))
        if kind in (ir.AttributeType.TYPE_PROTO, ir.AttributeType.TYPE_PROTOS):
            return None
        if kind in (ir.AttributeType.GRAPHS, ir.AttributeType.TENSORS, ir.AttributeType.SPARSE_TENSOR):
            raise Unsupported(f"node {node!r}: attribute {key!r}", found=str(kind), expected="a single value")
        if key in TYPE_ATTRIBUTES and isinstance(value, int):
            return self.element(value)
        return tuple(value) if isinstance(value, list | tuple) else value

    def element(self, onnx_type: int) -> int:
        """An element type, widened where that is asked for."""
        if self.widen_half and int(onnx_type) == HALF:
            self.widened += 1
            return 1
        return int(onnx_type)

    def element_type(self, value: ir.Value) -> int:
        kind = value.type
        if not isinstance(kind, ir.TensorType):
            return 0
        return 1 if self.widen_half and int(kind.dtype) == HALF else int(kind.dtype)

    def input_spec(self, value: ir.Value) -> InputSpec:
        shape = None
        if value.shape is not None:
            shape = tuple(_axis(size) for size in value.shape)
        if isinstance(value.type, ir.TensorType):
            torch_dtype(int(value.type.dtype))  # refuse strings now, with the input's name at hand
        return InputSpec(self.name(value), self.element_type(value), shape)

    def tensor(self, stored: ir.TensorProtocol) -> Tensor:
        tensor = stored_tensor(stored)
        if self.widen_half and tensor.dtype == torch.float16:
            self.widened += 1
            return tensor.float()
        return tensor


def check_against_schema(node: ir.Node, name: str, opset: int) -> None:
    """A node of the default domain has as many inputs, outputs and attributes as its specification says.

    Raises:
        UserError: it does not.
    """
    if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, opset):
        return
    schema = onnx.defs.get_schema(node.op_type, opset)
    what = f"node {name!r} ({node.op_type})"
    for found, low, high, kind in (
        (len(node.inputs), schema.min_input, schema.max_input, "inputs"),
        (len(node.outputs), schema.min_output, schema.max_output, "outputs"),
    ):
        if not low <= found <= high:
            raise UserError(f"{what} has a wrong number of {kind}", found=str(found), expected=f"{low} to {high}")
    _check_attributes(node, what, schema)


def _check_attributes(node: ir.Node, what: str, schema: onnx.defs.OpSchema) -> None:
    given = {key: attribute.type.name for key, attribute in node.attributes.items()}
    for key, expected in schema.attributes.items():
        kind = str(expected.type).rsplit(".", 1)[-1]  # AttrType.INTS
        if expected.required and key not in given:
            raise UserError(f"{what} lacks attribute {key!r}", found=", ".join(given) or "none", expected=key)
        if given.get(key, kind) != kind:
            raise UserError(f"{what}: attribute {key!r} has a wrong type", found=given[key], expected=kind)


def declared_type(value: ir.Value | None) -> int:
    """The element type of a value as far as the file says, 0 if it does not."""
    if value is None:
        return 0
    dtype = value.const_value.dtype if value.const_value is not None else value.dtype
    return 0 if dtype is None else int(dtype)


def _axis(size: Any) -> int | str | None:
    if isinstance(size, int):
        return size if size > 0 else None  # some exporters write -1 or 0 for "any"
    return size.value


def stored_tensor(stored: ir.TensorProtocol) -> Tensor:
    """A stored tensor as torch tensor that owns its memory."""
    target = torch_dtype(int(stored.dtype))
    try:
        array = np.asarray(stored.numpy())
    except Exception as error:
        raise UserError(
            f"tensor {stored.name!r} cannot be decoded",
            found=f"{type(error).__name__}: {error}"[:200],
            expected="as many elements as its shape says",
            fix="fetch or export the file again",
        ) from error
    return _exotic(array, target) if array.dtype.type.__module__.startswith("ml_dtypes") else _plain(array, target)


def _plain(array: np.ndarray[Any, Any], target: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(array, order="C", copy=True)).to(target).reshape(array.shape)


def _exotic(array: np.ndarray[Any, Any], target: torch.dtype) -> Tensor:
    if target in (torch.int8, torch.uint8):  # 2 and 4 bit integers
        return _plain(array.astype(np.int8 if target == torch.int8 else np.uint8), target)
    if array.dtype == ml_dtypes.float4_e2m1fn:
        return _plain(array.astype(np.float32), target)
    bits = np.array(array, order="C", copy=True).view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
    return torch.from_numpy(bits).view(target).reshape(array.shape)


def _missing_operators(missing: Mapping[str, int]) -> Unsupported:
    if any(kind.startswith(("com.microsoft.nchwc::", "com.ms.internal.nhwc::")) for kind in missing):
        return Unsupported(
            "onnxruntime saved the model in a form made for one processor",
            found=", ".join(f"{kind} ({count}x)" for kind, count in sorted(missing.items())),
            expected="the model from before that step",
            fix="take the model that was optimized, or save it at ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL",
        )
    if all(kind.startswith("ai.onnx.ml::") for kind in missing):
        return Unsupported(
            "the model is no network, or has a part that is none",
            found=", ".join(f"{kind} ({count}x)" for kind, count in sorted(missing.items())),
            expected="layers, scalers and linear models: trees and kernel machines have nothing to press",
            fix="run that part beside the network, and cut it off with onnx.utils.extract_model",
        )
    return Unsupported(
        "the model uses operators this importer does not have",
        found=", ".join(f"{kind} ({count}x)" for kind, count in sorted(missing.items())),
        expected="operators in the table of docs/onnx-import.md",
        fix="cut these nodes off (onnx.utils.extract_model) or export the model without them",
    )
