"""One joint recipe against each technique alone, at equal bytes of the exported file.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/joint.py fashion --work build/joint [--seeds 3]

Tasks: fashion (Fashion-MNIST images), har (UCI human activity: nine signals over time). The network is trained first.
  joint      prune half of the parameters, recover with the original as teacher, quantize to int8, quantization-aware
             training with the same teacher
  prune      prune until the float file is as small, fine-tune on the labels
  quantize   int4 weights (packed in the file) and int8 activations, quantization-aware training on the labels
  calibrate  the same without any training
  distill    a float network of the width that gives such a file, from random weights, taught by the original
Every recipe that trains has the same number of epochs in all. The file of a single technique may be up to 2 % larger
than the joint one's; the search says what it found. The table is that of `edgepress compare`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from harness import spread
from safetensors.torch import save_file

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.measure.environment import describe
from edgepress.pipeline.run import execute, set_up
from edgepress.prune import PruneOptions, prune
from edgepress.recipe import Recipe, load
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

HERE = Path(__file__).parent
TASK = get("classification")
ROOM = 1.02
PACKED = 21  # opset that has int4
KD = {"loss": "kd", "temperature": 4.0, "weight": 0.7}


class Quiet:
    """A reporter that says nothing."""

    def step(self, number: int, total: int, name: str) -> None: ...

    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...

    def tell(self, text: str) -> None: ...

    def progress(self, text: str) -> None: ...


def tasks(data: Path) -> dict[str, dict[str, Any]]:
    """Task -> network, data and training of its recipes."""

    def fashion(split: str) -> dict[str, str]:
        folder = data / "fashion_mnist"
        return {"kind": "idx", "images": f"{folder}/{split}-images-idx3-ubyte.gz",
                "labels": f"{folder}/{split}-labels-idx1-ubyte.gz"}  # fmt: skip

    def activity(split: str) -> dict[str, str]:
        return {"kind": "npz", "path": f"{data}/uci_har/har_subset.npz", "inputs": f"x_{split}",
                "targets": f"y_{split}"}  # fmt: skip

    return {
        "fashion": {
            "factory": "fashion_cnn", "width": 16, "input": {"image": {"shape": [1, 28, 28]}},
            "train": {**fashion("train"), "limit": 6000, "seed": 0}, "evaluate": fashion("t10k"),
            "preprocess": {"scale": 1 / 255, "mean": [0.286], "std": [0.353]}, "epochs": 8,
            "teacher": TrainOptions(epochs=12, batch_size=64, optimizer="adamw", lr=3e-3, augment=("shift",)),
        },
        "har": {
            "factory": "signal_cnn", "width": 16, "input": {"signals": {"shape": [9, 128]}},
            "train": activity("train"), "evaluate": activity("test"), "preprocess": {}, "epochs": 12,
            "teacher": TrainOptions(epochs=30, batch_size=32, optimizer="adamw", lr=2e-3, weight_decay=0.02,
                                    augment=("noise", "scale")),
        },
    }  # fmt: skip


def recipe_text(task: dict[str, Any], work: Path, name: str, seed: int, steps: list[dict[str, Any]]) -> str:
    return yaml.safe_dump(
        {
            "schema": 1, "name": name, "seed": seed, "threads": 1,
            "model": {"factory": f"{HERE.resolve()}/networks.py:{task['factory']}", "kwargs": {"width": task["width"]},
                      "weights": f"{work.resolve()}/original.safetensors", "inputs": task["input"]},
            "data": {"train": task["train"], "evaluate": task["evaluate"], "preprocess": task["preprocess"],
                     "calibration": {"samples": 256}},
            "steps": steps,
            "measure": {"latency": None, "memory": False, "energy": False},
        },
        sort_keys=False,
    )  # fmt: skip


def training(epochs: int, lr: float, **more: Any) -> dict[str, Any]:
    return {"train": {"epochs": epochs, "lr": lr, "batch_size": 64, "validation": 0.0, "augment": ["noise"], **more}}


def pruning(share: float) -> dict[str, Any]:
    return {"prune": {"criterion": "activation_taylor", "reduce": {"params": round(share, 4)}, "round_to": 1,
                      "minimum": 2}}  # fmt: skip


def joint_steps(epochs: int) -> list[dict[str, Any]]:
    after, before = epochs // 3, epochs - epochs // 3
    return [pruning(0.5), training(before, 2e-3, distill=KD), {"quantize": {}}, training(after, 5e-4, distill=KD)]


def quantize_steps(epochs: int) -> list[dict[str, Any]]:
    quantize = {"quantize": {"weight_bits": 4}}
    return [quantize, *([training(epochs, 5e-4)] if epochs else []), {"export": {"opset": PACKED}}]


# -- equal bytes -------------------------------------------------------------------------------------------------------


def file_size(program: Program) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(program, path, opset=17)
        return path.stat().st_size


def smallest_cut(recipe: Recipe, limit: int) -> float:
    """The smallest share of parameters whose removal brings the float file below `limit` bytes."""
    bench = set_up(recipe, "cpu", Quiet())
    batches = [(x, y) for x, y in bench.calibration_batches(256) if y is not None]

    def size(share: float) -> int:
        how = PruneOptions(
            criterion="activation_taylor", reduce={"params": share}, round_to=1, minimum=2, reconstruct=False
        )
        return file_size(prune(bench.original, how, batches, bench.loss).program)

    low, high = 0.5, 0.97
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (low, middle) if size(middle) <= limit else (middle, high)
    return high


def widest(make: Callable[[int], Program], limit: int) -> int:
    """The largest width whose float file is below `limit` bytes."""
    width = 2
    while file_size(make(width + 1)) <= limit:
        width += 1
    return width


# -- runs --------------------------------------------------------------------------------------------------------------


def original(task: dict[str, Any], work: Path) -> None:
    """Train the network that is to be compressed, unless it is there."""
    weights = work / "original.safetensors"
    if weights.is_file():
        return
    source = work / "bare.yaml"
    source.write_text(recipe_text(task, work, "bare", 0, []).replace(f"  weights: {weights.resolve()}\n", ""))
    torch.manual_seed(0)
    bench = set_up(load(source), "cpu", Quiet())
    train = bench.samples.training()
    trained = fit(bench.original, train, objective=TASK.objective(), options=task["teacher"], task=TASK)
    assert bench.samples.evaluate is not None
    print(f"original: {evaluate(trained.program, bench.samples.evaluate, TASK):.4f}", flush=True)
    save_file({k: v.detach().clone().contiguous() for k, v in trained.program.state().items()}, weights)


def run(task: dict[str, Any], work: Path, name: str, seed: int, steps: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracy and bytes of one recipe; finished runs are reused."""
    path = work / f"{name}.{seed}.yaml"
    path.write_text(recipe_text(task, work, name, seed, steps))
    evidence = execute(load(path), work / f"{name}.{seed}", dry_run=False, device="cpu", reporter=Quiet()).evidence
    assert evidence is not None
    found = {key: evidence.compressed.measurement(key) for key in ("accuracy", "size_bytes", "macs", "params")}
    return {key: float(m.value) for key, m in found.items() if m is not None and m.value is not None}


