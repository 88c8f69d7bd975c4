"""Equalization and bias correction on a depthwise keyword spotter, SmoothQuant on a vision transformer; real data.

EDGEPRESS_DATA=... python benchmarks/quantization/rescaled.py
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from language import language_model, text
from mixed import vit, vit_cifar
from networks import DATA, batches

from edgepress.importers.onnx import load
from edgepress.ir import Program
from edgepress.quantize.diagnose import first_output, sqnr
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import Capability, load_capability

SPECTRUM_SCALE, SPECTRUM_ZERO = 0.5847029089927673, 83  # of the stored spectra, from the reference's own input
ROUNDING: dict[str, Any] = {"rounding": "nearest"}


def keywords() -> tuple[Program, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The keyword spotter with depthwise convolutions; spectra to calibrate with, others to test with, their labels."""
    program = load(DATA / "mlperf_tiny" / "onnx" / "alibaba_kws.onnx")
    with np.load(DATA / "mlperf_tiny" / "eval" / "kws01_mfcc_int8.npz") as archive:
        spectra, labels = archive["x"].astype(np.float32), torch.from_numpy(archive["y"].astype(np.int64))
    inputs = torch.from_numpy((spectra - SPECTRUM_ZERO) * SPECTRUM_SCALE)[..., None]
    return program, inputs[:200], inputs[200:], labels[200:]


def transformer() -> tuple[Program, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The vision transformer for CIFAR-10."""
    return vit(), vit_cifar("train", 256)[0], *vit_cifar("test", 1000)


def language() -> tuple[Program, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The small GPT (layer norms first); accuracy is that of the next character."""
    training, held_out = text()
    return language_model(), training[::997, :-1][:128], held_out[:200, :-1], held_out[:200, 1:]


def per_tensor(table: Capability) -> Capability:
    """The same target with one scale per weight."""
    return table.model_copy(update={"weight": table.weight.model_copy(update={"granularity": "tensor"})})


def measured(program: Program, inputs: torch.Tensor, labels: torch.Tensor, goal: torch.Tensor | None) -> dict[str, Any]:
    scores = scores_of(program, inputs)
    found = {"accuracy": round(100 * float((scores.argmax(-1) == labels).float().mean()), 2)}
    return found if goal is None else {**found, "output_db": round(sqnr(goal, scores), 2)}


def scores_of(program: Program, inputs: torch.Tensor) -> torch.Tensor:
    size = 100 if program.dynamic_batch() else len(program.example_inputs[0])
    return torch.cat([first_output(program(batch)) for (batch,) in batches(inputs, size)])


def every_way() -> list[tuple[str, QuantOptions]]:
    """Ranges, equalization, bias correction and rounding, in all combinations."""
    found = []
    for observer, equal, corrected, rounding in itertools.product(
        ("minmax", "percentile", "mse"), (False, True), (False, True), ("nearest", "output")
    ):
        words = [observer, "equalized" * equal, "biases corrected" * corrected, "by output" * (rounding == "output")]
        options = QuantOptions(observer=observer, equalize=equal, correct_biases=corrected, rounding=rounding)  # type: ignore[arg-type]
        found.append((", ".join(filter(None, words)), options))
    return found


CASES: dict[str, tuple[Callable[[], Any], bool, list[tuple[str, QuantOptions]]]] = {
    "keyword spotter, one scale per weight": (
        keywords,
        True,
        [
            ("8 bits", QuantOptions(**ROUNDING)),
            ("8 bits, equalized", QuantOptions(equalize=True, **ROUNDING)),
            ("8 bits, biases corrected", QuantOptions(correct_biases=True, **ROUNDING)),
            ("8 bits, equalized, biases corrected", QuantOptions(equalize=True, correct_biases=True, **ROUNDING)),
            ("6 bits", QuantOptions(weight_bits=6, **ROUNDING)),
            ("6 bits, equalized", QuantOptions(weight_bits=6, equalize=True, **ROUNDING)),
            ("6 bits, equalized, biases corrected",
             QuantOptions(weight_bits=6, equalize=True, correct_biases=True, **ROUNDING)),
        ],
    ),
    "keyword spotter, a scale per channel": (keywords, False, every_way()),
    "vision transformer": (
        transformer,
        False,
        [
            ("8 bits", QuantOptions(**ROUNDING)),
            *((f"8 bits, smoothed {a}", QuantOptions(smooth=a, **ROUNDING)) for a in (0.3, 0.5, 0.7)),
            ("8 bits, biases corrected", QuantOptions(correct_biases=True, **ROUNDING)),
        ],
    ),
    "small GPT": (
        language,
        False,
        [
            ("8 bits", QuantOptions(**ROUNDING)),
            *((f"8 bits, smoothed {a}", QuantOptions(smooth=a, **ROUNDING)) for a in (0.3, 0.5, 0.7)),
        ],
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("rescaled.json"))
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    rows: list[dict[str, Any]] = [row for row in known if row["case"] not in arguments.cases]
    for case in arguments.cases:
        make, one_scale, ways = CASES[case]
        program, calibration, inputs, labels = make()
        table = load_capability("onnxruntime-x86")
        goal = scores_of(program, inputs)
        rows.append({"case": case, "way": "float", **measured(program, inputs, labels, None)})
        size = 64 if program.dynamic_batch() else len(program.example_inputs[0])
        for way, options in ways:
            result = quantize(program, options, per_tensor(table) if one_scale else table, batches(calibration, size))
            rows.append({"case": case, "way": way, **measured(result.program, inputs, labels, goal)})
            print(rows[-1], flush=True)
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
