"""Building generated C for the host, and random integer graphs."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.exporters.c import CArtifact
from edgepress.exporters.c import graph as g
from edgepress.exporters.c.arithmetic import rescale_of
from edgepress.exporters.c.tables import lookup_table

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
Runner = Callable[[np.ndarray], np.ndarray]


@pytest.fixture
def host_runner() -> Callable[[CArtifact], Runner]:
    """Compile an artifact for this machine; the result maps [n, input bytes] to [n, output bytes]."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here")

    def build(artifact: CArtifact, *flags: str) -> Runner:
        library = artifact.folder / "model.so"
        sources = [str(artifact.folder / name) for name in artifact.manifest["sources"]]
        command = [compiler, *WARNINGS, "-O2", *flags, "-shared", "-fPIC", "-o", str(library), *sources]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return _runner(ctypes.CDLL(str(library)), artifact)

    return build


def _runner(library: ctypes.CDLL, artifact: CArtifact) -> Runner:
    # Canaries around the arena: a kernel that leaves it is a defect even where the results are right.
    guard = 64
    memory = (ctypes.c_uint8 * (artifact.arena_bytes + 2 * guard))(*([0xA5] * (artifact.arena_bytes + 2 * guard)))
    base = ctypes.addressof(memory) + guard
    call = getattr(library, f"{artifact.name}_run")
    call.argtypes = [ctypes.c_void_p]
    borders = artifact.manifest

    def run(rows: np.ndarray) -> np.ndarray:
        results = []
        for row in np.ascontiguousarray(rows, np.int8):
            at = 0
            for border in borders["inputs"]:
                ctypes.memmove(base + border["offset"], row[at : at + border["bytes"]].tobytes(), border["bytes"])
                at += border["bytes"]
            call(base)
            results.append(b"".join(ctypes.string_at(base + b["offset"], b["bytes"]) for b in borders["outputs"]))
        whole = bytes(memory)
        assert whole[:guard] == whole[-guard:] == b"\xa5" * guard, "memory around the arena was written"
        return np.stack([np.frombuffer(result, np.int8) for result in results])

    run.arena = base  # type: ignore[attr-defined]  # for tests that call other functions on it
    return run


