"""From a file to a checked `onnx_ir.Model`: nothing in it is trusted, nothing in it is run."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedNodesPass, TopologicalSortPass

from edgepress.errors import UserError
from edgepress.importers.onnx.values import Unsupported

MAX_MODEL_BYTES = 2 << 30
"""Of a file and all its external data together; protobuf itself ends at 2 GiB."""

MAX_RANK = 32
OLDEST_OPSET = 6

# Bits per element of what TensorProto.raw_data holds; strings have no raw form.
ELEMENT_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip


def read_model(path: Path, sha256: str | None = None) -> ir.Model:
    """Read and check an ONNX file, with its external data.

    Args:
        path: the `.onnx` file.
        sha256: the digest the file must have, if it is known.

    Raises:
        UserError: unreadable, truncated, damaged, cyclic, or reaching outside its own folder.
        Unsupported: an opset older than 6 or newer than the installed `onnx` knows.
    """
    data = _read_bytes(path, MAX_MODEL_BYTES)
    if sha256 is not None:
        _check_digest(path, data, "sha256", sha256)
    proto = parse(data, str(path))
    check_opsets(proto, str(path))
    _load_tensors(proto, path.parent)
    return to_ir(proto, str(path))


def parse(data: bytes, what: str) -> onnx.ModelProto:
    """Decode a serialized ModelProto.

    Raises:
        UserError: if it is not one, or has no graph with outputs.
    """
    try:
        proto = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has kinds of its own, which differ between its implementations
        raise _damaged(what, "bytes that are not an ONNX model") from error
    if not proto.graph.output:
        raise _damaged(what, "a model without a graph or without outputs")
    return proto


def to_ir(proto: onnx.ModelProto, what: str) -> ir.Model:
    """Convert a checked proto, with its local functions inlined and its nodes in order.

    Raises:
        UserError: the graph is damaged or cyclic.
    """
    try:
        _forget_dictionaries(proto.graph)
        model = ir.from_proto(proto)
        InlinePass()(model)
        TopologicalSortPass()(model)
        RemoveUnusedNodesPass()(model)
    except RecursionError as error:
        raise _damaged(what, "graphs or functions nested without end") from error
    except Exception as error:  # onnx-ir raises many kinds for damaged graphs
        raise _damaged(what, f"an inconsistent graph ({type(error).__name__}: {_first_line(error)})") from error
    return model


def check_opsets(proto: onnx.ModelProto, what: str) -> None:
    """Refuse opsets that the installed `onnx` package does not define or that are older than 6.

    Raises:
        Unsupported: for such an opset.
    """
    newest = onnx.defs.onnx_opset_version()
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        if any(node.domain in ("", "ai.onnx") for node in proto.graph.node):
            raise _damaged(what, "no opset for the default domain")
        return
    if not OLDEST_OPSET <= max(versions) <= newest:
        raise Unsupported(
            f"{what}: opset {max(versions)} is not one this importer knows",
            found=f"opset {max(versions)}",
            expected=f"opset {OLDEST_OPSET} to {newest}",
            fix="convert it: onnx.version_converter.convert_version(onnx.load(file), 17)",
        )


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a model: initialisers and attributes, also in bodies and functions."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graph_tensors(graph)


def _load_tensors(proto: onnx.ModelProto, folder: Path) -> None:
    """Check each tensor and pull external data into the proto."""
    budget = MAX_MODEL_BYTES
    for tensor in tensors(proto):
        expected = _expected_bytes(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            budget -= expected
            if budget < 0:
                raise _damaged(tensor.name, "more external data than 2 GiB")
            _load_external(tensor, folder, expected)
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != expected:
            raise _damaged(
                f"tensor {tensor.name!r}", f"{len(tensor.raw_data)} bytes for shape {list(tensor.dims)}", str(expected)
            )


def _expected_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes the declared shape and type take.

    Raises:
        UserError: a negative, absurd or too deep shape.
    """
    what = f"tensor {tensor.name!r}"
    if len(tensor.dims) > MAX_RANK or any(size < 0 for size in tensor.dims):
        raise _damaged(what, f"shape {list(tensor.dims)[:MAX_RANK]}", "up to 32 sizes that are not negative")
    count = 1
    for size in tensor.dims:
        count *= size
    if count > MAX_MODEL_BYTES * 4:
        raise _damaged(what, f"{count:,} elements", "a tensor that fits into 2 GiB")
    if tensor.data_type not in ELEMENT_BITS and tensor.data_type != onnx.TensorProto.STRING:
        raise _damaged(what, f"element type {tensor.data_type}", "a type ONNX defines")
    return (count * ELEMENT_BITS.get(tensor.data_type, 0) + 7) // 8


def _load_external(tensor: onnx.TensorProto, folder: Path, expected: int) -> None:
    facts = {entry.key: entry.value for entry in tensor.external_data}
    source = _inside(folder, facts.get("location", ""), tensor.name)
    offset = _natural(facts.get("offset", "0"), tensor.name, "offset")
    length = _natural(facts.get("length", str(expected)), tensor.name, "length")
    size = source.stat().st_size
    if length != expected or offset + length > size:
        raise _damaged(
            f"external data of tensor {tensor.name!r}",
            f"{length} bytes at {offset} of a file of {size} bytes",
            f"{expected} bytes for shape {list(tensor.dims)}",
        )
    if facts.get("checksum"):
        _check_digest(source, _read_bytes(source, MAX_MODEL_BYTES), "sha1", facts["checksum"])
    with source.open("rb") as stream:
        stream.seek(offset)
        tensor.raw_data = stream.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """The external file, which must lie in the model's folder: a model may not read the rest of the disk."""
    names = PurePosixPath(location), PureWindowsPath(location)
    outside = not location or any(name.is_absolute() or ".." in name.parts or name.drive for name in names)
    target = (folder / location).resolve() if not outside and "\0" not in location else None
    if target is None or not target.is_relative_to(folder.resolve()):
        raise UserError(
            f"external data of tensor {tensor!r} lies outside the model's folder",
            found=f"location {location!r}",
            expected="a relative path inside the folder of the .onnx file",
            fix="do not trust this file; if it is yours, save it again with onnx.save(..., location='weights.bin')",
        )
    if not target.is_file():
        raise UserError(
            f"external data of tensor {tensor!r} is missing",
            found=f"no file {location!r}",
            expected=f"it beside the model, in {folder}",
            fix="copy the data file beside the .onnx file",
        )
    return target


def _natural(text: str, tensor: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _damaged(f"external data of tensor {tensor!r}", f"{field} {text[:40]!r}", "a number of bytes")
    return int(text)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise _damaged(str(path), f"{size:,} bytes", f"at most {limit:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read", found=error.strerror or str(error), expected="a file", fix="check the path"
        ) from error


def _check_digest(path: Path, data: bytes, kind: str, expected: str) -> None:
    found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if found != expected.lower():
        raise UserError(
            f"{path} is not the file it should be",
            found=f"{kind} {found}",
            expected=expected[:128],
            fix="fetch the file again",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _forget_dictionaries(graph: onnx.GraphProto) -> None:
    """Types that hold dictionaries, which `onnx_ir` does not read; see `classical.without_text`."""
    for value in (*graph.output, *graph.value_info):
        if value.type.HasField("map_type") or value.type.sequence_type.elem_type.HasField("map_type"):
            value.ClearField("type")


def _damaged(what: str, found: str, expected: str = "a complete ONNX model") -> UserError:
    return UserError(f"{what} is damaged", found=found, expected=expected, fix="fetch or export the file again")
