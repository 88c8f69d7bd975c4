"""Networks of dense layers, a generator, and capsules."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Dense layers with ReLU between them: (N, sizes[0]) -> (N, sizes[-1])."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def perceptron(sizes: list[int]) -> nn.Module:
    """Multilayer perceptron."""
    return Perceptron(sizes)


def autoencoder(length: int = 140, hidden: int = 64, code: int = 8) -> nn.Module:
    """A series through a narrow code and back, (N, length) -> (N, length): what it never saw comes back changed."""
    return Perceptron([length, hidden, code, hidden, length])


def policy(observations: int = 4, hidden: int = 64, actions: int = 1) -> nn.Module:
    """Observation (N, 4) -> force (N, 1)."""
    return Perceptron([observations, hidden, hidden, actions])


class Generator(nn.Module):
    """Latent (N, latent) -> image (N, 1, 8, 8) in 0..1 by transposed convolutions (Radford et al. 2016)."""

    def __init__(self, latent: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.start = nn.Linear(latent, 4 * width * 4)
        self.norm = nn.BatchNorm2d(4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.paint = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        x = F.relu(self.norm(self.start(latent).unflatten(1, (4 * self.width, 2, 2))))
        x = F.relu(self.norm1(self.up1(x)))
        x = F.relu(self.norm2(self.up2(x)))
        return self.paint(x).sigmoid()


def generator(latent: int = 16, width: int = 16) -> nn.Module:
    """The generating half of a GAN."""
    return Generator(latent, width)


def discriminator(width: int = 16) -> nn.Module:
    """The other half, needed for training only: (N, 1, 8, 8) -> (N, 1) logits of "real"."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(8 * width, 1),
    )  # fmt: skip


def squash(x: Tensor) -> Tensor:
    """Shorten vectors (last dimension) to lengths in 0..1 (Sabour et al. 2017, eq. 1)."""
    squared = (x * x).sum(-1, keepdim=True)
    return x * (squared / (1 + squared) / torch.sqrt(squared + 1e-7))


class Capsules(nn.Module):
    """Sabour et al. 2017: (N, 1, 8, 8) -> (N, classes), lengths of class vectors, scaled to serve as logits."""

    def __init__(self, width: int, classes: int, rounds: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.primary = nn.Conv2d(width, 32, 3, 2)  # 4 maps of 8-vectors on a 2x2 grid: 16 capsules
        self.votes = nn.Parameter(0.1 * torch.randn(1, 16, classes, 8, 8))
        self.rounds = rounds

    def forward(self, image: Tensor) -> Tensor:
        x = self.primary(F.relu(self.norm(self.conv(image))))
        capsules = squash(x.unflatten(1, (4, 8)).permute(0, 1, 3, 4, 2).flatten(1, 3))  # (N, 16, 8)
        votes = torch.matmul(self.votes, capsules[:, :, None, :, None]).squeeze(-1)  # (N, 16, classes, 8)
        return 10 * torch.sqrt((self._route(votes) ** 2).sum(-1) + 1e-7)

    def _route(self, votes: Tensor) -> Tensor:
        """Routing by agreement (procedure 1): (N, inputs, classes, 8) -> (N, classes, 8)."""
        agreement = torch.zeros_like(votes[..., :1])
        for _ in range(self.rounds - 1):
            vectors = squash((agreement.softmax(2) * votes).sum(1, keepdim=True))
            agreement = agreement + (votes * vectors).sum(-1, keepdim=True)
        return squash((agreement.softmax(2) * votes).sum(1))


def capsules(width: int = 32, classes: int = 10, rounds: int = 3) -> nn.Module:
    """Capsules with three rounds of routing."""
    return Capsules(width, classes, rounds)
