"""The networks of these benchmarks, plain PyTorch, as recipes name them."""

from torch import Tensor, nn


def image_layer(inside: int, outside: int, stride: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    return [nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]


def fashion_cnn(width: int = 16) -> nn.Module:
    """(N, 1, 28, 28) -> (N, 10): three convolutions, 28x28 -> 14x14 -> 7x7, mean, linear."""
    layers = [*image_layer(1, width, 2), *image_layer(width, 2 * width, 1), *image_layer(2 * width, 4 * width, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class SignalBlock(nn.Module):
    """Two convolutions over time beside a shortcut."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inside, outside, 5, stride=2, padding=2, bias=False)
        self.bn1 = nn.BatchNorm1d(outside)
        self.conv2 = nn.Conv1d(outside, outside, 5, padding=2, bias=False)
        self.bn2 = nn.BatchNorm1d(outside)
        self.shortcut = nn.Conv1d(inside, outside, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


def signal_cnn(width: int = 16) -> nn.Module:
    """(N, 9, 128) -> (N, 6): three residual blocks over time, 128 -> 16 steps, mean, linear."""
    blocks = [SignalBlock(9, width), SignalBlock(width, 2 * width), SignalBlock(2 * width, 4 * width)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4 * width, 6))
