"""Networks that see: detectors with their decoding, super-resolution, style, faces, documents, diffusion."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

torch.manual_seed(0)


def block(inputs: int, outputs: int, stride: int = 1, act: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), act(inplace=True)
    )


class Yolo5(nn.Module):
    """Anchors at two strides, decoded in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Sequential(block(3, 8, 2), block(8, 16, 2), block(16, 16, 2)), block(16, 24, 2)
        self.heads = nn.ModuleList([nn.Conv2d(16, 27, 1), nn.Conv2d(24, 27, 1)])
        self.register_buffer("anchors", torch.rand(2, 1, 3, 1, 1, 2) * 40)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        found = []
        for i, (head, maps) in enumerate(zip(self.heads, (first, self.deep(first)), strict=True)):
            b, _, h, w = maps.shape
            y = head(maps).view(b, 3, 9, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((columns, rows), 2).view(1, 1, h, w, 2).float()
            xy, wh, rest = y.split((2, 2, 5), 4)
            xy, wh = (xy * 2 - 0.5 + grid) * (8 << i), (wh * 2) ** 2 * self.anchors[i]
            found.append(torch.cat((xy, wh, rest), 4).view(b, -1, 9))
        return torch.cat(found, 1)


class Yolo8(nn.Module):
    """No anchors: each side of a box is the mean of a distribution (Li et al. 2020), decoded in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Sequential(block(3, 8, 2), block(8, 16, 2)), block(8, 8), block(24, 24, 2)
        self.box = nn.ModuleList([nn.Conv2d(24, 64, 1), nn.Conv2d(24, 64, 1)])
        self.kind = nn.ModuleList([nn.Conv2d(24, 4, 1), nn.Conv2d(24, 4, 1)])
        self.mean = nn.Conv2d(16, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.data[:] = torch.arange(16.0).view(1, 16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.stem(x).chunk(2, 1)
        first = torch.cat((a, b, self.left(b)), 1)
        boxes, kinds, centres = [], [], []
        for maps, box, kind in zip((first, self.right(first)), self.box, self.kind, strict=True):
            boxes.append(box(maps).flatten(2))
            kinds.append(kind(maps).flatten(2))
            h, w = maps.shape[-2:]
            rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            centres.append(torch.stack((columns, rows)).flatten(1))
        sides, scores, centre = torch.cat(boxes, 2), torch.cat(kinds, 2).sigmoid(), torch.cat(centres, 1)
        n, _, cells = sides.shape
        sides = self.mean(sides.view(n, 4, 16, cells).transpose(2, 1).softmax(1)).view(n, 4, cells)
        near, far = sides.chunk(2, 1)
        return torch.cat(((centre - near + centre + far) / 2, far + near, scores), 1)


class Peaks(nn.Module):
    """CenterNet: local maxima of a heat map, the best 5 of all classes, boxes gathered there."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.heat, self.size = block(3, 12, 2, nn.ReLU), nn.Conv2d(12, 3, 1), nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.trunk(x)
        heat = self.heat(maps).sigmoid()
        heat = heat * (heat == F.max_pool2d(heat, 3, 1, 1)).float()
        n, _, h, w = heat.shape
        scores, places = heat.view(n, -1).topk(5)
        kind, cell = torch.div(places, h * w, rounding_mode="floor"), places % (h * w)
        sizes = self.size(maps).flatten(2).gather(2, cell.unsqueeze(1).expand(-1, 2, -1))
        return scores, kind, torch.cat((torch.stack((cell % w, cell // w), 1).float(), sizes), 1)


class SuperResolution(nn.Module):
    """ESPCN: the picture grows by shuffling channels, beside a plain enlargement."""

    def __init__(self, mode: str = "bicubic") -> None:
        super().__init__()
        self.mode = mode
        self.body = nn.Sequential(nn.Conv2d(1, 16, 5, 1, 2), nn.Tanh(), nn.Conv2d(16, 16, 3, 1, 1), nn.Tanh())
        self.last = nn.Sequential(nn.Conv2d(16, 9, 3, 1, 1), nn.PixelShuffle(3))

    def forward(self, x: Tensor) -> Tensor:
        aligned = None if self.mode == "nearest" else False
        larger = F.interpolate(x, scale_factor=3, mode=self.mode, align_corners=aligned)
        return (self.last(self.body(x)) + larger).clamp(0, 1)


class Style(nn.Module):
    """Instance norm, reflected borders, nearest enlargement."""

    def __init__(self) -> None:
        super().__init__()
        pad, norm = nn.ReflectionPad2d, nn.InstanceNorm2d
        self.net = nn.Sequential(
            pad(2), nn.Conv2d(3, 8, 5), norm(8, affine=True), nn.ReLU(), pad(1), nn.Conv2d(8, 16, 3, 2),
            norm(16, affine=True), nn.ReLU(), nn.Upsample(scale_factor=2), pad(1), nn.Conv2d(16, 3, 3), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x / 255) + 1) * 127.5


class Transformer2d(nn.Module):
    """Spatial transformer: the picture is turned before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                                  nn.Linear(32, 6))  # fmt: skip
        self.read = nn.Sequential(block(1, 8), nn.MaxPool2d(2), block(8, 8), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                                  nn.Linear(8, 10))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.look(x).view(-1, 2, 3), list(x.shape), align_corners=False)
        return self.read(F.grid_sample(x, grid, align_corners=False)).log_softmax(1)


class Conditional(nn.Module):
    """CondConv: each picture gets its own mixture of kernels, done as one grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.route = block(3, 8, 2), nn.Linear(8, 3)
        self.kernels, self.head = nn.Parameter(torch.randn(3, 12 * 8 * 9) * 0.1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        n, c, h, w = maps.shape
        kernels = (self.route(maps.mean((2, 3))).sigmoid() @ self.kernels).view(n * 12, c, 3, 3)
        maps = F.conv2d(maps.view(1, n * c, h, w), kernels, padding=1, groups=n).view(n, 12, h, w)
        return self.head(maps.relu().mean((2, 3)))


class Involution(nn.Module):
    """Kernels made for each place, applied to unfolded neighbourhoods (Li et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.kernel, self.head = block(3, 8, 2), nn.Conv2d(8, 9 * 2, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.stem(x)
        n, c, h, w = maps.shape
        patches = F.unfold(maps, 3, padding=1).view(n, 2, c // 2, 9, h, w)
        kernel = self.kernel(maps).view(n, 2, 1, 9, h, w)
        return self.head((kernel * patches).sum(3).reshape(n, c, h, w).mean((2, 3)))


class Diffusion(nn.Module):
    """A denoiser: time steps as sines, group norms, attention in the middle, skips."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))
        self.down, self.mid = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.norm, self.qkv, self.out = nn.GroupNorm(4, 16), nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1)
        self.up, self.last = nn.ConvTranspose2d(32, 8, 4, 2, 1), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(8) * (-math.log(10000) / 8))
        angles = step[:, None].float() * rates[None]
        time = self.time(torch.cat((angles.sin(), angles.cos()), 1))
        first = self.down(x)
        maps = F.silu(self.norm(self.mid(first) + time[:, :, None, None]))
        n, c, h, w = maps.shape
        q, k, v = self.qkv(maps).reshape(n, 3, 2, c // 2, h * w).unbind(1)
        weights = torch.einsum("nhci,nhcj->nhij", q, k).mul(c**-0.5).softmax(-1)
        maps = maps + self.out(torch.einsum("nhij,nhcj->nhci", weights, v).reshape(n, c, h, w))
        return self.last(F.silu(self.up(torch.cat((maps, first), 1))))


class Segment(nn.Module):
    """Dilated pyramid with a pooled branch, enlarged to the size of the picture; the answer is a class per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 12, 4)
        self.rates = nn.ModuleList([nn.Conv2d(12, 8, 3, 1, r, dilation=r) for r in (1, 2, 4)])
        self.pooled, self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 8, 1)), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.stem(x)
        wide = F.interpolate(self.pooled(maps), size=maps.shape[-2:], mode="bilinear", align_corners=False)
        scores = self.head(torch.cat([rate(maps) for rate in self.rates] + [wide], 1).relu())
        scores = F.interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return scores.argmax(1), scores


class Unpool(nn.Module):
    """SegNet: maxima go back to where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = block(3, 8, 1, nn.ReLU), nn.Conv2d(8, 2, 3, 1, 1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        maps, places = self.pool(self.first(x))
        return self.last(self.unpool(maps, places))


class Bytes(nn.Module):
    """A camera's picture of bytes, channels last, normalised in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(block(3, 8, 2, nn.ReLU6), block(8, 8, 1, nn.Hardswish), nn.AdaptiveAvgPool2d(1),
                                 nn.Flatten(), nn.Linear(8, 3), nn.Softmax(1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        picture = x.permute(0, 3, 1, 2).float() / 255
        return self.net((picture - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / 0.22)


class ConvLSTM(nn.Module):
    """Four frames, gates that are convolutions; the sequence is unrolled."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(1 + 8, 32, 3, 1, 1), nn.Conv2d(8, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        n, _, _, h, w = frames.shape
        hidden = cell = torch.zeros(n, 8, h, w)
        for t in range(4):
            i, f, o, g = self.gates(torch.cat((frames[:, t], hidden), 1)).chunk(4, 1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
        return self.head(hidden)


class Patches(nn.Module):
    """Distance of patch features from a learned normal (PaDiM): a fixed covariance for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.features = block(3, 6, 4)
        self.register_buffer("mean", torch.randn(6, 64) * 0.1)
        self.register_buffer("inverse", torch.eye(6).repeat(64, 1, 1) + 0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        delta = (self.features(x).flatten(2) - self.mean).permute(0, 2, 1)
        distance = torch.einsum("npi,pij,npj->np", delta, self.inverse, delta).clamp(min=0).sqrt()
        return distance.view(-1, 1, 8, 8), distance.amax(1)


class Volume(nn.Module):
    """A scan in three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.LeakyReLU(0.1), nn.MaxPool3d(2),
                                 nn.ConvTranspose3d(8, 4, 2, 2), nn.ELU(), nn.Conv3d(4, 2, 1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).softmax(1)


class Twins(nn.Module):
    """The same trunk for two pictures; how far apart are they?"""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(block(1, 8, 2, nn.ReLU), block(8, 16, 2, nn.ReLU), nn.AvgPool2d(2),
                                   nn.Flatten(), nn.Linear(64, 12))  # fmt: skip
        self.judge = nn.Linear(12, 1)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        a, b = F.normalize(self.trunk(left)), F.normalize(self.trunk(right))
        return F.pairwise_distance(a, b), self.judge((a - b).abs()).sigmoid()


class Mixed(nn.Module):
    """A picture and a row of numbers, three answers."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(block(3, 8, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.row, self.join = nn.Sequential(nn.Linear(5, 8), nn.Softplus()), nn.Bilinear(8, 8, 8)
        self.heads = nn.ModuleList([nn.Linear(8, n) for n in (1, 3, 4)])

    def forward(self, picture: Tensor, row: Tensor) -> tuple[Tensor, ...]:
        joined = self.join(self.see(picture), self.row(row))
        return tuple(head(joined) for head in self.heads)


class Ghosts(nn.Module):
    """What mobile networks are made of: shuffled groups, squeeze and excitation, hard activations, local response."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = block(3, 8, 2, nn.Hardswish), nn.Conv2d(8, 16, 3, 1, 1, groups=4)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.normal, self.head = nn.LocalResponseNorm(3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        maps = F.channel_shuffle(self.grouped(self.stem(x)), 4)
        maps = self.normal(maps * F.hardsigmoid(self.squeeze(maps)))
        return self.head(F.lp_pool2d(maps, 2, 2).amax((2, 3)))


PICTURE, GREY = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 24, 24)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], *tuple[str, ...]]] = {
    "yolo5": (Yolo5, (torch.rand(2, 3, 64, 64),), "script11", "script12 free"),
    "yolo8": (Yolo8, (torch.rand(2, 3, 64, 64),), "script12", "dynamo18 free"),
    "peaks": (Peaks, (PICTURE,), "script11 free", "dynamo18"),
    "espcn_bicubic": (SuperResolution, (GREY,), "script11 free"),
    "espcn_nearest": (lambda: SuperResolution("nearest"), (GREY,), "script9", "script10"),
    "style": (Style, (torch.rand(2, 3, 32, 32) * 255,), "script9", "dynamo20 free"),
    "spatial_transformer": (Transformer2d, (GREY,), "dynamo20", "script16"),
    "condconv": (Conditional, (PICTURE,), "script11", "script13 free"),
    "involution": (Involution, (PICTURE,), "script11 free", "dynamo18"),
    "diffusion": (Diffusion, (PICTURE, torch.tensor([3, 7])), "script12", "script14 free", "dynamo18 free"),
    "aspp": (Segment, (PICTURE,), "script11 free", "dynamo18 free"),
    "segnet": (Unpool, (PICTURE,), "script11"),
    "bytes": (Bytes, (torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8),), "script9", "script13 free"),
    "convlstm": (ConvLSTM, (torch.rand(2, 4, 1, 16, 16),), "script11 free", "dynamo18"),
    "padim": (Patches, (PICTURE,), "script12 free", "dynamo18 free"),
    "volume": (Volume, (torch.rand(2, 1, 8, 16, 16),), "script9", "script13 free"),
    "twins": (Twins, (GREY[..., :16, :16], torch.rand(2, 1, 16, 16)), "script9", "script13 free"),
    "mixed": (Mixed, (PICTURE, torch.rand(2, 5)), "script12 free", "dynamo18 free"),
    "mobile": (Ghosts, (PICTURE,), "script10", "script14 free"),
}  # fmt: skip