def contenders(task: dict[str, Any], work: Path, limit: int) -> dict[str, list[dict[str, Any]]]:
    """Name -> steps of every technique alone, at the joint recipe's bytes."""
    probe = work / "probe.yaml"
    probe.write_text(recipe_text(task, work, "probe", 0, []))
    share = smallest_cut(load(probe), limit)
    module = __import__("networks")
    shape = next(iter(task["input"].values()))["shape"]
    width = widest(lambda w: capture(getattr(module, task["factory"])(w), [torch.randn(2, *shape)]), limit)
    print(f"equal bytes: prune {share:.3f} of the parameters; width {width} of {task['width']}", flush=True)
    student = {"factory": f"{HERE.resolve()}/networks.py:{task['factory']}", "kwargs": {"width": width}}
    epochs = task["epochs"]
    return {
        "prune": [pruning(share), training(epochs, 2e-3)],
        "quantize": quantize_steps(epochs),
        "calibrate": quantize_steps(0),
        "distill": [training(epochs, 5e-3, distill=KD, student=student)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["fashion", "har"])
    parser.add_argument("--work", type=Path, default=Path("build/joint"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task, work = tasks(Path(os.environ["EDGEPRESS_DATA"]).resolve())[asked.task], asked.work / asked.task
    work.mkdir(parents=True, exist_ok=True)
    original(task, work)
    runs = {"joint": {0: run(task, work, "joint", 0, joint_steps(task["epochs"]))}}
    limit = int(runs["joint"][0]["size_bytes"] * ROOM)
    alone = contenders(task, work, limit)
    for seed in range(asked.seeds):
        for name, steps in {"joint": joint_steps(task["epochs"]), **alone}.items():
            runs.setdefault(name, {})[seed] = found = run(task, work, name, seed, steps)
            print(f"seed {seed} {name}: {found}", flush=True)
    record(asked.task, work, runs, asked.out or HERE / f"joint_{asked.task}.json")


def record(task: str, work: Path, runs: dict[str, dict[int, dict[str, float]]], out: Path) -> None:
    """Write the figures, and the table as the tool prints it for the first seed."""
    command = [sys.executable, "-m", "edgepress_cli", "compare", *(str(work / f"{name}.0") for name in runs)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "140"})
    print(printed.stdout)
    facts = {"task": task, "summary": summary(runs), "runs": runs, "table": printed.stdout.splitlines(),
             "environment": describe().model_dump()}  # fmt: skip
    out.write_text(json.dumps(facts, indent=1) + "\n")
    print("\n".join(facts["summary"]))


def summary(runs: dict[str, dict[int, dict[str, float]]]) -> list[str]:
    """Mean accuracy and bytes of each, and how far the joint recipe is ahead, paired by seed; standard errors."""
    lines = [f"{'recipe':<10} {'bytes':>8}  accuracy        joint ahead (points)"]
    for name, by_seed in runs.items():
        accuracy = [100 * found["accuracy"] for found in by_seed.values()]
        ahead = [100 * (runs["joint"][seed]["accuracy"] - found["accuracy"]) for seed, found in by_seed.items()]
        size = statistics.mean(found["size_bytes"] for found in by_seed.values())
        lines.append(f"{name:<10} {size:>8.0f}  {spread(accuracy):<14}  {spread(ahead)}")
    return lines


if __name__ == "__main__":
    main()
