"""Augmentation on tensors: each takes a batch (N, C, H, W) or (N, C, T) and a generator, and gives a new batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.errors import UserError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left to right with probability 1/2, per sample."""
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.view(-1, *[1] * (images.dim() - 1)), images.flip(-1), images)


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad an eighth of the size with zeros on each side and cut out the original size at a random place.

    For inputs whose background is 0; where a mean was subtracted, zeros are bars that no test image has: see `shift`.
    """
    return _shifted(images, "constant", generator)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """As `crop`, but padded with the image's own reflection: for inputs of any normalisation."""
    return _shifted(images, "reflect", generator)


def erase(images: Tensor, generator: torch.Generator) -> Tensor:
    """Cutout (DeVries & Taylor 2017): a square of half the height at a random place becomes zero."""
    n, _, height, width = images.shape
    half = height // 4
    y, x = _centres(n, height, generator), _centres(n, width, generator)
    rows = (torch.arange(height) - y).abs() < half
    columns = (torch.arange(width) - x).abs() < half
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def noise(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Add normal noise of a twentieth of the batch's standard deviation."""
    return inputs + torch.randn(inputs.shape, generator=generator) * (0.05 * inputs.std())


def scale(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Multiply each sample by a factor between 0.8 and 1.2: for signals."""
    return inputs * (0.8 + 0.4 * torch.rand(len(inputs), *[1] * (inputs.dim() - 1), generator=generator))


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "flip": flip,
    "crop": crop,
    "shift": shift,
    "erase": erase,
    "noise": noise,
    "scale": scale,
}
IMAGES_ONLY = {"crop", "shift", "erase"}


def chain(names: Sequence[str], dimensions: int) -> list[Augmentation]:
    """The functions of that name, in order.

    Raises:
        UserError: an unknown name, or one that needs images where the input has another number of dimensions.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise UserError("unknown augmentation", found=name, expected=", ".join(AUGMENTATIONS),
                            fix="correct `augment`")  # fmt: skip
        if name in IMAGES_ONLY and dimensions != 4:
            raise UserError(f"augmentation {name} needs images", found=f"inputs of {dimensions} dimensions",
                            expected="(N, C, H, W)", fix=f"remove {name} from `augment`")  # fmt: skip
    return [AUGMENTATIONS[name] for name in names]


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """mixup (Zhang et al. 2018): x = s x_i + (1 - s) x_j with s ~ Beta(alpha, alpha), targets alike.

    Args:
        targets: (N, classes) probabilities.
    """
    share, partner = _beta(alpha, generator), torch.randperm(len(inputs), generator=generator)
    return torch.lerp(inputs[partner], inputs, share), torch.lerp(targets[partner], targets, share)


def cutmix(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019): paste a rectangle of another image; targets are mixed by area.

    Args:
        images: (N, C, H, W). targets: (N, classes) probabilities.
    """
    height, width = images.shape[-2:]
    side = (1 - _beta(alpha, generator)) ** 0.5
    y, x = int(_centres(1, height, generator)), int(_centres(1, width, generator))
    top, bottom = _span(y, side * height, height)
    left, right = _span(x, side * width, width)
    partner = torch.randperm(len(images), generator=generator)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, torch.lerp(targets[partner], targets, share)


def _shifted(images: Tensor, padding: str, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    pad = max(width // 8, 1)
    padded = F.pad(images, (pad, pad, pad, pad), mode=padding)
    y = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) + torch.arange(height)
    x = torch.randint(0, 2 * pad + 1, (n, 1), generator=generator) + torch.arange(width)
    picked = padded[torch.arange(n)[:, None, None], :, y[:, :, None], x[:, None, :]]  # (N, H, W, C)
    return picked.movedim(-1, 1)


def _centres(n: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, size, (n, 1), generator=generator)


def _span(centre: int, length: float, size: int) -> tuple[int, int]:
    return max(round(centre - length / 2), 0), min(round(centre + length / 2), size)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """One draw of Beta(alpha, alpha), from two gamma draws with the generator's randomness."""
    gammas = torch._standard_gamma(torch.full((2,), alpha, dtype=torch.float64), generator=generator)
    return float(gammas[0] / gammas.sum().clamp_min(1e-300))
