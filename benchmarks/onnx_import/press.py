"""Take an imported network on: int8, and a fifth of its work pruned, each exported and run in onnxruntime.

Grids that a file brings along are taken out first: the network is pressed as the float network that they approximate.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import torch

from edgepress.analysis.channels import channel_groups
from edgepress.analysis.costs import macs
from edgepress.errors import EdgepressError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.passes.strip_quantization import strip_quantization
from edgepress.prune import PruneOptions, prune
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import load_capability

TARGET = "onnxruntime-x86"
SHARE = 0.2
CALIBRATION, HELD_OUT = 8, 4
AGREES = 1e-3

Feeds = dict[str, np.ndarray]
Runner = Callable[[Feeds], list[np.ndarray]]
Batches = Callable[[int], Feeds | None]
"""Seed -> a batch of several samples, or `None` where the batch is not open."""


@dataclass(frozen=True)
class Quantized:
    """What quantization made of a network.

    Attributes:
        done: some operators work on integers, and the exported file runs. integers, floats: operators of either kind.
        macs_share: share of the multiply-accumulates that are done on integers.
        signal_db: signal to quantization noise, in dB, of the worst output against the original file, on inputs not
            calibrated with. reason: why not, or what keeps operators float.
    """

    done: bool = False
    integers: int = 0
    floats: int = 0
    macs_share: float = 0.0
    signal_db: float | None = None
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class Pruned:
    """What pruning made of a network.

    Attributes:
        done: at least a fifth of the multiply-accumulates is gone, and onnxruntime answers as the pruned program.
        saved: share that is gone. difference: onnxruntime's to the program's answers, relative to the largest;
            difference_batch: the same for three samples at once, where the batch is open.
    """

    done: bool = False
    saved: float = 0.0
    difference: float | None = None
    difference_batch: float | None = None
    seconds: float = 0.0
    reason: str = ""


def try_quantize(
    program: Program, samples: Callable[[int], Feeds], batch_of: Batches, reference: Runner, kept: Sequence[int]
) -> Quantized:
    """Post-training int8 for onnxruntime, calibrated with 8 samples.

    Args:
        samples: seed -> inputs of one sample. batch_of: the same of several. reference: the original file.
        kept: outputs that can be compared.
    """
    start, program = perf_counter(), strip_quantization(program).program
    try:
        batches = [tensors(program, samples(seed)) for seed in range(CALIBRATION)]
        result = quantize(program, QuantOptions(), load_capability(TARGET), batches)
        if not result.plan.quantized:
            return Quantized(False, floats=len(result.plan.float_nodes), reason=_common(result.refusals))
        run = exported(result.program)
        whole = batch_of(1000)
        together = run(whole) if whole else []
    except Exception as error:
        return Quantized(False, seconds=perf_counter() - start, reason=said(error))
    seconds = perf_counter() - start
    held_out = [samples(1000 + seed) for seed in range(HELD_OUT)]
    pairs = [(reference(feeds), run(feeds)) for feeds in held_out]
    costs = {node.name: macs(node) for node in prepare(program).nodes}
    return Quantized(
        done=all(np.isfinite(found[i]).all() for _, found in pairs for i in kept)
        and all(np.isfinite(value).all() for value in together if value.dtype.kind == "f"),
        integers=len(result.plan.quantized),
        floats=len(result.plan.float_nodes),
        macs_share=sum(costs.get(name, 0) for name in result.plan.quantized) / max(sum(costs.values()), 1),
        signal_db=min((signal_to_noise(*([p[side][i] for p in pairs] for side in (0, 1))) for i in kept), default=None),
        seconds=seconds,
        reason=_common(result.refusals),
    )


def try_prune(program: Program, samples: Callable[[int], Feeds], batch_of: Batches, kept: Sequence[int]) -> Pruned:
    """A fifth of the multiply-accumulates by the size of weights: whether it can be done, not how to do it best."""
    start, program = perf_counter(), strip_quantization(program).program
    options = PruneOptions(reduce={"macs": SHARE}, criterion="l1", reconstruct=False)
    feeds = samples(2000)
    try:
        result = prune(program, options, [(tensors(program, feeds), torch.zeros(1))], _no_loss)
        run = exported(result.program)
        difference = _disagreement(result.program, run, feeds, kept)
        whole = batch_of(2000)
        difference_batch = _disagreement(result.program, run, whole, kept) if whole else None
    except Exception as error:
        return Pruned(False, seconds=perf_counter() - start, reason=f"{said(error)}; {_held_back(program)}")
    if not result.facts["macs_before"]:
        return Pruned(False, seconds=perf_counter() - start, reason="it multiplies nothing")
    saved = 1 - result.facts["macs_after"] / result.facts["macs_before"]
    enough, agrees = saved >= SHARE - 1e-6, max(difference, difference_batch or 0.0) <= AGREES
    reason = "" if agrees else "answers differ"
    return Pruned(enough and agrees, saved, difference, difference_batch, perf_counter() - start, reason)


def _held_back(program: Program) -> str:
    """What keeps channels whole, where that can be said."""
    try:
        return _common(channel_groups(program).refusals)
    except Exception:  # the error that was caught before says it already
        return ""


def _disagreement(program: Program, run: Runner, feeds: Feeds, kept: Sequence[int]) -> float:
    """Largest relative difference between the exported file and the program."""
    found = run(feeds)
    with torch.no_grad():
        outputs: Any = program.module()(*tensors(program, feeds))
    expected = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    return max((_relative(found[i], expected[i].numpy()) for i in kept), default=0.0)


def tensors(program: Program, feeds: Feeds) -> tuple[torch.Tensor, ...]:
    """Inputs in the program's order."""
    return tuple(torch.from_numpy(np.array(feeds[name])) for name in program.input_names)


def exported(program: Program) -> Runner:
    """The program as an ONNX file, in onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(program, Path(folder) / "model.onnx").path
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    return lambda feeds: session.run(None, {name: value for name, value in feeds.items() if name in names})


def signal_to_noise(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """10 log10 of the mean square of what is expected over that of the difference, over all samples, in dB.

    300 dB stand for no difference at all.
    """
    a = np.concatenate([np.asarray(v, np.float64).ravel() for v in expected])
    b = np.concatenate([np.asarray(v, np.float64).ravel() for v in found])
    noise, signal = float(np.mean((a - b) ** 2)), float(np.mean(a**2))
    return 300.0 if noise <= signal * 1e-30 else 10 * math.log10(max(signal, 1e-30) / noise)


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    if np.shape(found) != expected.shape:
        return float("inf")
    error = np.abs(np.asarray(found, np.float64) - expected.astype(np.float64)).max(initial=0.0)
    return float(error / max(np.abs(expected).max(initial=0.0), 1e-6))


def _no_loss(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    raise AssertionError("the size of weights needs no loss")


def said(error: Exception) -> str:
    """The user error in one line; anything else is a defect and says so."""
    text = str(error) if isinstance(error, EdgepressError) else f"DEFECT {type(error).__name__}: {error}"
    return text.replace("\n", ";")[:400]


def _common(refusals: Sequence[Any]) -> str:
    """The reasons that keep the most operators float."""
    reasons = [refusal.found for refusal in refusals]
    ranked = sorted(dict.fromkeys(reasons), key=reasons.count, reverse=True)[:2]
    return "; ".join(f"{reasons.count(reason)} x {reason}" for reason in ranked)
