"""ResNet-56 on CIFAR-10 before any fine-tuning: accuracy at 2.1x, 2.6x and 4x fewer MACs, edgepress and Torch-Pruning.

    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --images 4000 --out result.json
    EDGEPRESS_DATA=... python benchmarks/pruning/resnet56.py --peer            # needs: pip install torch-pruning

Accuracy is of the first 1,000 lossless test images (standard error about 0.8 points); calibration images are lossless
training images. No gradient step is taken by either tool.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.ir import Program, capture
from edgepress.prune import PruneOptions, prune

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = (2.1, 2.6, 4.0)
# The width of the residual stages stays: cutting inside the blocks keeps every shortcut exact.
STAGES = (r"^conv1\.", r"^layer\d\.0\.conv2\.")


class Block(nn.Module):
    """Two convolutions beside a parameter-free shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.stride, self.beside = stride, (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.beside:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.beside, self.beside))
        return F.relu(y + x)


class ResNet56(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (self._stage(*a) for a in ((16, 16, 1), (16, 32, 2), (32, 64, 2)))
        self.linear = nn.Linear(64, 10)

    def _stage(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(8)))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(y))).mean((2, 3)))


def network(folder: Path) -> nn.Module:
    checkpoint = torch.load(folder / "cifar_resnet/resnet56-4bfd9763.th", map_location="cpu", weights_only=True)  # noqa: TID251
    model = ResNet56()
    model.load_state_dict({k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()})
    return model.eval()


def images(folder: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 32, 32) normalised images and their labels."""
    arrays = np.load(folder / f"cifar10/{split}.npz")
    pixels = torch.from_numpy(arrays["images"][:count]).float() / 255
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    return pixels, torch.from_numpy(arrays["labels"][:count]).long()


def accuracy(model: Callable[[Tensor], Tensor], folder: Path) -> float:
    x, y = images(folder, "test", 1000)
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(250), y.split(250), strict=True))
    return right / len(y)


def edgepress_result(folder: Path, ratio: float, count: int) -> dict[str, object]:
    program = capture(network(folder), [torch.randn(2, 3, 32, 32)])
    x, y = images(folder, "train", count)
    batches = [((a,), b) for a, b in zip(x.split(100), y.split(100), strict=True)]
    start = time.perf_counter()
    result = prune(program, PruneOptions(reduce={"macs": 1 - 1 / ratio}, ignore=STAGES), batches, F.cross_entropy)
    seconds = time.perf_counter() - start
    return {"tool": "edgepress", "ratio": ratio, "accuracy": accuracy(result.program.module(), folder),
            "seconds": seconds, "latency": latency(program, result.program), **result.facts}  # fmt: skip


def latency(before: Program, after: Program) -> dict[str, float]:
    """Median milliseconds in onnxruntime, batch 1, one thread, the two networks in turns."""
    sessions = [_session(p) for p in (before, after)]
    x = {"x": np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    times: list[list[float]] = [[], []]
    for repeat in range(220):
        for number, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, x)
            if repeat >= 20:
                times[number].append(time.perf_counter() - start)
    first, second = (1000 * float(np.median(t)) for t in times)
    return {"before_ms": first, "after_ms": second, "ratio": first / second, "n": 200}


def _session(program: Program):
    import io

    import onnxruntime

    buffer = io.BytesIO()
    torch.onnx.export(program.exported, (), buffer, dynamo=True, verbose=False, input_names=["x"], external_data=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])


def peer_result(folder: Path, ratio: float, criterion: str) -> dict[str, object]:
    """Torch-Pruning 1.6, global, 100 iterative steps, its Taylor or magnitude importance."""
    import torch_pruning

    model, example = network(folder), torch.randn(1, 3, 32, 32)
    x, y = images(folder, "train", 1000)
    importance = {"taylor": torch_pruning.importance.GroupTaylorImportance,
                  "l2": torch_pruning.importance.GroupMagnitudeImportance}[criterion]()  # fmt: skip
    base, _ = torch_pruning.utils.count_ops_and_params(model, example)
    pruner = torch_pruning.pruner.MetaPruner(
        model, example, importance=importance, global_pruning=True, pruning_ratio=0.9, iterative_steps=100,
        ignored_layers=[model.linear],
    )  # fmt: skip
    start = time.perf_counter()
    for _ in range(100):
        if criterion == "taylor":
            model.zero_grad()
            F.cross_entropy(model(x[:250]), y[:250]).backward()
        pruner.step()
        now, params = torch_pruning.utils.count_ops_and_params(model, example)
        if base / now >= ratio:
            break
    return {"tool": f"torch-pruning {torch_pruning.__version__} {criterion}", "ratio": ratio, "macs_after": int(now),
            "params_after": int(params), "accuracy": accuracy(model, folder),
            "seconds": time.perf_counter() - start}  # fmt: skip


def environment() -> dict[str, object]:
    return {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
            "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000, help="calibration images (at most 4,000)")
    parser.add_argument("--ratio", type=float, action="append", help="MACs before over MACs after; repeatable")
    parser.add_argument("--peer", action="store_true", help="run Torch-Pruning as well")
    parser.add_argument("--out", type=Path, help="write JSON here")
    given = parser.parse_args()
    folder = Path(os.environ["EDGEPRESS_DATA"])
    results = []
    for ratio in given.ratio or RATIOS:
        results.append(edgepress_result(folder, ratio, given.images))
        print(json.dumps(results[-1]), flush=True)
        for criterion in ("taylor", "l2") if given.peer else ():
            results.append(peer_result(folder, ratio, criterion))
            print(json.dumps(results[-1]), flush=True)
        _write(given.out, given.images, results)


def _write(out: Path | None, images: int, results: list[dict[str, object]]) -> None:
    if out:
        document = {"images": images, "environment": environment(), "results": results}
        out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
