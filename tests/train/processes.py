"""Run by torchrun (and alone) from test_processes.py: trains a small network and saves what came out.

python processes.py OUT BATCH_SIZE [CHECKPOINTS]
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from edgepress.data import Dataset
from edgepress.distill import Objective, Term, automatic_taps
from edgepress.ir import capture
from edgepress.train import TrainOptions, fit
from edgepress.train.tasks import get


def network() -> nn.Module:
    """Group norm instead of batch norm: its statistics do not depend on how a batch is shared out."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3),
    )  # fmt: skip


def main(out: Path, batch_size: int, checkpoints: Path | None) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(90, 1, 8, 8, generator=generator)
    data = Dataset((images,), (images.mean((1, 2, 3)) > 0).long())
    program = capture(network(), [images[:2]])
    task = get("classification")
    terms = [Term("task"), Term("attention", 5.0, taps=automatic_taps(program, program))]
    objective = Objective(terms, task.loss, student=program, teacher=program)
    options = TrainOptions(epochs=3, batch_size=batch_size, lr=0.1, augment=("crop",), ema=0.5, clip=1.0)
    result = fit(program, data, objective=objective, options=options, task=task, validation=data, teacher=program,
                 checkpoints=checkpoints)  # fmt: skip
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    weights = {name: t.detach().clone() for name, t in result.program.state().items()}
    losses = torch.tensor([entry.loss for entry in result.log])
    save_file({**weights, "losses": losses}, out.with_suffix(f".{rank}"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
