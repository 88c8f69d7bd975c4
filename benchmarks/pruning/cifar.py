"""ResNet-56 on CIFAR-10, as the pruning benchmarks share it: the network, the images, accuracy, and time."""

import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.measure.latency import compare_latency
from edgepress.targets import load as load_target
from edgepress.targets.runtimes import made_up_inputs, open_session

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RATIOS = (2.1, 2.6, 4.0)
# The width of the residual stages stays: cutting inside the blocks keeps every shortcut exact.
RESIDUAL = (r"^conv1\.", r"\.bn2\.")


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


class CifarResNet(nn.Module):
    """(N, 3, 32, 32) -> (N, 10); 3 stages of `blocks` blocks: ResNet-20 has 3, ResNet-56 has 9."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        stages = ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        self.layer1, self.layer2, self.layer3 = (self._stage(blocks, *a) for a in stages)
        self.linear = nn.Linear(64, 10)

    def _stage(self, blocks: int, inputs: int, outputs: int, stride: int) -> nn.Module:
        first = Block(inputs, outputs, stride)
        return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(y))).mean((2, 3)))


CHECKPOINTS = {20: "resnet20-12fca82f.th", 56: "resnet56-4bfd9763.th"}


def data_folder() -> Path:
    """The folder that EDGEPRESS_DATA names."""
    return Path(os.environ["EDGEPRESS_DATA"])


def network(depth: int = 56) -> nn.Module:
    """A pretrained network, ready to evaluate."""
    path = data_folder() / "cifar_resnet" / CHECKPOINTS[depth]
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    model = CifarResNet((depth - 2) // 6)
    model.load_state_dict({k.removeprefix("module."): v for k, v in checkpoint["state_dict"].items()})
    return model.eval()


def program(depth: int = 56) -> Program:
    """The same as a program with a free batch size."""
    return capture(network(depth), [torch.randn(2, 3, 32, 32)])


def images(split: str, count: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 32, 32) normalised lossless images and labels; "train" has 4,000, "test" 1,000 in official order."""
    arrays = np.load(data_folder() / f"cifar10/{split}.npz")
    return normalised(arrays["images"][:count]), torch.from_numpy(arrays["labels"][:count]).long()


def normalised(pixels: np.ndarray) -> Tensor:
    """uint8 (count, 3, 32, 32) as the networks read them."""
    scaled = torch.from_numpy(pixels).float() / 255
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def batches(count: int, size: int = 100) -> list[tuple[tuple[Tensor], Tensor]]:
    """Labelled calibration batches."""
    x, y = images("train", count)
    return [((a,), b) for a, b in zip(x.split(size), y.split(size), strict=True)]


def accuracy(model: Callable[[Tensor], Tensor]) -> float:
    """Of the first 1,000 lossless test images (standard error about 0.8 points)."""
    x, y = images("test", 1000)
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(250), y.split(250), strict=True))
    return right / len(y)


def latency(programs: Mapping[str, Program], runs: int = 200) -> dict[str, dict[str, float]]:
    """Per program: median ms in onnxruntime, one thread, batch 1, all in turns; and the time of the first over it."""
    target = load_target("local-cpu")
    with tempfile.TemporaryDirectory() as folder:
        for name, item in programs.items():
            export_onnx(item, Path(folder) / f"{name}.onnx")
        sessions = {name: open_session(Path(folder) / f"{name}.onnx", target) for name in programs}
        inputs = made_up_inputs(next(iter(sessions.values())).input_specs, batch=1)
        found = compare_latency(sessions, inputs, runs=runs)
    samples = {name: np.array(measurements[0].samples) for name, measurements in found.items()}
    first = next(iter(samples.values()))
    return {
        n: {"ms": float(np.median(s)), "ratio": float(np.median(first / s)), "n": len(s)} for n, s in samples.items()
    }


def environment() -> dict[str, object]:
    """What the figures were taken with."""
    return {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine(),
            "cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}  # fmt: skip
