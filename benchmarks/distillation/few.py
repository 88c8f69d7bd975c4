"""Pruned and quantized with k images of each class, no labels used: what comes back, for k of 1, 10 and 100.

    EDGEPRESS_DATA=... OMP_NUM_THREADS=1 python benchmarks/distillation/few.py fashion --work build/joint [--seeds 3]

The network is that of `joint.py`. One recipe: cut half of the multiply-accumulates, re-fit on the k images of a class,
learn from the original's outputs and features alone on the same images (about 200 steps), quantize to int8 calibrated
on them. The same images serve every step; the seed draws them. Accuracy after each step, on the whole test set.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from harness import spread
from joint import Quiet, original, recipe_text, tasks

from edgepress.measure.environment import describe
from edgepress.pipeline.run import execute
from edgepress.recipe import load

HERE = Path(__file__).parent
STEPS, BATCH = 200, 64
STAGES = ("prune", "train", "quantize")


def steps(images: int) -> list[dict[str, Any]]:
    epochs = max(round(STEPS / -(-images // BATCH)), 1)
    return [
        {"prune": {"criterion": "activation_taylor", "reduce": {"macs": 0.5}, "round_to": 1, "minimum": 2}},
        {"train": {"epochs": epochs, "lr": 1e-3, "batch_size": BATCH, "validation": 0.0, "augment": ["noise"],
                   "distill": {"weight": 1.0}}},
        {"quantize": {}},
    ]  # fmt: skip


def run(task: dict[str, Any], classes: int, work: Path, k: int, seed: int) -> dict[str, float]:
    """Accuracy of the original and after each step."""
    name = f"few-{k}"
    train = {**{key: v for key, v in task["train"].items() if key != "limit"}, "per_class": k, "seed": seed}
    path = work / f"{name}.{seed}.yaml"
    path.write_text(recipe_text({**task, "train": train}, work, name, seed, steps(k * classes)))
    evidence = execute(load(path), work / f"{name}.{seed}", dry_run=False, device="cpu", reporter=Quiet()).evidence
    assert evidence is not None
    found = {step.kind: step.after["accuracy"] for step in evidence.steps if step.kind in STAGES}
    return {"original": evidence.steps[0].before["accuracy"], **found}


def table(runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """Mean and standard error over the seeds, in percent."""
    stages = ("original", *STAGES)
    lines = [f"{'images per class':<16} " + "  ".join(f"{stage:<13}" for stage in stages)]
    for k, found in runs.items():
        cells = [spread([100 * one[stage] for one in found]) for stage in stages]
        lines.append(f"{k:<16} " + "  ".join(f"{cell:<13}" for cell in cells))
    return lines


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
    classes = {"fashion": 10, "har": 6}[asked.task]
    runs: dict[str, list[dict[str, float]]] = {"1": [], "10": [], "100": []}
    for seed in range(asked.seeds):
        for k, found in runs.items():
            found.append(run(task, classes, work, int(k), seed))
            print(f"seed {seed}, {k} per class: {found[-1]}", flush=True)
        facts = {"task": asked.task, "table": table(runs), "runs": runs, "environment": describe().model_dump()}
        (asked.out or HERE / f"few_{asked.task}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main()
