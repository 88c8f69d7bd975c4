"""What zeros cost and are worth: ResNet-20 on CIFAR-10 at 50, 70 and 90 % and 2:4, at once and gradually.

    EDGEPRESS_DATA=... python benchmarks/pruning/sparsity.py --out benchmarks/pruning/sparsity.json
    EDGEPRESS_DATA=... python benchmarks/pruning/sparsity.py --trained ...   # gradual masks, and sparsity learning

Accuracy is of the first 1,000 lossless test images (standard error about 0.9 points); data for methods that read some,
and for training, are lossless training images.
"""

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path

import cifar
import torch.nn.functional as F
from torch import Tensor

from edgepress.analysis.channels import channel_groups
from edgepress.data import Dataset, open_source
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program
from edgepress.passes.mask_weights import kept_zero, mask_weights
from edgepress.prune import PruneOptions, SparsityOptions, group_lasso, prune, sparsify
from edgepress.prune.gradual import GradualMasks
from edgepress.prune.plan import ignored
from edgepress.prune.sparsity import sparsity_facts
from edgepress.train import TASKS, TrainOptions, fit

GOALS: tuple[dict[str, object], ...] = ({"sparsity": 0.5}, {"sparsity": 0.7}, {"sparsity": 0.9}, {"pattern": (2, 4)})
TASK = TASKS["classification"]
SETTINGS = {"batch_size": 64, "optimizer": "sgd", "lr": 0.005, "weight_decay": 5e-4, "schedule": "cosine",
            "augment": ("flip", "crop"), "amp": "bf16", "channels_last": True, "keep": "last"}  # fmt: skip


def training_images() -> Dataset:
    options = {"path": "cifar10/train.npz", "scale": 1 / 255, "mean": list(cifar.MEAN), "std": list(cifar.STD)}
    return open_source("npz", options, cifar.data_folder())


def row(program: Program, **about: object) -> dict[str, object]:
    """Accuracy and honest sizes of a sparse program."""
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(program, path := Path(folder) / "model.onnx")
        content = path.read_bytes()
    return {**about, "accuracy": cifar.accuracy(program.module()), "onnx_bytes": len(content),
            "onnx_gzip_bytes": len(gzip.compress(content, mtime=0)), **sparsity_facts(program)}  # fmt: skip


def at_once():
    """Every method at every goal, nothing trained."""
    program = cifar.program(20)
    data = [inputs for inputs, _ in cifar.batches(512, 64)]
    yield row(program, method="dense")
    for method in ("magnitude", "wanda", "sparsegpt"):
        for goal in GOALS:
            scopes = ("layer",) if "pattern" in goal else ("layer", "network")
            for scope in scopes:
                start = time.perf_counter()
                sparse = sparsify(program, SparsityOptions(method, scope=scope, **goal), data).program  # type: ignore[arg-type]
                seconds = time.perf_counter() - start
                yield row(sparse, method=method, scope=scope, **goal, seconds=seconds)


def objective(outputs: Tensor, targets: Tensor, teacher: object) -> Tensor:
    return TASK.loss(outputs, targets, 0.0)


def trained(epochs: int):
    """The same epochs: gradual masks; masks at once, then training that keeps them."""
    program, data = cifar.program(20), training_images()
    options = TrainOptions(epochs=epochs, **SETTINGS)
    for goal in ({"sparsity": 0.9}, {"pattern": (2, 4)}):
        wish = SparsityOptions(**goal)  # type: ignore[arg-type]
        gradual = GradualMasks(objective, program, wish)
        slow = fit(program, data, objective=gradual, options=options, task=TASK, constraint=gradual.constrain).program
        slow = mask_weights(slow, gradual.masks(slow)).program
        yield row(slow, method="gradual magnitude", epochs=epochs, **goal)
        fast = sparsify(program, SparsityOptions("sparsegpt", **goal), [i for i, _ in cifar.batches(512, 64)]).program  # type: ignore[arg-type]
        fast = fit(fast, data, objective=objective, options=options, task=TASK, constraint=kept_zero(fast)).program
        yield row(fast, method="sparsegpt, then training", epochs=epochs, **goal)


def learned(epochs: int):
    """Half of the MACs by magnitude, with and without as many epochs of sparsity learning before."""
    program, data = cifar.program(20), training_images()
    groups = channel_groups(program)
    free = [group for group in groups.groups if not ignored(group, cifar.RESIDUAL)]
    options = TrainOptions(epochs=epochs, **SETTINGS)
    starts = {"as it was": program}
    for strength in (0.0, 1e-4, 1e-3):
        starts[f"trained with lasso {strength:g}"] = fit(
            program, data, objective=objective, options=options, task=TASK,
            penalty=lambda weights, s=strength: s * group_lasso(groups, weights, free),
        ).program  # fmt: skip
    for name, start in starts.items():
        for refit in (False, True):
            wish = PruneOptions({"macs": 0.5}, criterion="l2", ignore=cifar.RESIDUAL, reconstruct=refit)
            cut = prune(start, wish, cifar.batches(1000), F.cross_entropy)
            yield {"method": "group lasso", "start": name, "epochs": epochs, "refit": refit,
                   "accuracy_before_cut": cifar.accuracy(start.module()),
                   "accuracy": cifar.accuracy(cut.program.module()), **cut.facts}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trained", action="store_true", help="what takes training instead")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="add the results to this JSON file")
    given = parser.parse_args()
    parts = (learned(given.epochs), trained(given.epochs)) if given.trained else (at_once(),)
    for result in (r for part in parts for r in part):
        print(json.dumps(result), flush=True)
        if given.out:
            document = json.loads(given.out.read_text()) if given.out.exists() else {"results": []}
            document["environment"] = cifar.environment()
            document["results"].append(result)
            given.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
