"""Time and memory to find channel groups and to cut half of them, for networks of 1 to 300 million parameters.

    python benchmarks/pruning/scaling.py --out scaling.json

Each size runs in a process of its own, so that the peak memory is its own.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
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


def measure(width: int, depth: int) -> dict[str, float]:
    model = nn.Sequential(nn.Linear(16, width), *(Residual(width) for _ in range(depth)), nn.Linear(width, 4))
    program = capture(model, [torch.randn(2, 16)])
    before = _peak()
    start = time.perf_counter()
    groups = channel_groups(program)
    grouped = time.perf_counter()
    result = cut_channels(program, ChannelPlan.from_mask(groups, np.arange(groups.units) % 2 == 0), groups)
    done = time.perf_counter()
    return {"parameters": program.parameter_count(), "left": result.program.parameter_count(), "units": groups.units,
            "groups_s": grouped - start, "cut_s": done - grouped, "extra_peak_mb": _peak() - before}  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", choices=SIZES, help="measure one size in this process")
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*SIZES[given.one])))
        return
    results = []
    for size in SIZES:
        done = subprocess.run([sys.executable, __file__, "--one", size], capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1], flush=True)
    if given.out:
        about = {"torch": torch.__version__, "python": platform.python_version(), "load": os.getloadavg()[0]}
        given.out.write_text(json.dumps({"environment": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
