"""The other way to ONNX: `torch.onnx`, for operators that have no translation of ours. Slower, and larger files."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from edgepress.errors import UserError
from edgepress.exporters.onnx_graph import size_name
from edgepress.ir.capture import quiet_torch
from edgepress.ir.program import Program

LOWEST = 18  # that torch.onnx writes without converting
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def torch_model(program: Program, opset: int, metadata: Mapping[str, str], reason: str) -> onnx.ModelProto:
    """The ONNX model that torch.onnx makes of `program`, with our names and without its notes: opset 18 at the least.

    Raises:
        UserError: torch.onnx cannot translate it either; `reason` says what our own translation lacks.
    """
    try:
        with quiet_torch(), TemporaryDirectory() as folder:
            made = torch.onnx.export(program.exported, dynamo=True, verbose=False, opset_version=max(opset, LOWEST))
            assert made is not None
            made.save(Path(folder) / "model.onnx", external_data=True)
            model = onnx.load(Path(folder) / "model.onnx")
    except Exception as error:
        raise UserError(
            "cannot export the program as ONNX",
            found=f"{reason}; torch.onnx: {COLOUR.sub('', str(error).strip().splitlines()[0])[:200]}",
            expected="operators with an ONNX form",
            fix="replace the operator in the model",
        ) from error
    return _cleaned(model, program, metadata)


def _cleaned(model: onnx.ModelProto, program: Program, metadata: Mapping[str, str]) -> onnx.ModelProto:
    graph = model.graph
    renamed = dict(zip([v.name for v in graph.input], program.input_names, strict=False))
    renamed |= dict(zip([v.name for v in graph.output], program.output_names, strict=False))
    taken = set(renamed.values()) - set(renamed)  # what torch.onnx calls so inside the graph makes way
    _rename(graph, renamed | {name: f"{name}__inside" for name in taken})
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
        value.ClearField("metadata_props")
        _name_sizes(value, program.free_sizes())
    for tensor in graph.initializer:
        tensor.ClearField("metadata_props")
    for field in ("value_info", "metadata_props", "doc_string"):
        graph.ClearField(field)
    model.ClearField("metadata_props")
    for key, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    model.producer_name, model.producer_version = "edgepress", ""
    return model


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    """New names for values, here and in the bodies within, which may read them."""
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, renamed)


def _name_sizes(value: onnx.ValueInfoProto, free: Mapping[str, str]) -> None:
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.dim_param:
            dimension.dim_param = size_name(dimension.dim_param, free)
