"""A tiny trained-looking network with data of its own, small enough to run a whole recipe in seconds."""

from pathlib import Path

import numpy as np
import pytest

MODEL = '''
import torch
from torch import nn


class Tiny(nn.Module):
    """Two convolutions with batch norm, pooling, a linear head: four classes of 6x6 images."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.an = nn.BatchNorm2d(width)
        self.b = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, 4)

    def forward(self, image):
        x = torch.relu(self.an(self.a(image)))
        x = torch.relu(self.b(x))
        return self.head(x.mean((2, 3)))


def tiny(width=16):
    torch.manual_seed(1)
    return Tiny(width)
'''

RECIPE = """
schema: 1
name: tiny
seed: 3
threads: 1
model:
  factory: net.py:tiny
  inputs: {image: {shape: [1, 6, 6]}}
data:
  train: {kind: npz, path: train.npz}
  evaluate: {kind: npz, path: test.npz}
  calibration: {samples: 64}
steps:
  - prune: {criterion: l2, reduce: {macs: 0.4}, round_to: 4, minimum: 4, reconstruct: false}
  - train: {epochs: 2, lr: 0.01, batch_size: 32, distill: {loss: kd}}
  - quantize: {samples: 64}
  - export: {format: onnx}
measure: {latency: {runs: 20, warmup: 5}, memory: false}
"""


def make_project(folder: Path) -> Path:
    """Write network, data and recipe; the recipe's path."""
    random = np.random.default_rng(0)
    (folder / "net.py").write_text(MODEL)
    for name, n in (("train", 128), ("test", 64)):
        labels = np.arange(n) % 4
        images = random.normal(size=(n, 1, 6, 6)).astype(np.float32)
        images[np.arange(n), 0, labels, labels] += 4
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    return recipe


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The path of a recipe in a folder of its own."""
    return make_project(tmp_path)
