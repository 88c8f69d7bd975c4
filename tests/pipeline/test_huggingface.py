"""Folders of transformers as whole runs: a small encoder and a small decoder, pruned, trained, quantized, exported."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from edgepress.pipeline.run import execute
from edgepress.recipe import load

transformers = pytest.importorskip("transformers")

RECIPE = """
schema: 1
name: small
seed: 0
threads: 1
model:
  huggingface: network
  inputs: {{input_ids: {{shape: [8], dtype: int64}}}}
data:
  train: {{kind: npz, path: train.npz, inputs: tokens, targets: targets}}
  evaluate: {{kind: npz, path: test.npz, inputs: tokens, targets: targets}}
  calibration: {{samples: 32}}
task: {task}
steps:
  - prune: {{criterion: l2, reduce: {{macs: 0.2}}, reconstruct: false}}
  - train: {{epochs: 1, lr: 0.001, batch_size: 16, distill: {{loss: kd}}}}
  - quantize: {{samples: 32}}
  - export: {{format: onnx}}
measure: {{latency: {{runs: 5, warmup: 1}}, memory: false}}
"""


class Silent:
    def step(self, number: int, total: int, name: str) -> None: ...
    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...
    def tell(self, text: str) -> None: ...
    def progress(self, text: str) -> None: ...


def encoder() -> Any:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def decoder() -> Any:
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "task"), [(encoder, "classification"), (decoder, "language")])
def test_from_folder_to_artifact(make: Any, task: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make().eval().save_pretrained(tmp_path / "network")
    draw = np.random.default_rng(0)
    for name, count in (("train", 64), ("test", 32)):
        tokens = draw.integers(0, 50, (count, 9))
        targets = tokens[:, 1:] if task == "language" else tokens[:, 0] % 3
        np.savez(tmp_path / f"{name}.npz", tokens=tokens[:, :8], targets=targets)
    (tmp_path / "small.yaml").write_text(RECIPE.format(task=task))
    outcome = execute(load(tmp_path / "small.yaml"), tmp_path / "run", dry_run=False, device="cpu", reporter=Silent())
    assert outcome.evidence is not None
    before, after = (
        {m.name: m.value for m in subject.measurements}
        for subject in (outcome.evidence.baseline, outcome.evidence.compressed)
    )
    assert after["macs"] <= 0.8 * before["macs"] and after["size_bytes"] < before["size_bytes"]
    artifacts = sorted((tmp_path / "run").rglob("model.onnx"), key=lambda path: path.stat().st_size)
    session = onnxruntime.InferenceSession(str(artifacts[0]))
    answer = session.run(None, {"input_ids": np.zeros((3, 8), np.int64)})[0]
    assert answer.shape == ((3, 8, 50) if task == "language" else (3, 3)) and np.isfinite(answer).all()
