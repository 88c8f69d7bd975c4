"""A recipe that ends on a microcontroller, with a network and with data that have surprised it before."""

from pathlib import Path

import numpy as np
import pytest
from tests.pipeline.test_run import run

MODEL = '''
import torch
from torch import nn


class Reader(nn.Module):
    """An LSTM over twelve steps whose last state decides; the head leans towards the first class by far."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, steps):
        return self.head(self.cells(steps)[0][:, -1])


def reader():
    torch.manual_seed(0)
    network = Reader()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([9.0, -9.0]))
    return network
'''

RECIPE = """
schema: 1
name: reader
threads: 1
model:
  factory: net.py:reader
  inputs: {steps: {shape: [12, 3]}}
data:
  train: {kind: npz, path: train.npz, inputs: steps}
  evaluate: {kind: npz, path: test.npz, inputs: steps}
  calibration: {samples: 32}
steps:
  - prune: {criterion: l2, reduce: {macs: 0.3}}
  - quantize: {samples: 32}
  - export: {format: c}
targets: [cortex-m4]
"""


@pytest.fixture
def sorted_by_class(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "net.py").write_text(MODEL)
    for name, each in (("train", 32), ("test", 300)):
        sequences = random.normal(size=(2 * each, 12, 3)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", steps=sequences, labels=np.repeat([0, 1], each))
    recipe = tmp_path / "reader.yaml"
    recipe.write_text(RECIPE)
    return recipe


@pytest.mark.emulator
def test_a_recurrent_network_is_judged_on_all_classes(sorted_by_class: Path, tmp_path: Path) -> None:
    evidence = run(sorted_by_class, tmp_path / "run")[0].evidence
    assert evidence is not None
    for subject in (evidence.baseline, evidence.compressed):
        found = {m.name: m for m in subject.measurements if m.target == "cortex-m4"}
        assert found["mismatched_bytes"].value == 0
        assert found["accuracy"].n == 256
        assert found["accuracy"].value == pytest.approx(0.5, abs=0.12), "the first 256 samples are all of one class"
    assert evidence.baseline.measurements != evidence.compressed.measurements
