"""The integer graph: what the C generator starts from, whatever the model was written in.

A graph is a list of operators in execution order over named tensors. Activations are int8; shapes carry a leading
batch of 1; rank-4 tensors are NHWC and rank-3 tensors NWC. Everything that decides a bit of the result is an integer
here (multipliers, shifts, tables): scales are kept only to read inputs and outputs as real numbers.

real value = scale * (integer - zero_point)
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DType = Literal["int8", "int32"]
ITEM_SIZE = {"int8": 1, "int32": 4}
FULL_RANGE = (-128, 127)


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value: an activation, or a constant if `data` is there.

    Attributes:
        shape: all dimensions, batch (1) included for activations.
        scale: per tensor, or one per output channel for weights. zero_point: 0 for weights.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType = "int8"
    scale: tuple[float, ...] = (1.0,)
    zero_point: int = 0
    data: Array | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_SIZE[self.dtype]


@dataclass(frozen=True)
class Rescale:
    """Integer form of a positive real factor: `multiplier * 2**(shift - 31)`, one per channel or one for all.

    multiplier is in [2**30, 2**31) or 0; shift > 0 shifts left before, shift < 0 shifts right after the product.
    """

    multiplier: tuple[int, ...]
    shift: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operator; `name` is that of the node in the source model, for messages and per-layer figures."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """Convolution. inputs: x [1,H,W,C], weight [O,KH,KW,C/groups], bias [O]. pads: top, left, bottom, right."""

    rescale: Rescale
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    groups: int = 1
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(Op):
    """Transposed convolution. weight [O,KH,KW,C]; out[y*stride - pad + k] += x[y] * w[k]. Layout as in `Conv`."""

    rescale: Rescale
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class Dense(Op):
    """Matrix product over the last axis. inputs: x [...,I], weight [O,I], bias [O]; output [...,O]."""

    rescale: Rescale
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """Batched product of two activations: a [...,M,K] with b [...,K,N] (or [...,N,K] if `transpose_b`)."""

    rescale: Rescale
    transpose_b: bool = False


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Op):
    """Element-wise a+b, a-b, b-a (operands rescaled to a common fixed point first) or a*b; b may be broadcast.

    add, sub, rsub: y = output(+-left(a << left_shift) +- right(b << left_shift)) + zero point. mul: y = output(a * b).
    """

    kind: Literal["add", "sub", "rsub", "mul"]
    output_rescale: Rescale
    left: Rescale = Rescale((0,), (0,))
    right: Rescale = Rescale((0,), (0,))
    left_shift: int = 20
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True)
class Loops:
    """How a `Contract` or `Divide` walks: a loop's count, and the elements it steps over in a and in b (0: it stays).

    The loops over the elements of the result come first, in its order; the last `summed` are added up.
    """

    counts: tuple[int, ...]
    a_steps: tuple[int, ...]
    b_steps: tuple[int, ...]
    summed: int = 0

    @property
    def products(self) -> int:
        """Of one element of the result."""
        return int(np.prod(self.counts[len(self.counts) - self.summed :], dtype=np.int64))


@dataclass(frozen=True)
class Staircase:
    """Any int32 -> int8 function: value[i] from starts[i] on; starts rise, and the first is the lowest int32."""

    starts: tuple[int, ...]
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Contract(Op):
    """Sums of products over any axes, either operand repeated over any others: y = finish(sum a b), a or b constant.

    With one input: sums of a (and steps of 0 in b). Sums over axes, squared lengths, batched products, products with
    broadcast are all this.
    finish: `rescale`, or a `staircase` of the exact sum (a square root, a whole formula) that no scale comes between.
    """

    loops: Loops
    rescale: Rescale = Rescale((0,), (0,))
    staircase: Staircase | None = None
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class Divide(Op):
    """a / b: y = rescale(round(a * 2**22 / b)) + zero point, half away from zero; a / 0 saturates, 0 / 0 is 0."""

    loops: Loops
    rescale: Rescale
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class Pool(Op):
    """Average (rounded half away from zero, over the window's inside) or maximum pooling; x and y share a scale."""

    kind: Literal["average", "max"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    count_padding: bool = False
    clamp: tuple[int, int] = FULL_RANGE


@dataclass(frozen=True, kw_only=True)
class Mean(Op):
    """Mean over all but the first and the last axis, with a change of scale: y = rescale(sum(x - zero point))."""

    rescale: Rescale


@dataclass(frozen=True, kw_only=True)
class Lookup(Op):
    """Any int8 -> int8 function, element by element: y = table[x + 128] (relu, sigmoid, hard-swish, a new scale)."""

    function: str
    table: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """Softmax over the last axis in Q5.26; output scale 1/256, zero point -128. See `arithmetic.softmax`."""

    multiplier: int
    left_shift: int
    diff_min: int


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Op):
    """Normalization of each row (last axis) to mean 0 and variance 1, then times gamma plus beta.

    inputs: x [...,N], gamma [N] and beta [N] (int32, in steps of y * 2**-bits). With n x - sum(x) = d and
    variance = n sum(x**2) - sum(x)**2 + epsilon, all exact: y = gamma * d / sqrt(variance) + beta.
    """

    bits: int
    epsilon: int


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """softmax(q k^T * factor + mask) v: q [...,M,D], k [...,N,D], v [...,N,E] -> [...,M,E]; nothing is stored between.

    multiplier, left_shift, diff_min: from products to Q5.26, as in `Softmax`; probabilities are Q0.15.
    causal: row i sees columns 0..i only.
    """

    multiplier: int
    left_shift: int
    diff_min: int
    rescale: Rescale
    causal: bool = False


@dataclass(frozen=True, kw_only=True)
class Recurrent(Op):
    """One direction of an LSTM or a GRU (its reset gate behind the product): x [1,T,I] -> states [1,T,H].

    inputs: x, weight [G H, I], recurrent [G H, H], bias [G H] and recurrent_bias [G H] on the two accumulators' grids.
    Gates in ONNX order: LSTM input, output, forget, cell; GRU update, reset, new. Gate sums are Q3.12, gates and hidden
    states Q0.15, cell states Q16.15. `from_input` and `from_state` bring the accumulators to Q3.12.
    """

    kind: Literal["lstm", "gru"]
    from_input: Rescale
    from_state: Rescale
    output_rescale: Rescale
    reverse: bool = False


@dataclass(frozen=True, kw_only=True)
class Embedding(Op):
    """Rows of a table: inputs: numbers [1,T] (int32), table [V,W] -> [1,T,W]. Numbers outside meet the nearest row."""


@dataclass(frozen=True, kw_only=True)
class Reshape(Op):
    """The same bytes under another shape; costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Transpose(Op):
    """perm[i]: which input axis becomes output axis i."""

    perm: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Concat(Op):
    """All inputs share the output's scale and zero point."""

    axis: int


@dataclass(frozen=True, kw_only=True)
class Slice(Op):
    """y[i] = x[start + i * step] in every axis; the output's shape says how far. A step of 0 repeats."""

    start: tuple[int, ...]
    step: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """(before, after) per axis; `value` is an int8."""

    pads: tuple[tuple[int, int], ...]
    value: int


@dataclass(frozen=True, kw_only=True)
class Resize(Op):
    """Nearest neighbour: y[i, j] = x[rows[i], columns[j]]."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators in order, tensors by name; inputs are int8 activations or int32 numbers, outputs int8 activations.

    channels_last: inputs that the source model takes with channels first, and the graph with channels last.
    """

    name: str
    tensors: dict[str, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    channels_last: tuple[str, ...] = ()

    def tensor(self, name: str) -> Tensor:
        return self.tensors[name]

    def constant(self, name: str) -> Array:
        """The data of a constant tensor."""
        data = self.tensors[name].data
        if data is None:
            raise KeyError(f"{name} is not a constant")
        return data

    def activations(self, op: Op) -> tuple[str, ...]:
        """Names of the op's inputs that are computed, not constant."""
        return tuple(name for name in op.inputs if self.tensors[name].data is None)


def macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one operator, padding included."""
    out = graph.tensor(op.output).size
    if isinstance(op, Conv):
        return out * int(np.prod(graph.tensor(op.inputs[1]).shape[1:]))
    if isinstance(op, Dense):
        return out * graph.tensor(op.inputs[1]).shape[1]
    if isinstance(op, MatMul):
        return out * graph.tensor(op.inputs[0]).shape[-1]
    if isinstance(op, Contract):
        return out * op.loops.products if len(op.inputs) > 1 else 0
    if isinstance(op, Attention):
        rows, width = graph.tensor(op.inputs[0]).size, graph.tensor(op.inputs[2]).shape[-1]
        return graph.tensor(op.inputs[1]).shape[-2] * (rows + rows // graph.tensor(op.inputs[0]).shape[-1] * width)
    if isinstance(op, Recurrent):
        steps = graph.tensor(op.inputs[0]).shape[1]
        return steps * sum(graph.tensor(name).size for name in op.inputs[1:3])
    if isinstance(op, ConvTranspose):
        return graph.tensor(op.inputs[0]).size * int(np.prod(graph.tensor(op.inputs[1]).shape[:3]))
    return 0


def view_offset(graph: Graph, op: Op) -> int | None:
    """Bytes from the start of the input to the output if that is a stretch of it (reshape, some slices), else None."""
    if isinstance(op, Reshape):
        return 0
    if not isinstance(op, Slice) or graph.tensor(op.inputs[0]).data is not None:
        return None
    x, y = graph.tensor(op.inputs[0]).shape, graph.tensor(op.output).shape
    cut = [axis for axis in range(len(x)) if x[axis] != y[axis]]
    if any(step != 1 for axis, step in enumerate(op.step) if y[axis] > 1):
        return None
    if cut and any(y[axis] != 1 for axis in range(cut[-1])):
        return None  # several stretches: an axis before the last one cut has more than one element left
    strides = [int(np.prod(x[axis + 1 :], dtype=np.int64)) for axis in range(len(x))]
    return sum(start * stride for start, stride in zip(op.start, strides, strict=True))
