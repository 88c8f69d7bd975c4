"""Import a folder of `.onnx` files, compare their outputs with onnxruntime's, and press what was imported.

    python benchmarks/onnx_import/files.py FOLDER... [--out benchmarks/onnx_import] [--name files] [--keep]

Writes `files.json` and `files.md`: for each file whether it imports, the largest difference at batch 1 (the sizes the
file declares) and at batch 3 (sample by sample, where the batch is open), what kept it from matching, and the notes.
A difference counts as a match within 1e-4 of the largest output (and 1e-6 absolute). A float16 file is compared with
onnxruntime running the same file in float32: float16 arithmetic itself is worth 4e-4. QONNX files, which onnxruntime
does not run, are compared with the `onnx` reference evaluator and the QONNX definition of Quant in numpy.

Then each network is quantized to int8 and, from the original again, pruned by a fifth of its multiply-accumulates;
both are exported and run in onnxruntime, one sample at a time and, where the batch is open, three (see press.py).
Inputs are real where EDGEPRESS_DATA has some (see inputs.py).
"""

import argparse
import copy
import functools
import json
import platform
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from inputs import real_input
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from press import Pruned, Quantized, said, try_prune, try_quantize

from edgepress.errors import UserError
from edgepress.importers.onnx import OnnxModel, to_module
from edgepress.importers.onnx.convert import program_of

Samples = Callable[[int], dict[str, np.ndarray]]
"""Seed -> one set of inputs of one sample."""
RELATIVE, ABSOLUTE = 1e-4, 1e-6
BATCH = 3
OLDEST_OF_ONNXRUNTIME = 7
LAST_DIGITS = (1e-7, 1e-5)

# What an input holds in use, where standard normal numbers would be degenerate: scale of uniform numbers from 0.
RANGES = {"style_candy": 255.0, "yunet_n_320": 255.0, "yolox_nano": 255.0}
BYTES = ("magika",)
BOUND = {"silero": {"sr": 16000}}
LENGTHS = {"silero": {"input": 512}}


@dataclass(frozen=True)
class FileResult:
    """What became of one file; differences are relative to the largest output."""

    file: str
    imports: bool
    matches: bool = False
    difference: float | None = None
    difference_batch: float | None = None
    seconds: float = 0.0
    parameters: int = 0
    open_axes: str = ""
    reference: str = "onnxruntime"
    reason: str = ""
    notes: tuple[str, ...] = ()
    quantized: Quantized = field(default_factory=Quantized)
    pruned: Pruned = field(default_factory=Pruned)


class Quant(OpRun):
    """QONNX Quant, from its definition."""

    op_domain = "onnx.brevitas"

    def _run(
        self, x: Any, scale: Any, zero: Any, bits: Any, signed: int = 1, narrow: int = 0, rounding_mode: str = "ROUND"
    ) -> Any:
        low = -(2.0 ** (bits - 1)) + narrow if signed else 0.0
        high = 2.0 ** (bits - 1) - 1 if signed else 2.0**bits - 1 - narrow
        return (((np.round(np.clip(x / scale + zero, low, high)) - zero) * scale).astype(np.float32),)


class BatchNormalization(OpRun):
    """With stored statistics; the reference evaluator takes those of the batch before opset 14."""

    op_domain = ""

    def _run(self, x: Any, *parameters: Any, epsilon: float = 1e-5, **_: Any) -> Any:
        scale, bias, mean, var = (v.reshape(1, -1, *[1] * (x.ndim - 2)) for v in parameters)
        return (((x - mean) / np.sqrt(var + epsilon) * scale + bias).astype(np.float32),)


