"""The trained networks and data the quantization benchmarks use. Needs EDGEPRESS_DATA."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from edgepress.importers.weights import load_into, read_weights
from edgepress.ir import Program, capture

DATA = Path(os.environ.get("EDGEPRESS_DATA", "."))
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class Block(nn.Module):
    """Two 3x3 convolutions beside an option-A shortcut (He et al. 2015, 4.2): strided slice and zero padding."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.grows = stride != 1
        self.padding = (outside - inside) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        padding = (0, 0, 0, 0, self.padding, self.padding)
        return F.relu(y + (F.pad(x[:, :, ::2, ::2], padding) if self.grows else x))


class ResNetCifar(nn.Module):
    """CIFAR ResNet with `depth` = 6n + 2 layers; names as in the published checkpoints."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        count = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, count)
        self.layer2 = self._stage(16, 32, 2, count)
        self.layer3 = self._stage(32, 64, 2, count)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(inside: int, outside: int, stride: int, count: int) -> nn.Sequential:
        blocks = [Block(inside if i == 0 else outside, outside, stride if i == 0 else 1) for i in range(count)]
        return nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def resnet(depth: int) -> Program:
    """A trained CIFAR ResNet (20, 32, 44 or 56 layers, as far as the data folder has it)."""
    model = ResNetCifar(depth)
    path = next((DATA / "cifar_resnet").glob(f"resnet{depth}*"))
    load_into(model, read_weights(path), path)
    return capture(model, [torch.randn(2, 3, 32, 32)], input_names=["image"], output_names=["logits"])


class ResNet8(nn.Module):
    """The MLPerf Tiny image classifier, with the names of its state dict: three residual blocks, raw 0..255 inputs."""

    def __init__(self) -> None:
        super().__init__()
        shapes = {
            0: (3, 16, 1),
            1: (16, 16, 1),
            2: (16, 16, 1),
            3: (16, 32, 2),
            4: (32, 32, 1),
            6: (32, 64, 2),
            7: (64, 64, 1),
        }
        for index, (inside, outside, stride) in shapes.items():
            setattr(self, f"c{index}", self._same(inside, outside, 3, stride))
        for index, width in enumerate((16, 16, 16, 32, 32, 64, 64)):
            setattr(self, f"b{index}", nn.BatchNorm2d(width, eps=1e-3))
        self.s5, self.s8 = self._same(16, 32, 1, 2), self._same(32, 64, 1, 2)
        self.fc = nn.Linear(64, 10)

    @staticmethod
    def _same(inside: int, outside: int, kernel: int, stride: int) -> nn.Module:
        """TensorFlow's "same": strided layers pad at the end only."""
        if stride == 1:
            return nn.Conv2d(inside, outside, kernel, padding=kernel // 2)
        padding = nn.ZeroPad2d((0, kernel // 2, 0, kernel // 2))
        return nn.Sequential(padding, nn.Conv2d(inside, outside, kernel, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.b0(self.c0(x)))
        x = F.relu(x + self.b2(self.c2(F.relu(self.b1(self.c1(x))))))
        x = F.relu(self.s5(x) + self.b4(self.c4(F.relu(self.b3(self.c3(x))))))
        x = F.relu(self.s8(x) + self.b6(self.c7(F.relu(self.b5(self.c6(x))))))
        return self.fc(x.mean((2, 3)))


def resnet8() -> Program:
    """The trained MLPerf Tiny image classifier."""
    model = ResNet8()
    path = DATA / "mlperf_tiny" / "models" / "resnet8_torch.pt"
    load_into(model, read_weights(path), path)
    return capture(model, [torch.rand(2, 3, 32, 32) * 255], input_names=["image"], output_names=["logits"])


def raw_cifar(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `cifar`, with values 0..255."""
    images, labels = cifar(split, count)
    return (images * STD + MEAN) * 255, labels


def cifar(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised lossless images and labels: "test" (first 1,000 = official order) or "train" (first 4,000)."""
    archive = np.load(DATA / "cifar10" / f"{split}.npz")
    images = torch.from_numpy(archive["images"][:count]).float() / 255
    return (images - MEAN) / STD, torch.from_numpy(archive["labels"][:count].astype(np.int64))


def batches(images: torch.Tensor, size: int = 64) -> Iterator[tuple[torch.Tensor]]:
    """Input tuples of `size` images."""
    for start in range(0, len(images), size):
        yield (images[start : start + size],)


def accuracy(program: Program, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Per cent right."""
    right = sum(
        int((program(batch).argmax(1) == labels[i * 100 : i * 100 + 100]).sum())
        for i, (batch,) in enumerate(batches(images, 100))
    )
    return 100 * right / len(labels)
