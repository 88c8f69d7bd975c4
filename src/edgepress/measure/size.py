"""What an artifact weighs: on disk, and over the air."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepress.errors import UserError
from edgepress.measure.record import Measurement

CHUNK = 1 << 20
_KINDS = {"float": "float32", "double": "float64"}  # ONNX's names of types -> everybody's


def measure_size(artifact: Path, *companions: Path) -> tuple[Measurement, ...]:
    """`size_bytes` and `compressed_bytes` (zlib level 9, as an update over the air would be) of an artifact.

    Args:
        artifact: a file, or a folder, of which every file counts.
        companions: further files it cannot run without (external data, the .bin beside an .xml).

    Raises:
        UserError: a file is not there.
    """
    files = [file for path in (artifact, *companions) for file in _files(path)]
    size = sum(file.stat().st_size for file in files)
    compressed = sum(map(_compressed, files))
    method = f"{len(files)} file(s)"
    return (
        Measurement(name="size_bytes", value=size, unit="bytes", method=method, source="counted"),
        Measurement(
            name="compressed_bytes", value=compressed, unit="bytes", method=f"{method}, zlib level 9", source="counted"
        ),
    )


def measure_kinds(model: Path) -> tuple[Measurement, ...]:
    """What the bytes of an ONNX file are: `size_float32_bytes`, `size_int8_bytes`, ... of weights by their type, and
    `size_graph_bytes` of everything else (nodes, names, attributes). They add up to the file and its external data.

    Raises:
        UserError: not an ONNX file.
    """
    import onnx

    try:
        loaded = onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf's errors are not exported
        raise UserError(f"{model} is not an ONNX file", found=str(error).splitlines()[0][:200]) from None
    kinds: dict[str, int] = {}
    for tensor in loaded.graph.initializer:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        kinds[_KINDS.get(kind, kind)] = kinds.get(_KINDS.get(kind, kind), 0) + _weight_bytes(tensor)
    data = model.with_name(model.name + ".data")
    whole = model.stat().st_size + (data.stat().st_size if data.is_file() else 0)
    kinds = dict(sorted(kinds.items())) | {"graph": whole - sum(kinds.values())}
    method = "bytes of weights by type; the rest is the graph"
    return tuple(
        Measurement(name=f"size_{kind}_bytes", value=size, unit="bytes", method=method, source="counted")
        for kind, size in kinds.items()
    )


def _weight_bytes(tensor: Any) -> int:
    """Bytes of a tensor's values, in the file or beside it. Values kept one by one count as the graph's."""
    places = {entry.key: entry.value for entry in tensor.external_data}
    return int(places["length"]) if "length" in places else len(tensor.raw_data)


def _files(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise UserError(f"no artifact at {path}", expected="a file or a folder")
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _compressed(path: Path) -> int:
    """Bytes after zlib, one chunk in memory at a time."""
    packer = zlib.compressobj(9)
    with path.open("rb") as stream:
        packed = sum(len(packer.compress(chunk)) for chunk in iter(lambda: stream.read(CHUNK), b""))
    return packed + len(packer.flush())
