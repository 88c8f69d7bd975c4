"""Time and memory to find channel groups and to cut half of them, for networks of 1 to 300 million parameters.

    python benchmarks/pruning/scaling.py --out benchmarks/pruning/scaling.json
    python benchmarks/pruning/scaling.py --out benchmarks/pruning/scaling.json --peer    # pip install torch-pruning

Each size runs in a process of its own, so that the peak memory is its own. Torch-Pruning builds its dependency graph
and removes half of every layer's channels by magnitude in one step, edgepress groups single channels and removes half.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgepress.analysis.channel_plan import ChannelPlan
from edgepress.analysis.channels import channel_groups
from edgepress.ir import capture
from edgepress.passes.cut_channels import cut_channels

# width and depth of a residual multi-layer network: 8 width² parameters per block
SIZES = {"1": (128, 8), "10": (256, 20), "100": (640, 30), "300": (1024, 36)}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(torch.relu(self.wide(self.norm(x))))


def network(width: int, depth: int) -> nn.Sequential:
    blocks = (Residual(width) for _ in range(depth))
    return nn.Sequential(nn.Linear(16, width), *blocks, nn.Linear(width, 4))


def measure(width: int, depth: int) -> dict[str, object]:
    """edgepress."""
    model = network(width, depth)
    program = capture(model, [torch.randn(2, 16)])
    before = _peak()
    start = time.perf_counter()
    groups = channel_groups(program)
    grouped = time.perf_counter()
    result = cut_channels(program, ChannelPlan.from_mask(groups, np.arange(groups.units) % 2 == 0), groups)
    done = time.perf_counter()
    return {"tool": "edgepress", "parameters": program.parameter_count(), "units": groups.units,
            "left": result.program.parameter_count(), "groups_s": grouped - start, "cut_s": done - grouped,
            "extra_peak_mb": _peak() - before}  # fmt: skip


def measure_peer(width: int, depth: int) -> dict[str, object]:
    """Torch-Pruning."""
    import torch_pruning as tp

    model, example = network(width, depth), torch.randn(2, 16)
    parameters, before = sum(p.numel() for p in model.parameters()), _peak()
    start = time.perf_counter()
    importance = tp.importance.GroupMagnitudeImportance()
    pruner = tp.pruner.BasePruner(
        model, example, importance=importance, pruning_ratio=0.5, ignored_layers=[list(model.children())[-1]]
    )
    grouped = time.perf_counter()
    pruner.step()
    done = time.perf_counter()
    return {"tool": "torch-pruning " + version("torch-pruning"), "parameters": parameters,
            "left": sum(p.numel() for p in model.parameters()), "groups_s": grouped - start, "cut_s": done - grouped,
            "extra_peak_mb": _peak() - before}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", choices=SIZES, help="measure one size in this process")
    parser.add_argument("--peer", action="store_true", help="measure Torch-Pruning instead")
    parser.add_argument("--out", type=Path, help="add the results to this JSON file")
    given = parser.parse_args()
    if given.one:
        print(json.dumps((measure_peer if given.peer else measure)(*SIZES[given.one])))
        return
    for size in SIZES:
        command = [sys.executable, __file__, "--one", size, *(["--peer"] if given.peer else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        print(result, flush=True)
        if given.out:
            document = json.loads(given.out.read_text()) if given.out.exists() else {"results": []}
            about = {"torch": torch.__version__, "python": platform.python_version(), "load": os.getloadavg()[0]}
            document = {"environment": about, "results": [*document["results"], result]}
            given.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
