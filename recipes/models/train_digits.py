"""Train the network of the quickstart: writes digits.safetensors beside this file.

    python recipes/models/train_digits.py

Data: scikit-learn's digits; every third image is the test set, the other 1,198 train (see `edgepress.data.bundled`).
Seeded: the same torch and the same number of threads give the same bytes.
"""

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file

from edgepress.data import open_source
from edgepress.ir import capture
from edgepress.train import TrainOptions, evaluate, fit
from edgepress.train.tasks import get

HERE = Path(__file__).parent
OPTIONS = TrainOptions(
    epochs=60, batch_size=64, optimizer="adamw", lr=3e-3, weight_decay=0.02, augment=("crop",), ema=0.99, keep="last"
)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = importlib.util.spec_from_file_location("digits", HERE / "digits.py")
    assert spec is not None and spec.loader is not None
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    train = open_source("digits", {"split": "train"}, HERE)
    test = open_source("digits", {"split": "test"}, HERE)
    task = get("classification")
    program = capture(network.residual_cnn(), [train.inputs[0][:2]], input_names=["image"])
    result = fit(program, train, objective=task.objective(0.05), options=OPTIONS, task=task)
    print(f"{program.parameter_count()} parameters, loss {result.log[-1].loss:.4f}")
    print(f"train accuracy {evaluate(result.program, train, task):.4f}")
    print(f"test accuracy {evaluate(result.program, test, task):.4f} on {len(test)} images")
    weights = {name: t.detach().clone() for name, t in result.program.state().items()}
    save_file(weights, HERE / "digits.safetensors")


if __name__ == "__main__":
    main()
