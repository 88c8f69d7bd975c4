"""What the emitter writes down: kernel calls with their constants, scratch memory and what may overlap."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgepress.exporters.c import graph as g
from edgepress.exporters.c.graph import Array, Op


@dataclass(frozen=True, eq=False)
class Constant:
    """A const array in flash. `ctype` is int8_t, int16_t or int32_t; `name` is unique within its layer."""

    name: str
    ctype: str
    values: Array

    @property
    def nbytes(self) -> int:
        return self.values.size * int(self.ctype.removeprefix("int").removesuffix("_t")) // 8


@dataclass(frozen=True)
class Ref:
    """A pointer to one of the layer's constants."""

    name: str


@dataclass(frozen=True)
class In:
    """Pointer to an activation that is read."""

    tensor: str


@dataclass(frozen=True)
class Out:
    """Pointer to an activation that is written."""

    tensor: str


@dataclass(frozen=True)
class Scratch:
    """Pointer to the layer's scratch memory, seen as an array of `ctype`."""

    ctype: str


Argument = In | Out | Scratch | Ref | int
Field = int | Ref | tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a kernel: `function(&struct, arguments...)`; without fields there is no struct."""

    function: str
    header: str
    arguments: tuple[Argument, ...]
    struct: str = ""
    fields: dict[str, Field] = field(default_factory=dict)


@dataclass(frozen=True)
class Overlap:
    """The output may lie over an input that dies here if input - output >= lead and is a multiple of `modulus`."""

    lead: int
    modulus: int = 1


@dataclass(frozen=True)
class Layer:
    """One operator as it will run.

    Attributes:
        scratch: bytes needed while it runs. overlaps: per input tensor; absent means none.
        kernel: short name of what was chosen ("conv dsp 2x4"), for reports. note: why a slower kernel was taken.
        defines: macros set before the kernels are included. kept: the scratch holds a state from run to run.
    """

    op: Op
    calls: tuple[Call, ...]
    constants: tuple[Constant, ...] = ()
    scratch: int = 0
    overlaps: dict[str, Overlap] = field(default_factory=dict)
    kernel: str = ""
    note: str = ""
    defines: tuple[str, ...] = ()
    kept: bool = False

    @property
    def constant_bytes(self) -> int:
        return sum(constant.nbytes for constant in self.constants)


def first_reads(op: g.Conv | g.Pool, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Per output pixel, in order: offset of the first input byte its window reads."""
    _, height, width, channels = in_shape
    rows = np.clip(np.arange(out_shape[1]) * op.stride[0] - op.pads[0], 0, height - 1)
    columns = np.clip(np.arange(out_shape[2]) * op.stride[1] - op.pads[1], 0, width - 1)
    return ((rows[:, None] * width + columns) * channels).reshape(-1)


def pixel_lead(reads: npt.NDArray[np.int64], out_bytes: int, group: int, reads_before_writes: bool) -> int:
    """Smallest safe (input - output) for a kernel that walks pixels in order, `group` at a time.

    reads: first input byte per output pixel. out_bytes: bytes per output pixel. reads_before_writes: a group's inputs
    are all read (into scratch) before its first output is written.
    """
    starts = np.arange(0, len(reads), group)
    written = np.minimum(starts + group, len(reads)) * out_bytes
    per_group = np.minimum.reduceat(reads, starts)
    needed = np.minimum.accumulate(per_group[::-1])[::-1]  # first byte that this or a later group reads
    if reads_before_writes:
        written, needed = written[:-1], needed[1:]
    return max(0, int((written - needed).max(initial=0)))
