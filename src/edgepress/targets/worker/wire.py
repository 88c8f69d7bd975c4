"""Arrays as JSON: element type, shape, and the bytes in base64."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepress.targets.runtimes.inputs import Array


def pack(array: Array) -> dict[str, Any]:
    """The array as plain data, rows first, little-endian."""
    import numpy as np

    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def unpack(packed: Mapping[str, Any]) -> Array:
    """The array again, writable and owned by the caller."""
    import numpy as np

    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    flat = np.frombuffer(base64.b64decode(packed["data"]), dtype)
    return flat.reshape(packed["shape"]).astype(packed["dtype"])


def pack_all(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {name: pack(array) for name, array in arrays.items()}


def unpack_all(packed: Mapping[str, Any]) -> dict[str, Array]:
    return {name: unpack(array) for name, array in packed.items()}
