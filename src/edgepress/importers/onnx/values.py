"""What flows between ONNX nodes while a network runs or is traced.

A value is a tensor, or *numbers*: a small numpy array known while tracing. Shape arithmetic (`Shape -> Gather -> Mul ->
Concat -> Reshape`) runs on numbers, so it never becomes part of the traced graph; a dynamic axis is a `SymInt` inside
an array of dtype object. Sequences are Python lists; an omitted input or an empty optional is `None`.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from edgepress.errors import UserError

Numbers: TypeAlias = np.ndarray[Any, Any]
Value: TypeAlias = Any  # Tensor | Numbers | Constant | list[Value] | None

MAX_NUMBERS = 4096
"""A constant of more elements than this is data, not shape arithmetic."""

MAX_TENSOR_BYTES = 2 << 30
"""No single activation or constant of an edge network is larger; a file that asks for more is broken or hostile."""


class Unsupported(UserError):
    """The file is valid ONNX, but says something this importer does not take."""


@dataclass(frozen=True)
class Constant:
    """A tensor of the file that is known before the network runs.

    Attributes:
        name: its name in the file.
        tensor: its value. Sub-byte integers are stored as int8/uint8, float4 as float32.
        numbers: the same as numpy array, mostly on the same memory (bfloat16 and float8 widened to float32).
    """

    name: str
    tensor: Tensor
    numbers: Numbers = field(init=False)

    def __post_init__(self) -> None:
        # Taken now: while tracing, torch would hand out a fake tensor instead.
        object.__setattr__(self, "numbers", tensor_numbers(self.tensor))


# ONNX TensorProto.DataType -> torch dtype. Sub-byte types are held in the next larger type.
TORCH_DTYPES: dict[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
    21: torch.uint8,
    22: torch.int8,
    23: torch.float32,
    24: torch.float8_e8m0fnu,
    25: torch.uint8,
    26: torch.int8,
}


def torch_dtype(onnx_type: int) -> torch.dtype:
    """The torch dtype that holds an ONNX element type.

    Raises:
        Unsupported: strings and unknown types.
    """
    dtype = TORCH_DTYPES.get(int(onnx_type))
    if dtype is None:
        raise Unsupported(
            "a tensor has an element type that a network cannot compute with",
            found="strings" if onnx_type == 8 else f"element type {onnx_type}",
            expected="numbers or booleans",
            fix="cut text processing off the model (onnx.utils.extract_model) and run it before the network",
        )
    return dtype


def is_symbolic(number: object) -> bool:
    """True for the size of a dynamic axis and what was computed from one."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool)


def tensor_numbers(tensor: Tensor) -> Numbers:
    """A concrete tensor as numpy array."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, *_FLOAT8):
        tensor = tensor.float()
    return np.asarray(tensor.cpu().numpy())


_FLOAT8 = tuple(dtype for dtype in set(TORCH_DTYPES.values()) if "float8" in str(dtype))


def tidy(numbers: Numbers) -> Numbers:
    """An array of dtype object without symbols in it becomes a plain one again."""
    if numbers.dtype != object or any(is_symbolic(n) for n in numbers.flat):
        return numbers
    return np.asarray(numbers.tolist())


def numbers_tensor(numbers: Numbers) -> Tensor:
    """Numbers as a tensor; symbolic ones become scalar tensors stacked together."""
    numbers = tidy(np.asarray(numbers))
    if numbers.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(numbers)).reshape(numbers.shape)
    parts = [torch.scalar_tensor(_plain_symbol(n), dtype=_symbol_dtype(numbers)) for n in numbers.flat]
    return torch.stack(parts).reshape(numbers.shape)


def _plain_symbol(number: Any) -> Any:
    return torch.sym_ite(number, 1, 0) if isinstance(number, torch.SymBool) else number


def _symbol_dtype(numbers: Numbers) -> torch.dtype:
    if any(isinstance(n, torch.SymBool | bool) for n in numbers.flat):
        return torch.bool
    if any(isinstance(n, torch.SymFloat | float) for n in numbers.flat):
        return torch.float32
    return torch.int64


def to_numbers(value: Value) -> Numbers | None:
    """A value as numbers; reads a tensor (in a trace that gives data-dependent sizes)."""
    if value is None or isinstance(value, np.ndarray):
        return value
    if isinstance(value, Constant):
        return value.numbers
    if isinstance(value, Tensor):
        return _read_tensor(value)
    raise Unsupported("a sequence stands where numbers are needed", found=type(value).__name__, expected="a tensor")


class DataDependent(UserError):
    """Shapes alone do not say how the network goes on: it must be run on numbers."""


def _read_tensor(tensor: Tensor) -> Numbers:
    if isinstance(tensor, FakeTensor) and not torch.compiler.is_exporting():
        raise DataDependent("the values of a tensor decide what comes next")
    if not torch.compiler.is_exporting():
        return tensor_numbers(tensor)
    listed = tensor.tolist()
    flat = np.empty(tensor.numel(), dtype=object)
    flat[:] = listed if tensor.dim() == 1 else list(_flatten(listed))
    return tidy(flat.reshape(tuple(tensor.shape)))


def _flatten(nested: Any) -> Any:
    if not isinstance(nested, list):
        yield nested
        return
    for item in nested:
        yield from _flatten(item)


def ensure_affordable(shape: Any, dtype: torch.dtype = torch.float32, limit: int = MAX_TENSOR_BYTES) -> None:
    """Refuse to make a tensor that no edge network needs.

    Raises:
        Unsupported: if `shape` would take more than `limit` bytes.
    """
    count = 1
    for size in shape:
        if is_symbolic(size):
            return
        count *= int(size)
    if count * dtype.itemsize > limit:
        raise Unsupported(
            "the network asks for an absurdly large tensor",
            found=f"shape {[int(s) for s in shape]}, {count * dtype.itemsize:,} bytes",
            expected=f"at most {limit:,} bytes",
            fix="check the file: its shapes are damaged or it is not an edge network",
        )