class Reference:
    """Outputs of the file for named inputs, from a runtime that is not ours."""

    def __init__(self, path: Path) -> None:
        proto = onnx.load(path)
        self.name = "onnxruntime"
        if any(node.domain == "onnx.brevitas" for node in proto.graph.node):
            self.name = "onnx reference evaluator"
            proto.opset_import.append(onnx.helper.make_opsetid(Quant.op_domain, 1))  # such files often leave it out
            evaluator = ReferenceEvaluator(proto, new_ops=[Quant, BatchNormalization])
            self.run = lambda feeds: evaluator.run(None, feeds)
            return
        if is_half(proto):
            self.name, proto = "onnxruntime in float32", widened(proto)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        source = str(path) if self.name == "onnxruntime" else proto.SerializeToString()  # a path finds external data
        try:
            held = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except onnxruntime_errors():
            if opset(proto) >= OLDEST_OF_ONNXRUNTIME:
                raise
            self.name, evaluator = "onnx reference evaluator", ReferenceEvaluator(proto, new_ops=[BatchNormalization])
            self.run = lambda feeds: evaluator.run(None, feeds)
        else:
            self.run = lambda feeds: held.run(None, feeds)


def opset(proto: onnx.ModelProto) -> int:
    """Of the default domain."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def is_half(proto: onnx.ModelProto) -> bool:
    """Whether the first input is float16."""
    return proto.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16


def widened(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with float32 weights and types."""
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return proto


def lookup(table: dict[str, Any], stem: str, default: Any) -> Any:
    """The entry whose key starts the file's name."""
    return next((value for key, value in table.items() if stem.startswith(key)), default)


def sample(model: OnnxModel, stem: str, seed: int, shapes: list[tuple[int, ...]]) -> dict[str, np.ndarray]:
    """One set of inputs of one sample."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for name, example, shape in zip(model.input_names, model.example_inputs, shapes, strict=True):
        real = real_input(stem, name, shape, seed)
        if name in lookup(BOUND, stem, {}):
            feeds[name] = np.array(lookup(BOUND, stem, {})[name])
        elif real is not None:
            feeds[name] = real.astype(example.numpy().dtype)
        elif example.dtype.is_floating_point:
            scale = lookup(RANGES, stem, 0.0)
            feeds[name] = (rng.random(shape) * scale if scale else rng.normal(size=shape)).astype(example.numpy().dtype)
        else:
            feeds[name] = rng.integers(0, 256 if stem.startswith(BYTES) else 2, shape).astype(example.numpy().dtype)
    return feeds


def sample_shapes(model: OnnxModel, path: Path) -> list[tuple[int, ...]]:
    """Shapes of one sample: example sizes, but 1 where the file or the importer has a batch."""
    declared = {v.name: v.type.tensor_type.shape.dim for v in onnx.load(path, load_external_data=False).graph.input}
    lengths = lookup(LENGTHS, path.stem, {})
    shapes = []
    for name, example, axes in zip(model.input_names, model.example_inputs, model.dynamic_shapes[0], strict=True):
        batch = next((axis for axis in axes if "seq" not in declared[name][axis].dim_param), None)
        sizes = [1 if axis == batch else size for axis, size in enumerate(example.shape)]
        sizes = [d.dim_value if d.dim_value > 0 else s for d, s in zip(declared[name], sizes, strict=True)]
        shapes.append((*sizes[:-1], lengths[name]) if name in lengths else tuple(sizes))
    return shapes


def relative(found: Any, expected: Any) -> float:
    """Largest difference over largest expected value; 0 within the absolute tolerance."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return float("inf")
    error = np.abs(a - b).max(initial=0.0)
    return float(error / max(np.abs(b).max(initial=0.0), 1e-30)) if error > ABSOLUTE else 0.0


def deterministic(model: OnnxModel) -> list[int]:
    """Positions of outputs that no random number reaches."""
    random = " ".join(note for note in model.notes if "is random" in note)
    return [i for i, name in enumerate(model.output_names) if repr(name) not in random]


