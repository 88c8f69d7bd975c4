"""Networks for images: plain, residual, depthwise separable, densely concatenated, U-shaped."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution that keeps the image size (over `stride`), batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class PlainCNN(nn.Module):
    """Convolutions one after another: (N, channels, H, W) -> (N, classes)."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(channels, width), nn.MaxPool2d(2), conv(width, 2 * width), conv(2 * width, 2 * width)
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


def plain_cnn(channels: int = 1, width: int = 16, classes: int = 10) -> nn.Module:
    """The plain CNN."""
    return PlainCNN(channels, width, classes)


class PadSliceBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters: every second pixel, channels padded with zeros.

    Option A of He et al. 2015, Deep Residual Learning, section 4.2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shrinks = stride != 1
        self.padding = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.shrinks:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet-(6n+2) for 32x32 images, with the tensor names of the usual public checkpoints."""

    def __init__(self, depth: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = PadSliceBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(PadSliceBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def cifar_resnet(depth: int = 20, classes: int = 10) -> nn.Module:
    """ResNet-20 unless told otherwise."""
    return CifarResNet(depth, classes)


class MobileBlock(nn.Module):
    """Inverted residual (Sandler et al. 2018, MobileNetV2): widen, filter each channel, narrow, add."""

    def __init__(self, inputs: int, outputs: int, stride: int, widening: int) -> None:
        super().__init__()
        hidden = inputs * widening
        self.body = nn.Sequential(
            conv(inputs, hidden, 1),
            conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileCNN(nn.Module):
    """(N, channels, H, W) -> (N, classes)."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.stem = conv(channels, width)
        self.blocks = nn.Sequential(
            MobileBlock(width, width, 1, 3),
            MobileBlock(width, 2 * width, 2, 3),
            MobileBlock(2 * width, 2 * width, 1, 3),
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


def mobile_cnn(channels: int = 1, width: int = 16, classes: int = 10) -> nn.Module:
    """Depthwise separable convolutions in inverted residuals."""
    return MobileCNN(channels, width, classes)


class DenseBlock(nn.Module):
    """Each layer sees all maps before it (Huang et al. 2017): (N, C, H, W) -> (N, C + layers growth, H, W)."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(inputs + i * growth, growth) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseCNN(nn.Module):
    """(N, channels, H, W) -> (N, classes)."""

    def __init__(self, channels: int, growth: int, layers: int, classes: int) -> None:
        super().__init__()
        width = 2 * growth + layers * growth
        self.stem = conv(channels, 2 * growth)
        self.first = DenseBlock(2 * growth, growth, layers)
        self.between = nn.Sequential(conv(width, 2 * growth, 1), nn.AvgPool2d(2))
        self.second = DenseBlock(2 * growth, growth, layers)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.second(self.between(self.first(self.stem(image))))
        return self.head(x.mean((2, 3)))


def dense_cnn(channels: int = 1, growth: int = 8, layers: int = 3, classes: int = 10) -> nn.Module:
    """Two dense blocks with a narrow passage between them."""
    return DenseCNN(channels, growth, layers, classes)


class UNet(nn.Module):
    """Down, up, and across (Ronneberger et al. 2015): (N, channels, H, W) -> (N, classes, H, W); 4 divides H, W."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.down1 = conv(channels, width)
        self.down2 = conv(width, 2 * width)
        self.bottom = conv(2 * width, 4 * width)
        self.up2 = conv(6 * width, 2 * width)
        self.up1 = conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down1(image)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        x = self.up2(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2.0), fine], 1))
        return self.head(x)


def unet(channels: int = 1, width: int = 16, classes: int = 5) -> nn.Module:
    """Two levels."""
    return UNet(channels, width, classes)
