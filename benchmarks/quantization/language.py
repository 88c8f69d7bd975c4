"""A small GPT over the characters of Tiny Shakespeare: trained once (a few minutes), kept in build/.

EDGEPRESS_DATA=... python benchmarks/quantization/language.py     trains, prints the perplexity of held-out text
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from edgepress.importers import factory
from edgepress.ir import Program, capture

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ROOT / "recipes" / "families"
WEIGHTS = ROOT / "build" / "quantization" / "language.safetensors"
LENGTH, STEPS, BATCH, RATE = 64, 700, 64, 2e-3
SHAPE = {"words": 67, "length": LENGTH, "width": 128, "heads": 4, "layers": 3}


def text() -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of tokens (N, 65) for training, and the last tenth of the text, which nothing is fitted to."""
    dataset = factory.call("data.py:shakespeare", {"length": LENGTH}, FAMILIES)
    assert dataset.targets is not None
    windows = torch.cat([dataset.inputs[0], dataset.targets[:, -1:]], 1)
    cut = len(windows) * 9 // 10
    return windows[:cut], windows[cut:]


def language_model() -> Program:
    """The trained network, (N, 64) tokens -> (N, 64, 67) logits."""
    torch.manual_seed(0)
    model = factory.call("networks/transformers.py:decoder", SHAPE, FAMILIES)
    if not WEIGHTS.exists():
        _train(model)
    model.load_state_dict(load_file(WEIGHTS))
    return capture(model.eval(), [torch.zeros(2, LENGTH, dtype=torch.int64)], input_names=["tokens"])


def perplexity(logits: torch.Tensor, windows: torch.Tensor) -> float:
    """exp of the mean cross-entropy of the next token."""
    return math.exp(F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()))


def _train(model: torch.nn.Module) -> None:
    windows, _ = text()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    order = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        batch = windows[torch.randint(0, len(windows), (BATCH,), generator=order)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}", flush=True)
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}, WEIGHTS)


if __name__ == "__main__":
    network = language_model()
    _, test = text()
    print(f"perplexity of held-out text: {perplexity(network(test[:, :-1]), test):.3f}")
