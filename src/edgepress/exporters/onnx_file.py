"""An ONNX model on disk: one file, or a file and its weights beside it: protobuf carries 2 GB at most."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import onnx

from edgepress.errors import UserError

EXTERNAL_ABOVE = 2_000_000_000  # bytes of weights; protobuf's limit is 2**31 - 1 for the whole message
IN_FILE_BELOW = 1024  # bytes of a weight that stays inside: runtimes read shapes and small constants while they load
ALIGNMENT = 4096  # the standard's advice, so that weights can be mapped into memory


class Written(NamedTuple):
    """sha256 over the files' bytes in order, and their size together."""

    digest: str
    size_bytes: int


def write_model(model: onnx.ModelProto, path: Path, external_above: int = EXTERNAL_ABOVE) -> Written:
    """Write a checked model; weights of more than `external_above` bytes go to `<name>.onnx.data`. It is used up.

    Equal models give equal bytes. The model's file appears last: what it names is there.

    Raises:
        UserError: the place cannot be written, or the model does not pass the checker.
    """
    data = path.with_name(path.name + ".data")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= external_above:
            onnx.checker.check_model(model, full_check=True)
            data.unlink(missing_ok=True)  # of an earlier, larger model: nobody reads it any more
            return _whole(model, path)
        return _apart(model, path, data)
    except OSError as error:
        raise UserError(f"cannot write {path}", found=str(error), expected="a writable place",
                        fix="choose another --out") from error  # fmt: skip


def _whole(model: onnx.ModelProto, path: Path) -> Written:
    content = model.SerializeToString(deterministic=True)
    _place(path, lambda stream: stream.write(content))
    return Written(hashlib.sha256(content).hexdigest(), len(content))


def _apart(model: onnx.ModelProto, path: Path, data: Path) -> Written:
    digest = hashlib.sha256()
    size = 0

    def weights(stream: BinaryIO) -> None:
        nonlocal size
        for piece in _moved_out(model, data.name):
            digest.update(piece)
            stream.write(piece)
            size += len(piece)

    _place(data, weights)
    content = model.SerializeToString(deterministic=True)
    digest.update(content)
    _place(path, lambda stream: stream.write(content))
    onnx.checker.check_model(str(path), full_check=False)  # a full check would load the weights
    return Written(digest.hexdigest(), size + len(content))


def _moved_out(model: onnx.ModelProto, name: str) -> Iterator[bytes]:
    """The bytes of the weights, each from an aligned place on; the model then says where they are."""
    offset = 0
    for tensor in model.graph.initializer:
        length = len(tensor.raw_data)
        if length < IN_FILE_BELOW:
            continue
        padding = -offset % ALIGNMENT
        yield bytes(padding)
        yield tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        places = {"location": name, "offset": str(offset + padding), "length": str(length)}
        for key, value in places.items():
            tensor.external_data.add(key=key, value=value)
        offset += padding + length


def _place(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """The file under its name only once it is whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            write(stream)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
