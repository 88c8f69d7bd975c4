"""ResNet-20 on CIFAR-10 with weights of 4, 3 and 2 bits and activations of 8: rounded, and trained after rounding.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/qat.py --minutes 20

Rounding by layer output on 256 images comes first; then weights and scales learn together for some epochs on the 4,000
lossless training images, flipped and shifted, from the float network (temperature 4, weight 0.9) and the labels. The
accuracy is that of the fixed program after the last epoch, on the first 1,000 lossless test images (standard error of
one figure about 0.9 points). Runs are added to the JSON file one by one.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

from cifar import cifar
from harness import KD, TASK, spread

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


def rounded(teacher: Program, bits: int) -> Program:
    """Without training."""
    batches = [batch.inputs for batch in cifar("train", range(256)).batches(64)]
    options = QuantOptions(observer="mse", rounding="output", weight_bits=bits, rounding_samples=256)
    return quantize(teacher, options, load_capability(CAPABILITY), batches).program


def trained(teacher: Program, start: Program, epochs: int, seed: int) -> Program:
    """The quantized network after some epochs."""
    options = TrainOptions(epochs=epochs, batch_size=64, optimizer="adamw", lr=2e-4, seed=seed, channels_last=True,
                           augment=("flip", "shift"), keep="last")  # fmt: skip
    form = trainable(start, load_capability(CAPABILITY), relative=options.optimizer != "sgd")
    objective = Objective(KD, TASK.loss, student=form.program, teacher=teacher, seed=seed)
    result = fit(form.program, cifar("train", range(4000)), objective=objective, options=options, task=TASK,
                 teacher=teacher, paces=form.paces)  # fmt: skip
    return finished(result.program)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--out", type=Path, default=HERE / "qat.json")
    given = parser.parse_args()
    teacher, test = factory.find("../quantization/networks.py:resnet", HERE)(20), cifar("test", range(1000))
    found = json.loads(given.out.read_text()) if given.out.exists() else {"rounded": {}, "trained": {}}
    found |= {"float": evaluate(teacher, test, TASK), "epochs": given.epochs, "environment": describe().model_dump()}
    starts = {bits: rounded(teacher, bits) for bits in WIDTHS}
    found["rounded"] = {str(bits): evaluate(start, test, TASK) for bits, start in starts.items()}
    deadline = time.perf_counter() + 60 * given.minutes
    for seed, bits in itertools.product(range(given.seeds), WIDTHS):
        runs = found["trained"].setdefault(str(bits), {})
        if str(seed) not in runs and time.perf_counter() < deadline:
            runs[str(seed)] = evaluate(trained(teacher, starts[bits], given.epochs, seed), test, TASK)
            print(bits, seed, runs[str(seed)], flush=True)
            given.out.write_text(json.dumps(found, indent=1) + "\n")
    for bits, runs in found["trained"].items():
        after = spread([100 * accuracy for accuracy in runs.values()])
        print(f"{bits} bits: rounded {100 * found['rounded'][bits]:.1f}, trained {after}")


if __name__ == "__main__":
    main()
