"""Reading FlatBuffers tables by field number: the few lines of the format that `.tflite` files need."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepress.exporters.c.graph import Array


@dataclass(frozen=True)
class Table:
    """One table at an offset of a buffer; fields are addressed by their number in the schema."""

    data: bytes
    at: int

    def _field(self, number: int) -> int:
        """Absolute offset of a field, or 0 if absent."""
        vtable = self.at - _read("<i", self.data, self.at)
        entry = 4 + 2 * number
        if entry >= _read("<H", self.data, vtable):
            return 0
        offset = _read("<H", self.data, vtable + entry)
        return self.at + offset if offset else 0

    def scalar(self, number: int, kind: str, default: Any = 0) -> Any:
        """kind: a struct letter, e.g. "b" for int8, "i" for int32, "f" for float32, "?" for bool."""
        at = self._field(number)
        return _read("<" + kind, self.data, at) if at else default

    def table(self, number: int) -> "Table | None":
        at = self._field(number)
        return Table(self.data, _follow(self.data, at)) if at else None

    def tables(self, number: int) -> list["Table"]:
        start, count = self._vector(number)
        return [Table(self.data, _follow(self.data, start + 4 * i)) for i in range(count)]

    def array(self, number: int, dtype: str) -> Array:
        start, count = self._vector(number)
        return np.frombuffer(self.data, dtype, count, start) if count else np.zeros(0, dtype)

    def text(self, number: int) -> str:
        return self.array(number, "u1").tobytes().decode("utf-8", "replace")

    def _vector(self, number: int) -> tuple[int, int]:
        at = self._field(number)
        if not at:
            return 0, 0
        start = _follow(self.data, at)
        return start + 4, _read("<I", self.data, start)


def root(data: bytes) -> Table:
    """The root table of a buffer. Raises struct.error if the bytes end too early."""
    return Table(data, _follow(data, 0))


def _read(kind: str, data: bytes, at: int) -> Any:
    return struct.unpack_from(kind, data, at)[0]


def _follow(data: bytes, at: int) -> int:
    return at + int(_read("<I", data, at))
