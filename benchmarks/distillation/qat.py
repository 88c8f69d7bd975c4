"""CIFAR ResNets with weights of 4, 3 and 2 bits and activations of 8: rounded, and trained after rounding.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/qat.py --minutes 20 [--network resnet8]

Rounding by layer output on 256 images comes first (ResNet-8 with its first and last layer at 8 bits); then weights,
scales and zero points learn together for some epochs on the 4,000 lossless training images, flipped and shifted, from
the float network (temperature 4, weight 0.9) and the labels. The accuracy is that of the fixed program after the last
epoch, on the first 1,000 lossless test images (standard error of one figure about 0.9 points). Runs are added to the
JSON file one by one.
"""

import argparse
import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cifar import cifar
from harness import KD, TASK, spread

from edgepress.data import Dataset, open_source
from edgepress.distill import Objective
from edgepress.importers import factory
from edgepress.ir import Program
from edgepress.measure.environment import describe
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.quantize.training import finished, trainable
from edgepress.targets.capability import load_capability
from edgepress.train import TrainOptions, evaluate, fit

HERE = Path(__file__).parent
CAPABILITY = "onnxruntime-x86"
WIDTHS = (4, 3, 2)
RATES = {"adamw": 2e-4, "sgd": 2e-3}


@dataclass(frozen=True)
class Case:
    """A network and how it is quantized.

    Attributes:
        arguments: of the function that makes it. data: its images. edge_bits: of its first and last layer.
        paces: factors on the learning rate: inputs of 0..255 want a first layer that moves little.
    """

    function: str
    arguments: tuple[int, ...]
    data: Callable[[str, range], Dataset]
    edge_bits: int | None = None
    paces: Mapping[str, float] = field(default_factory=dict)

    def program(self) -> Program:
        return factory.find(f"../quantization/networks.py:{self.function}", HERE)(*self.arguments)


def raw_cifar(split: str, rows: range) -> Dataset:
    """As `cifar`, with values 0..255."""
    return open_source("npz", {"path": f"cifar10/{split}.npz"}, Path(os.environ["EDGEPRESS_DATA"])).subset(rows)


CASES = {
    "resnet20": Case("resnet", (20,), cifar),
    "resnet8": Case("resnet8", (), raw_cifar, edge_bits=8, paces={"c0.weight": 0.02}),
}


def rounded(case: Case, teacher: Program, bits: int) -> Program:
    """Without training."""
    batches = [batch.inputs for batch in case.data("train", range(256)).batches(64)]
    options = QuantOptions(observer="mse", rounding="output", weight_bits=bits, edge_bits=case.edge_bits,
                           rounding_samples=256)  # fmt: skip
    return quantize(teacher, options, load_capability(CAPABILITY), batches).program


def trained(case: Case, teacher: Program, start: Program, given: argparse.Namespace, seed: int) -> Program:
    """The quantized network after some epochs."""
    options = TrainOptions(epochs=given.epochs, batch_size=64, optimizer=given.optimizer, lr=rate_of(given), seed=seed,
                           channels_last=True, augment=("flip", "shift"), keep="last")  # fmt: skip
    form = trainable(start, load_capability(CAPABILITY), relative=given.optimizer != "sgd")
    objective = Objective(KD, TASK.loss, student=form.program, teacher=teacher, seed=seed)
    result = fit(form.program, case.data("train", range(4000)), objective=objective, options=options, task=TASK,
                 teacher=teacher, paces={**form.paces, **case.paces}, constraint=form.keep)  # fmt: skip
    return finished(result.program)


def rate_of(given: argparse.Namespace) -> float:
    """The learning rate."""
    return given.lr or RATES[given.optimizer]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=CASES, default="resnet20")
    parser.add_argument("--optimizer", choices=RATES, default="adamw")
    parser.add_argument("--lr", type=float, help="learning rate; by optimizer unless given")
    parser.add_argument("--bits", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "qat.json")
    given = parser.parse_args()
    case = CASES[given.network]
    teacher, test = case.program(), case.data("test", range(1000))
    record = json.loads(given.out.read_text()) if given.out.exists() else {}
    found = record.setdefault(
        f"{given.network}, {given.optimizer} {rate_of(given):g}, {given.epochs} epochs", {"trained": {}}
    )
    found |= {"float": accuracy(teacher, test), "environment": describe().model_dump()}
    starts = {bits: rounded(case, teacher, bits) for bits in given.bits}
    found["rounded"] = {str(bits): accuracy(start, test) for bits, start in starts.items()}
    deadline = time.perf_counter() + 60 * given.minutes
    for seed, bits in itertools.product(range(given.seeds), given.bits):
        runs = found["trained"].setdefault(str(bits), {})
        if str(seed) not in runs and time.perf_counter() < deadline:
            after = trained(case, teacher, starts[bits], given, seed)
            runs[str(seed)] = accuracy(after, test)
            print(bits, seed, runs[str(seed)], flush=True)
            given.out.write_text(json.dumps(record, indent=1) + "\n")
    for bits, start in found["rounded"].items():
        print(f"{bits} bits: rounded {start:.1f}, trained {spread([*found['trained'][bits].values()])}")


def accuracy(program: Program, test: Dataset) -> float:
    """Per cent right."""
    return round(100 * evaluate(program, test, TASK), 2)


if __name__ == "__main__":
    main()
