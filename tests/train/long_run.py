"""Run by test_robustness.py, to be killed or starved of disk: prints each epoch, then the digest of what came out.

python long_run.py CHECKPOINTS [LARGEST FILE IN BYTES]
"""

import resource
import sys
from pathlib import Path

import torch
from torch import nn

from edgepress.data import Dataset
from edgepress.errors import EdgepressError
from edgepress.ir import capture
from edgepress.train import Progress, TrainOptions, fit
from edgepress.train.tasks import get


def report(progress: Progress) -> None:
    print(f"step {progress.step}", flush=True)


def main(checkpoints: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2), nn.Flatten()]
    program = capture(nn.Sequential(*layers, nn.Linear(1024, 3)), [torch.randn(2, 1, 8, 8)])
    images = torch.randn(512, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    data = Dataset((images,), (images.mean((1, 2, 3)) > 0).long())
    task = get("classification")
    options = TrainOptions(epochs=12, batch_size=8, ema=0.9, augment=("crop", "noise"), checkpoint_steps=16)
    result = fit(program, data, objective=task.objective(), options=options, task=task, validation=data,
                 checkpoints=checkpoints, on_progress=report)  # fmt: skip
    print(f"resumed at {result.resumed_at}")
    print(f"digest {result.program.digest()}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        # The kernel's own refusal to write: what a full disk does, but to this process alone.
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    try:
        main(Path(sys.argv[1]))
    except EdgepressError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
