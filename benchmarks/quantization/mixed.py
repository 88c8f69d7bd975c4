"""Widths weighed against each other beside one width for all, at the same number of weight bits; no training.

EDGEPRESS_DATA=... python benchmarks/quantization/mixed.py --networks resnet20 resnet56 resnet8 vit
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from networks import DATA, accuracy, batches, cifar, raw_cifar, resnet, resnet8

from edgepress.importers import factory
from edgepress.importers.weights import load_into, read_weights
from edgepress.ir import Program, capture
from edgepress.quantize.options import Mixed, QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

FAMILIES = Path(__file__).resolve().parents[2] / "recipes" / "families"
VIT_MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
VIT_STD = torch.tensor([0.2023, 0.1994, 0.2010]).view(1, 3, 1, 1)


def vit() -> Program:
    """The public vision transformer for CIFAR-10, 70.5 % on the lossless thousand."""
    model = factory.call("networks/transformers.py:vision_transformer", {}, FAMILIES)
    path = DATA / "torch_ckpt" / "vit_cifar10.pth"
    load_into(model, read_weights(path), path)
    return capture(model, [torch.randn(2, 3, 32, 32)], input_names=["image"], output_names=["logits"])


def vit_cifar(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as the transformer wants them."""
    images, labels = raw_cifar(split, count)
    return (images / 255 - VIT_MEAN) / VIT_STD, labels


NETWORKS: dict[str, tuple[Callable[[], Program], Callable[[str, int], tuple[torch.Tensor, torch.Tensor]]]] = {
    "resnet20": (lambda: resnet(20), cifar),
    "resnet56": (lambda: resnet(56), cifar),
    "resnet8": (resnet8, raw_cifar),
    "vit": (vit, vit_cifar),
}


def settings(bits: list[float], activation_bits: int | None) -> Iterator[QuantOptions]:
    for average in bits:
        common: dict[str, Any] = {"observer": "mse", "activation_bits": activation_bits, "rounding": "output"}
        if average == int(average):
            yield QuantOptions(weight_bits=int(average), **common)
        for cost in ("bytes", "bit_ops") if average == 3 else ("bytes",):
            yield QuantOptions(mixed=Mixed(average_bits=average, cost=cost), **common)


def row(program: Program, options: QuantOptions, data: Callable[..., Any]) -> dict[str, Any]:
    images, labels = data("test", 1000)
    start = time.perf_counter()
    result = quantize(program, options, load_capability("onnxruntime-x86"), batches(data("train", 256)[0]))
    seconds = time.perf_counter() - start
    sizes = {w.tensor: result.reference.state()[w.tensor].numel() for w in result.plan.weights}
    widths = {w.tensor: (w.grid.high + 1).bit_length() for w in result.plan.weights}
    total = sum(sizes.values())
    return {
        "weights": "mixed" if options.mixed else f"{options.weight_bits} bits",
        "cost": options.mixed.cost if options.mixed else None,
        "activation_bits": options.activation_bits,
        "average_bits": round(sum(sizes[t] * widths[t] for t in sizes) / total, 3),
        "bytes_of_weights": sum(sizes[t] * widths[t] for t in sizes) // 8,
        "accuracy": accuracy(result.program, images, labels),
        "divergence": round(divergence(program, result.program, images), 5),
        "seconds": round(seconds, 1),
        "widths": widths if options.mixed else None,
        "reasons": {w.tensor: w.why for w in result.plan.weights} if options.mixed else None,
    }


def divergence(program: Program, quantized: Program, images: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence of the class scores, in nats: finer than accuracy."""
    total = 0.0
    for (batch,) in batches(images, 100):
        goal, scores = program(batch).log_softmax(1), quantized(batch).log_softmax(1)
        total += float((goal.exp() * (goal - scores)).sum())
    return total / len(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 2.5])
    parser.add_argument("--out", type=Path, default=Path("mixed.json"))
    arguments = parser.parse_args()
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    rows = [row for row in known if row["network"] not in arguments.networks]
    for name in arguments.networks:
        make, data = NETWORKS[name]
        program = make()
        rows.append({"network": name, "weights": "float", "accuracy": accuracy(program, *data("test", 1000))})
        for options in settings(arguments.bits, None if name == "vit" else 8):
            rows.append({"network": name, **row(program, options, data)})
            print({k: v for k, v in rows[-1].items() if k not in ("widths", "reasons")}, flush=True)
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