def run(model: OnnxModel, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of the exported graph."""
    with torch.no_grad():
        outputs = model.exported.module(check_guards=False)(
            *(torch.from_numpy(np.asarray(feeds[n])) for n in model.input_names)
        )
    return [value.numpy() for value in outputs]


def compare(model: OnnxModel, reference: Reference, samples: Samples) -> tuple[float, float | None]:
    """(difference of one sample, difference of a batch, to the file run on it, or else sample by sample)."""
    kept = deterministic(model)
    feeds = [samples(seed) for seed in range(BATCH)]
    expected = [reference.run(one) for one in feeds]
    alone = run(model, feeds[0])
    single = max((relative(alone[i], expected[0][i]) for i in kept), default=0.0)
    shapes = [feeds[0][name].shape for name in model.input_names]
    joined = together(model, feeds, shapes)
    if joined is None:
        return single, None
    whole = run(model, joined)
    try:
        same = reference.run(joined)
    except Exception:  # the file itself is fixed at one sample
        return single, max(closest(whole[i], [one[i] for one in expected]) for i in kept)
    return single, max((relative(whole[i], same[i]) for i in kept), default=0.0)


def errors_in_float64(model: OnnxModel, reference: Reference, samples: Samples) -> tuple[float, float]:
    """Largest distance of (our outputs, the runtime's outputs) from the network computed in float64.

    Where the two differ, this says who is at fault: onnxruntime's normalizations lose digits on flat pictures.
    """
    exact, kept = copy.deepcopy(model.module).double(), deterministic(model)
    ours, theirs = 0.0, 0.0
    for feeds in (samples(seed) for seed in range(BATCH)):
        values = (torch.from_numpy(np.asarray(feeds[n])) for n in model.input_names)
        with torch.no_grad():
            truth = [v.numpy() for v in exact(*(v.double() if v.is_floating_point() else v for v in values))]
        own, other = run(model, feeds), reference.run(feeds)
        ours = max(ours, *(relative(own[i], truth[i]) for i in kept))
        theirs = max(theirs, *(relative(other[i], truth[i]) for i in kept))
    return ours, theirs


def own_differences(path: Path, model: OnnxModel, samples: Samples) -> str:
    """How far the runtime's own answer moves where the answer should not.

    In chains of roundings a value on the border between two steps falls to one side or the other by the last digit of a
    sum, and moves everything behind it. So: without the runtime's optimizations, and with inputs that differ in their
    last digits (one part in 10^7, one in 10^5).
    """
    default, plain = session(path), session(path, optimized=False)
    moved = dict.fromkeys(
        ("without its optimizations", *(f"with inputs changed by {size:g}" for size in LAST_DIGITS)), 0.0
    )
    for seed in range(BATCH):
        feeds, kept = samples(seed), deterministic(model)
        expected = default.run(None, feeds)
        others = [plain.run(None, feeds), *(default.run(None, nudged(feeds, size, seed)) for size in LAST_DIGITS)]
        for what, other in zip(moved, others, strict=True):
            moved[what] = max(moved[what], *(relative(other[i], expected[i]) for i in kept))
    return "move by " + ", ".join(f"{size:.1e} {what}" for what, size in moved.items())


def session(path: Path, *, optimized: bool = True) -> onnxruntime.InferenceSession:
    """The file in onnxruntime, with or without its optimizations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def nudged(feeds: dict[str, np.ndarray], size: float, seed: int) -> dict[str, np.ndarray]:
    """Floats a little larger or smaller, at random."""
    draw = np.random.default_rng(seed)
    return {
        name: (v * (1 + size * draw.choice([-1, 1], v.shape))).astype(v.dtype) if v.dtype.kind == "f" else v
        for name, v in feeds.items()
    }


def judged(path: Path, model: OnnxModel, reference: Reference, samples: Samples, worst: float) -> tuple[bool, str]:
    """Whether our outputs are the better ones, and what to say."""
    try:
        ours, theirs = errors_in_float64(model, reference, samples)
    except (RuntimeError, AssertionError, UserError):  # quantizers know float32 alone
        own = own_differences(path, model, samples)
        return False, f"outputs differ by {worst:.1e}; onnxruntime's own {own}"
    return ours < theirs, (
        f"outputs differ by {worst:.1e}; from float64 ours by {ours:.1e}, {reference.name}'s by {theirs:.1e}"
    )


def together(
    model: OnnxModel, feeds: list[dict[str, np.ndarray]], shapes: list[tuple[int, ...]]
) -> dict[str, np.ndarray] | None:
    """Samples as one batch; `None` if an input that is no single number has no open batch."""
    axes = [
        next((a for a in sorted(open_) if shape[a] == 1), None)
        for open_, shape in zip(model.dynamic_shapes[0], shapes, strict=True)
    ]
    if all(axis is None for axis in axes):
        return None
    if any(axis is None and feeds[0][n].ndim for n, axis in zip(model.input_names, axes, strict=True)):
        return None
    return {
        name: feeds[0][name] if axis is None else np.concatenate([one[name] for one in feeds], axis)
        for name, axis in zip(model.input_names, axes, strict=True)
    }


def closest(whole: np.ndarray, parts: list[np.ndarray]) -> float:
    """Difference to the parts joined along the axis that fits best, or to an output without a batch."""
    options = [np.concatenate(parts, axis) for axis in range(whole.ndim)] + [parts[0]]
    return min(relative(whole, option) for option in options)


def try_file(path: Path) -> FileResult:
    """Import and compare one file."""
    start = perf_counter()
    try:
        model = to_module(path)
    except Exception as error:
        return FileResult(path.name, False, seconds=perf_counter() - start, reason=said(error))
    result = FileResult(
        path.name,
        True,
        seconds=perf_counter() - start,
        parameters=sum(p.numel() for p in model.module.parameters()),
        open_axes="; ".join(
            f"{n} {sorted(a)}" for n, a in zip(model.input_names, model.dynamic_shapes[0], strict=True) if a
        ),
        notes=model.notes,
    )
    try:
        return pressed(path, model, result)
    except Exception as error:  # the file is no good to the runtime either, or a defect: the table says which
        return replace(result, reason=f"not compared: {said(error)}"[:300])


def onnxruntime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; its kinds have no common base of their own."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def pressed(path: Path, model: OnnxModel, result: FileResult) -> FileResult:
    """The result of an import, with what comparing, quantizing and pruning say."""
    reference = Reference(path)
    samples = functools.partial(sample, model, path.stem, shapes=sample_shapes(model, path))
    single, batch = compare(model, reference, samples)
    worst = max(single, batch or 0.0)
    matches, reason = worst <= RELATIVE, ""
    if not matches:
        matches, reason = judged(path, model, reference, samples, worst)
    program, kept = program_of(model, path.name), deterministic(model)
    batch_of = functools.partial(batch_feeds, model, samples)
    return replace(
        result,
        matches=matches,
        difference=single,
        difference_batch=batch,
        reference=reference.name,
        reason=reason,
        quantized=try_quantize(program, samples, batch_of, reference.run, kept),
        pruned=try_prune(program, samples, batch_of, kept),
    )


def batch_feeds(model: OnnxModel, samples: Samples, seed: int) -> dict[str, np.ndarray] | None:
    """A batch of 3 from this seed on, where the batch is open."""
    feeds = [samples(seed + i) for i in range(BATCH)]
    return together(model, feeds, [feeds[0][name].shape for name in model.input_names])


def markdown(results: list[FileResult], *, origins: bool = False) -> str:
    """Two tables: what was imported, what became of it; one of their origins first, where there are several."""
    parts = [
        _headline(results),
        *([summary(results)] if origins else []),
        _import_table(results),
        _press_table(results),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _headline(results: list[FileResult]) -> list[str]:
    n = len(results)
    return [
        f"Of {n} files {sum(r.imports for r in results)} import, {sum(r.matches for r in results)} match within 1e-4, "
        f"{sum(r.quantized.done for r in results)} are quantized to int8 and {sum(r.pruned.done for r in results)} are "
        "pruned by at least a fifth of their multiply-accumulates; what is quantized or pruned was exported and run in "
        "onnxruntime. Seconds are wall-clock time of the import, on a machine that was busy with other work.",
    ]


def summary(results: list[FileResult]) -> list[str]:
    """One line for each origin: the first part of a file's name, and the exporter that wrote it."""
    lines = ["| from | exporter | files | import | match | int8, runs | a fifth pruned, runs |",
             "|---|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    origins: dict[tuple[str, str], list[FileResult]] = {}
    for result in results:
        parts = result.file.split(".")
        exporter = next((name for name in ("dynamo", "script") if name in parts[1]), "")
        origins.setdefault((result.file.partition("_")[0], exporter), []).append(result)
    for (origin, exporter), group in sorted(origins.items()):
        counts = [
            len(group),
            sum(r.imports for r in group),
            sum(r.matches for r in group),
            sum(r.quantized.done for r in group),
            sum(r.pruned.done for r in group),
        ]
        lines.append(f"| `{origin}` | {exporter} | " + " | ".join(map(str, counts)) + " |")
    return lines


def _import_table(results: list[FileResult]) -> list[str]:
    lines = [
        "| file | imports | matches | difference | batch of 3 | seconds | parameters | open axes | against | notes |",
        "|---|---|---|---:|---:|---:|---:|---|---|---|",
    ]
    for r in results:
        cells = [r.file, _yes(r.imports), _yes(r.matches), _number(r.difference), _number(r.difference_batch)]
        words = "; ".join((*([r.reason.replace("\n", " ")] if r.reason else []), *r.notes))
        cells += [f"{r.seconds:.1f}", f"{r.parameters:,}", r.open_axes, r.reference, words]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _press_table(results: list[FileResult]) -> list[str]:
    lines = [
        "| file | int8 | operators on integers / float | MACs on integers | signal to noise, dB | what stays float "
        "| pruned | MACs saved | difference | batch of 3 | why not |",
        "|---|---|---|---:|---:|---|---|---:|---:|---:|---|",
    ]
    for r in results:
        q, p = r.quantized, r.pruned
        cells = [r.file, _yes(q.done), f"{q.integers} / {q.floats}", f"{q.macs_share:.0%}"]
        cells += ["" if q.signal_db is None else f"{q.signal_db:.0f}", q.reason]
        cells += [_yes(p.done), f"{p.saved:.0%}", _number(p.difference), _number(p.difference_batch), p.reason]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of .onnx files, or such files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--name", default="files", help="of the results: files.json and files.md")
    parser.add_argument("--keep", action="store_true", help="keep the results of files that are not named")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    paths = [p for given in arguments.folders for p in ([given] if given.is_file() else sorted(given.rglob("*.onnx")))]
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = kept_results(arguments.out / f"{arguments.name}.json") if arguments.keep else {}
    for path in paths:
        found[path.name] = result = try_file(path)
        print(path.name, "ok" if result.matches else result.reason, file=sys.stderr, flush=True)
        write(sorted(found.values(), key=lambda r: r.file), arguments.out, arguments.name)
    results = sorted(found.values(), key=lambda r: r.file)
    print(markdown(results, origins=arguments.name != "files"))
    return int(not all(result.matches for result in results))


def kept_results(path: Path) -> dict[str, FileResult]:
    """What an earlier call found out, by file name."""
    facts = json.loads(path.read_text())["files"] if path.is_file() else []
    parts = [
        {**f, "notes": tuple(f["notes"]), "quantized": Quantized(**f["quantized"]), "pruned": Pruned(**f["pruned"])}
        for f in facts
    ]
    return {part["file"]: FileResult(**part) for part in parts}


def write(results: list[FileResult], out: Path, name: str) -> None:
    """Both forms of the table."""
    environment = {
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    facts = {"files": [asdict(result) for result in results], "environment": environment}
    (out / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / f"{name}.md").write_text(markdown(results, origins=name != "files"))


if __name__ == "__main__":
    sys.exit(main())