class GraphBuilder:
    """Grows a random integer graph, one operator at a time."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.tensors: dict[str, g.Tensor] = {}
        self.ops: list[g.Op] = []
        size = self.draw.integers(3, 12, 2)
        self.last = self.activation((1, int(size[0]), int(size[1]), int(self.draw.choice([1, 2, 3, 4, 6, 8, 12, 16]))))
        self.inputs = (self.last.name,)

    def activation(self, shape: tuple[int, ...]) -> g.Tensor:
        zero = int(self.draw.choice([-128, 127, 0, int(self.draw.integers(-128, 128))]))
        return self.add(g.Tensor(f"t{len(self.tensors)}", shape, "int8", (float(self.draw.uniform(0.001, 0.2)),), zero))

    def add(self, tensor: g.Tensor) -> g.Tensor:
        self.tensors[tensor.name] = tensor
        return tensor

    def constant(self, values: np.ndarray, dtype: g.DType) -> str:
        return self.add(g.Tensor(f"c{len(self.tensors)}", values.shape, dtype, (1.0,), 0, values.astype(dtype))).name

    def weights(self, shape: tuple[int, ...]) -> str:
        limit = int(self.draw.choice([3, 40, 127]))
        values = self.draw.integers(-limit, limit + 1, shape)
        if self.draw.random() < 0.1:
            values[self.draw.random(shape) < 0.05] = -128
        return self.constant(values, "int8")

    def bias(self, channels: int) -> str:
        limit = int(self.draw.choice([1, 5000, 2**20, 2**29], p=[0.2, 0.5, 0.2, 0.1]))
        return self.constant(self.draw.integers(-limit, limit + 1, channels), "int32")

    def factor(self, count: int, products: int, value: float = 60.0) -> g.Rescale:
        """Mostly so that results spread over int8; sometimes at the edges of the shift range."""
        typical = 60.0 / (value * 70.0 * np.sqrt(products))
        reals = typical * self.draw.uniform(0.3, 3.0, count)
        if self.draw.random() < 0.2:
            reals[int(self.draw.integers(count))] = float(2.0 ** self.draw.uniform(-34, 3))
        return rescale_of(*reals)

    def clamp(self) -> tuple[int, int]:
        low, high = sorted(self.draw.integers(-128, 128, 2).tolist())
        return g.FULL_RANGE if self.draw.random() < 0.7 else (low, high)

    def finish(self, op: g.Op) -> None:
        self.ops.append(op)
        self.last = self.tensors[op.output]

    def conv(self) -> None:
        _, height, width, channels = self.last.shape
        depthwise = self.draw.random() < 0.4
        kernel = (
            (3, 3) if depthwise and self.draw.random() < 0.7 else tuple(int(k) for k in self.draw.integers(1, 4, 2))
        )
        kernel = (min(kernel[0], height), min(kernel[1], width))
        groups = channels if depthwise else int(self.draw.choice([d for d in (1, 1, 1, 2, 3) if channels % d == 0]))
        multiple = 1 if self.draw.random() < 0.8 else 2
        out = channels * multiple if depthwise else groups * int(self.draw.integers(1, 10))
        stride = tuple(int(s) for s in self.draw.choice([(1, 1), (1, 1), (2, 2), (2, 1)]))
        pads = tuple(int(self.draw.integers(0, k)) for k in (*kernel, *kernel))
        dilation = (1, 1)
        if self.draw.random() < 0.2 and height > 2 * kernel[0] and width > 2 * kernel[1]:
            dilation = (2, int(self.draw.integers(1, 3)))
        sizes = [
            (n + pads[a] + pads[a + 2] - (kernel[a] - 1) * dilation[a] - 1) // stride[a] + 1
            for a, n in enumerate((height, width))
        ]
        x, y = self.last, self.activation((1, sizes[0], sizes[1], out))
        weights = self.weights((out, *kernel, channels // groups))
        products = int(np.prod(kernel)) * channels // groups
        options = {"stride": stride, "pads": pads, "dilation": dilation, "groups": groups, "clamp": self.clamp()}
        inputs, factor = (x.name, weights, self.bias(out)), self.factor(out, products)
        self.finish(g.Conv(name=f"conv{len(self.ops)}", inputs=inputs, output=y.name, rescale=factor, **options))

    def pool(self) -> None:
        _, height, width, channels = self.last.shape
        kernel = (int(self.draw.integers(1, min(height, 4) + 1)), int(self.draw.integers(1, min(width, 4) + 1)))
        stride = tuple(int(s) for s in self.draw.integers(1, 3, 2))
        pads = tuple(int(self.draw.integers(0, k // 2 + 1)) for k in (*kernel, *kernel))
        sizes = [(n + pads[a] + pads[a + 2] - kernel[a]) // stride[a] + 1 for a, n in enumerate((height, width))]
        x = self.last
        y = self.add(g.Tensor(f"t{len(self.tensors)}", (1, *sizes, channels), "int8", x.scale, x.zero_point))
        kind = "max" if self.draw.random() < 0.5 else "average"
        options = {"kind": kind, "kernel": kernel, "stride": stride, "pads": pads, "clamp": self.clamp()}
        counted = bool(self.draw.random() < 0.5)
        self.finish(
            g.Pool(name=f"pool{len(self.ops)}", inputs=(x.name,), output=y.name, count_padding=counted, **options)
        )

    def arithmetic(self) -> None:
        peers = [t for t in self.tensors.values() if t.data is None and t.shape == self.last.shape]
        a, b = self.last, peers[int(self.draw.integers(len(peers)))]
        y = self.activation(a.shape)
        kind = str(self.draw.choice(["add", "sub", "mul"]))
        twice = 2 * max(a.scale[0], b.scale[0])
        if kind == "mul":
            factors = {"output_rescale": self.factor(1, 1)}
        else:
            factors = {"left": rescale_of(a.scale[0] / twice), "right": rescale_of(b.scale[0] / twice)}
            factors["output_rescale"] = rescale_of(twice / ((1 << 20) * y.scale[0]))
        options = {"kind": kind, "clamp": self.clamp(), **factors}
        self.finish(g.Arithmetic(name=f"{kind}{len(self.ops)}", inputs=(a.name, b.name), output=y.name, **options))

    def lookup(self) -> None:
        x, y = self.last, self.activation(self.last.shape)
        function = str(self.draw.choice(["sigmoid", "hard_swish", "relu", "tanh", "identity"]))
        table = lookup_table(function, x, y)
        name = f"{function}{len(self.ops)}"
        self.finish(g.Lookup(name=name, inputs=(x.name,), output=y.name, function=function, table=table))

    def concat(self) -> None:
        x = self.last
        peers = [t for t in self.tensors.values() if t.data is None and t.shape == x.shape and t.scale == x.scale]
        names = tuple(t.name for t in (x, *peers[:1]))
        axis = int(self.draw.integers(1, 4))
        shape = list(x.shape)
        shape[axis] *= len(names)
        y = self.add(g.Tensor(f"t{len(self.tensors)}", tuple(shape), "int8", x.scale, x.zero_point))
        self.finish(g.Concat(name=f"concat{len(self.ops)}", inputs=names, output=y.name, axis=axis))

    def slice(self) -> None:
        x = self.last
        start = tuple(int(self.draw.integers(0, max(1, n // 3))) for n in x.shape)
        step = tuple(int(self.draw.integers(1, 3)) if n > 4 else 1 for n in x.shape)
        shape = tuple(-(-(n - s) // k) for n, s, k in zip(x.shape, start, step, strict=True))
        y = self.add(g.Tensor(f"t{len(self.tensors)}", shape, "int8", x.scale, x.zero_point))
        self.finish(g.Slice(name=f"slice{len(self.ops)}", inputs=(x.name,), output=y.name, start=start, step=step))

    def pad(self) -> None:
        x = self.last
        pads = ((0, 0), *((int(a), int(b)) for a, b in self.draw.integers(0, 3, (3, 2))))
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pads, strict=True))
        y = self.add(g.Tensor(f"t{len(self.tensors)}", shape, "int8", x.scale, x.zero_point))
        self.finish(g.Pad(name=f"pad{len(self.ops)}", inputs=(x.name,), output=y.name, pads=pads, value=x.zero_point))

    def transpose(self) -> None:
        x = self.last
        perm = (0, *(int(p) + 1 for p in self.draw.permutation(3)))
        y = self.add(g.Tensor(f"t{len(self.tensors)}", tuple(x.shape[p] for p in perm), "int8", x.scale, x.zero_point))
        self.finish(g.Transpose(name=f"transpose{len(self.ops)}", inputs=(x.name,), output=y.name, perm=perm))

    def resize(self) -> None:
        x = self.last
        if x.size > 1000:
            return
        rows = tuple(int(i) // 2 for i in range(2 * x.shape[1]))
        columns = tuple(int(i) // 2 for i in range(2 * x.shape[2]))
        shape = (1, len(rows), len(columns), x.shape[3])
        y = self.add(g.Tensor(f"t{len(self.tensors)}", shape, "int8", x.scale, x.zero_point))
        self.finish(
            g.Resize(name=f"resize{len(self.ops)}", inputs=(x.name,), output=y.name, rows=rows, columns=columns)
        )

    def conv_transpose(self) -> None:
        x = self.last
        kernel, stride = (
            tuple(int(k) for k in self.draw.integers(1, 4, 2)),
            tuple(int(s) for s in self.draw.integers(1, 3, 2)),
        )
        sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], stride, kernel, strict=True)]
        out = int(self.draw.integers(1, 6))
        y = self.activation((1, *sizes, out))
        inputs = (x.name, self.weights((out, *kernel, x.shape[3])), self.bias(out))
        factor = self.factor(out, x.shape[3])
        name = f"conv_transpose{len(self.ops)}"
        self.finish(g.ConvTranspose(name=name, inputs=inputs, output=y.name, rescale=factor, stride=stride))

    def mean(self) -> None:
        x, y = self.last, self.activation((1, 1, 1, self.last.shape[3]))
        factor = rescale_of(x.scale[0] / y.scale[0] / (x.shape[1] * x.shape[2]))
        self.finish(g.Mean(name=f"mean{len(self.ops)}", inputs=(x.name,), output=y.name, rescale=factor))

    def tail(self) -> None:
        """Flatten, a dense layer, and sometimes a softmax."""
        x = self.last
        flat = self.add(g.Tensor(f"t{len(self.tensors)}", (1, x.size), "int8", x.scale, x.zero_point))
        self.finish(g.Reshape(name=f"flatten{len(self.ops)}", inputs=(x.name,), output=flat.name))
        out = int(self.draw.integers(1, 14))
        y = self.activation((1, out))
        inputs = (flat.name, self.weights((out, x.size)), self.bias(out))
        factor = self.factor(out, x.size)
        self.finish(g.Dense(name="dense", inputs=inputs, output=y.name, rescale=factor, clamp=self.clamp()))
        if self.draw.random() < 0.5:
            from edgepress.exporters.c.tflite import softmax_factors

            z = self.add(g.Tensor("probabilities", (1, out), "int8", (1 / 256,), -128))
            self.finish(g.Softmax(name="softmax", inputs=(y.name,), output=z.name, **softmax_factors(y.scale[0])))

    STEPS = ("conv",) * 6 + (
        "pool",
        "arithmetic",
        "arithmetic",
        "lookup",
        "concat",
        "slice",
        "pad",
        "transpose",
        "resize",
    )
    STEPS += ("conv_transpose", "mean")

    def build(self) -> g.Graph:
        for _ in range(int(self.draw.integers(1, 6))):
            getattr(self, str(self.draw.choice(self.STEPS)))()
        if self.draw.random() < 0.5:
            self.tail()
        return g.Graph("random", self.tensors, tuple(self.ops), self.inputs, (self.last.name,))


@pytest.fixture
def random_graph() -> Callable[[int], g.Graph]:
    """seed -> a random integer graph of one to seven operators."""
    return lambda seed: GraphBuilder(seed).build()


@pytest.fixture
def source_file(tmp_path: Path) -> Path:
    """A stand-in for the file that a hand-made graph was read from: only its hash goes into the manifest."""
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"made by a test")
    return path
