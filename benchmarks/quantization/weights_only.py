"""Weights of eight to three bits in blocks, activations float: perplexity and output error of a small GPT.

EDGEPRESS_DATA=... python benchmarks/quantization/weights_only.py
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from language import language_model, perplexity, text

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

WAYS: dict[str, dict[str, Any]] = {
    "round to nearest": {"rounding": "nearest"},
    "AWQ": {"rounding": "nearest", "awq": True},
    "GPTQ": {"rounding": "output"},
    "AWQ, then GPTQ": {"rounding": "output", "awq": True},
}


def run(path: Path, tokens: np.ndarray) -> torch.Tensor:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    chunks = [session.run(None, {"tokens": tokens[i : i + 64]})[0] for i in range(0, len(tokens), 64)]
    return torch.from_numpy(np.concatenate(chunks))


def row(program: Program, folder: Path, windows: torch.Tensor, goal: torch.Tensor) -> dict[str, Any]:
    artifact = export_onnx(program, folder / "model.onnx")
    logits = run(artifact.path, windows[:, :-1].numpy())
    scores = logits.log_softmax(-1), goal.log_softmax(-1)
    return {
        "bytes": artifact.path.stat().st_size,
        "perplexity": round(perplexity(logits, windows), 4),
        "divergence": round(float((scores[1].exp() * (scores[1] - scores[0])).sum(-1).mean()), 6),
        "relative_error": round(float((logits - goal).norm() / goal.norm()), 5),
        "runtime_against_program": round(
            float((program(windows[:64, :-1]) - logits[:64]).norm() / goal[:64].norm()), 6
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4, 3])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--windows", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path("weights_only.json"))
    arguments = parser.parse_args()
    program, (training, held_out) = language_model(), text()
    windows = held_out[: arguments.windows]
    calibration = [(training[i * 997 : i * 997 + 64, :-1],) for i in range(4)]
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        goal = run(export_onnx(program, folder / "float.onnx").path, windows[:, :-1].numpy())
        rows.append({"bits": 32, "way": "float", **row(program, folder, windows, goal)})
        for bits in arguments.bits:
            for way in arguments.ways if bits < 8 else ["round to nearest"]:
                settings = {"activation_bits": None, "weight_block": arguments.block, **WAYS[way]}
                options = QuantOptions(weight_bits=bits, **settings)
                start = time.perf_counter()
                result = quantize(program, options, load_capability("onnxruntime-x86"), calibration)
                seconds = round(time.perf_counter() - start, 1)
                found = row(result.program, folder, windows, goal)
                rows.append({"bits": bits, "block": arguments.block, "way": way, "seconds": seconds, **found})
                print(rows[-1], flush=True)
                arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
