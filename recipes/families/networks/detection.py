"""A single-shot detector: one look at the image gives a box and class scores at every cell of two grids."""

import math

import torch
from torch import Tensor, nn


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Head(nn.Module):
    """(N, C, H, W) -> (N, H W, 4 + classes): corners x1, y1, x2, y2 as shares of the image, then class logits.

    The four regressed numbers are distances from the cell's centre to the sides (Tian et al. 2019, FCOS, eq. 1), in
    units of the image, kept positive by a sigmoid.
    """

    def __init__(self, channels: int, grid: int, classes: int) -> None:
        super().__init__()
        self.sides = nn.Conv2d(channels, 4, 1)
        self.scores = nn.Conv2d(channels, classes, 1)
        nn.init.constant_(self.sides.bias, -2.0)
        nn.init.constant_(
            self.scores.bias, -3.0
        )  # rare objects: start near "nothing here" (Lin et al. 2017, section 4.1)
        steps = (torch.arange(grid, dtype=torch.float32) + 0.5) / grid
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("centres", torch.stack([x.flatten(), y.flatten()], 1)[None])  # (1, H W, 2)

    def forward(self, features: Tensor) -> Tensor:
        sides = self.sides(features).flatten(2).transpose(1, 2).sigmoid()
        scores = self.scores(features).flatten(2).transpose(1, 2)
        return torch.cat([self.centres - sides[:, :, :2], self.centres + sides[:, :, 2:], scores], 2)


class Detector(nn.Module):
    """(N, channels, size, size) -> (N, cells, 4 + classes), cells of two grids: with stride `first`, and twice that."""

    def __init__(self, size: int, width: int, classes: int, channels: int, first: int) -> None:
        super().__init__()
        layers, wide = [conv(channels, width, 2)], width
        for _ in range(int(math.log2(first)) - 1):
            layers.append(conv(wide, 2 * wide, 2))
            wide *= 2
        self.backbone = nn.Sequential(*layers, conv(wide, wide))
        self.deeper = conv(wide, 2 * wide, 2)
        self.fine = Head(wide, size // first, classes)
        self.coarse = Head(2 * wide, size // first // 2, classes)

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(image)
        return torch.cat([self.fine(features), self.coarse(self.deeper(features))], 1)


def detector(size: int = 32, width: int = 16, classes: int = 4, channels: int = 1, first: int = 4) -> nn.Module:
    """Two grids."""
    return Detector(size, width, classes, channels, first)
