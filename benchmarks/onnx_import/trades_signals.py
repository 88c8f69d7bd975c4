"""Networks that hear, measure, steer and count: speech, sensors, forecasts, tables, points, graphs, control."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

torch.manual_seed(0)


class Enhance(nn.Module):
    """Speech in, a mask on its spectrum, speech out: both Fourier transforms are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        n, bins = 32, 17
        phase = 2 * math.pi * torch.outer(torch.arange(bins), torch.arange(n)) / n
        basis = (torch.cat((phase.cos(), -phase.sin())) * torch.hann_window(n)).unsqueeze(1)
        self.register_buffer("analysis", basis)
        self.register_buffer("synthesis", basis / n)
        self.rnn, self.mask = nn.GRU(bins, 24, batch_first=True), nn.Linear(24, bins)

    def forward(self, wave: Tensor) -> Tensor:
        spectrum = F.conv1d(wave.unsqueeze(1), self.analysis, stride=8, padding=16)
        real, imaginary = spectrum.chunk(2, 1)
        loud = (real**2 + imaginary**2 + 1e-8).sqrt()
        mask = self.mask(self.rnn(loud.log().transpose(1, 2))[0]).sigmoid().transpose(1, 2)
        return F.conv_transpose1d(torch.cat((real * mask, imaginary * mask), 1), self.synthesis, stride=8, padding=16)


class TasNet(nn.Module):
    """Conv-TasNet: a learned basis, global layer norm, dilated depthwise blocks with skips, two voices."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, 16, 8, 4, bias=False), nn.ConvTranspose1d(16, 1, 8, 4, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "wide": nn.Conv1d(16, 24, 1), "act": nn.PReLU(), "norm": nn.GroupNorm(1, 24),
                "deep": nn.Conv1d(24, 24, 3, padding=2**i, dilation=2**i, groups=24),
                "back": nn.Conv1d(24, 16, 1), "skip": nn.Conv1d(24, 16, 1),
            }) for i in range(3)
        )  # fmt: skip
        self.masks = nn.Conv1d(16, 32, 1)

    def forward(self, wave: Tensor) -> Tensor:
        basis = x = self.encode(wave.unsqueeze(1)).relu()
        skips: Any = 0
        for one in self.blocks:
            y = one["deep"](one["norm"](one["act"](one["wide"](x))))
            x, skips = x + one["back"](y), skips + one["skip"](y)
        n, c, t = basis.shape
        voices = self.masks(skips).sigmoid().view(n, 2, c, t) * basis.unsqueeze(1)
        return self.decode(voices.view(n * 2, c, t)).view(n, 2, -1)


class WaveNet(nn.Module):
    """Gated causal convolutions, skips, a choice of 32 levels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Embedding(32, 12)
        self.gates = nn.ModuleList(nn.Conv1d(12, 24, 2, dilation=2**i) for i in range(3))
        self.skips = nn.ModuleList(nn.Conv1d(12, 16, 1) for _ in range(3))
        self.last = nn.Sequential(nn.ReLU(), nn.Conv1d(16, 16, 1), nn.ReLU(), nn.Conv1d(16, 32, 1))

    def forward(self, levels: Tensor) -> Tensor:
        x, total = self.first(levels).transpose(1, 2), torch.zeros(1)
        for i, (gate, skip) in enumerate(zip(self.gates, self.skips, strict=True)):
            a, b = gate(F.pad(x, (2**i, 0))).split(12, 1)
            y = a.tanh() * b.sigmoid()
            x, total = x + y, total + skip(y)
        return self.last(total)


class Causal(nn.Module):
    """TCN with weight norm, borders padded on both sides and cut off again."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.one, self.two = norm(nn.Conv1d(4, 12, 3, padding=2)), norm(nn.Conv1d(12, 12, 3, padding=4, dilation=2))
        self.side, self.head = nn.Conv1d(4, 12, 1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(self.one(x)[:, :, :-2].relu())[:, :, :-4].relu()
        return self.head((y + self.side(x)).relu()[:, :, -1])


class Speech(nn.Module):
    """Convolutions over a spectrum, two bidirectional layers, a distribution over letters per frame."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 6, (11, 5), (2, 1), (5, 2)), nn.BatchNorm2d(6), nn.Hardtanh(0, 20))
        self.rnn = nn.LSTM(6 * 10, 12, 2, bidirectional=True, batch_first=True)
        self.letters = nn.Linear(24, 8)

    def forward(self, spectrum: Tensor) -> Tensor:
        maps = self.conv(spectrum)
        n, c, f, t = maps.shape
        return self.letters(self.rnn(maps.view(n, c * f, t).transpose(1, 2))[0]).log_softmax(-1)


class Spectrogram(nn.Module):
    """Log-mel features with the Fourier operator, then a small network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mel", torch.rand(17, 10))
        self.net = nn.Sequential(nn.Conv1d(10, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                                 nn.Linear(12, 4))  # fmt: skip

    def forward(self, wave: Tensor) -> Tensor:
        frames = wave.unfold(1, 32, 16) * torch.hann_window(32)
        power = torch.view_as_real(torch.fft.rfft(frames)).pow(2).sum(-1)
        return self.net((power @ self.mel + 1e-6).log().transpose(1, 2))


class Beats(nn.Module):
    """N-BEATS: each block explains a part of the past and forecasts with it."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()) for _ in range(2)
        )
        self.back, self.fore = (nn.ModuleList(nn.Linear(32, n) for _ in range(2)) for n in (24, 6))

    def forward(self, past: Tensor) -> Tensor:
        level = past.abs().amax(1, keepdim=True).clamp(min=1e-3)
        rest, forecast = past / level, torch.zeros(1)
        for block, back, fore in zip(self.blocks, self.back, self.fore, strict=True):
            hidden = block(rest)
            rest, forecast = rest - back(hidden), forecast + fore(hidden)
        return forecast * level


class Points(nn.Module):
    """PointNet: a learned rotation of the cloud, shared layers, the maximum over points."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.AdaptiveMaxPool1d(1),
                                  nn.Flatten(), nn.Linear(16, 9))  # fmt: skip
        self.one = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.two = nn.Sequential(nn.Conv1d(32, 8, 1), nn.ReLU(), nn.Conv1d(8, 4, 1))

    def forward(self, cloud: Tensor) -> Tensor:
        n, _, points = cloud.shape
        turn = self.turn(cloud).view(n, 3, 3) + torch.eye(3)
        local = self.one(torch.bmm(cloud.transpose(1, 2), turn).transpose(1, 2))
        whole = local.max(2, keepdim=True)[0].repeat(1, 1, points)
        return self.two(torch.cat((local, whole), 1)).transpose(1, 2).log_softmax(-1)


class Neighbours(nn.Module):
    """DGCNN: the three nearest points of each, found in the graph, gathered, compared."""

    def __init__(self) -> None:
        super().__init__()
        self.edge, self.head = nn.Conv2d(6, 12, 1), nn.Linear(12, 3)

    def forward(self, cloud: Tensor) -> Tensor:
        n, c, points = cloud.shape
        square = (cloud**2).sum(1, keepdim=True)
        nearest = (2 * cloud.transpose(1, 2) @ cloud - square - square.transpose(1, 2)).topk(3)[1]
        index = nearest.reshape(n, 1, points * 3).expand(-1, c, -1)
        around = cloud.gather(2, index).view(n, c, points, 3)
        centre = cloud.unsqueeze(3).expand_as(around)
        return self.head(self.edge(torch.cat((centre, around - centre), 1)).relu().amax((2, 3)))


class Attention(nn.Module):
    """Graph attention on a dense adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.near, self.far = nn.Linear(5, 12, bias=False), nn.Linear(12, 1), nn.Linear(12, 1)
        self.out = nn.Linear(12, 3)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        h = self.embed(nodes)
        scores = F.leaky_relu(self.near(h) + self.far(h).transpose(1, 2), 0.2)
        weights = torch.where(adjacency > 0, scores, torch.full_like(scores, -1e9)).softmax(-1)
        return self.out(F.elu(weights @ h))


class Messages(nn.Module):
    """Messages along a list of edges, summed where they arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.message, self.update = nn.Linear(8, 12), nn.Linear(16, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges.unbind(2)
        n, size = source.shape
        there = target.unsqueeze(2).expand(n, size, 12)
        ends = [nodes.gather(1, end.unsqueeze(2).expand(n, size, 4)) for end in (source, target)]
        summed = torch.zeros(n, nodes.shape[1], 12).scatter_add(1, there, self.message(torch.cat(ends, 2)).relu())
        return self.update(torch.cat((nodes, summed), 2))


class Experts(nn.Module):
    """Four experts, each sample asks the best two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(10, 4), nn.Linear(8, 3)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(10, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        best, which = self.gate(x).topk(2)
        weights = torch.zeros(x.shape[0], 4).scatter(1, which, best.softmax(1))
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        return self.head(torch.einsum("ne,neo->no", weights, answers)), which


class Clicks(nn.Module):
    """DLRM: tables of categories, numbers, every pair of them multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(9, 8) for _ in range(3))
        self.bottom = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(14, 12), nn.ReLU(), nn.Linear(12, 1))
        rows, columns = torch.tril_indices(4, 4, -1)
        self.register_buffer("pairs", rows * 4 + columns)

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        rows = torch.stack([dense, *(table(kinds[:, i]) for i, table in enumerate(self.tables))], 1)
        products = torch.bmm(rows, rows.transpose(1, 2)).flatten(1)[:, self.pairs]
        return self.top(torch.cat((dense, products), 1)).sigmoid().squeeze(-1)


class Sparse(nn.Module):
    """TabNet's attention: sparsemax by sorting and sums (Martins and Astudillo 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.norm, self.out = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.attend(x))
        ranked = z.sort(1, descending=True)[0]
        total, rank = ranked.cumsum(1) - 1, torch.arange(1, 7)
        size = (rank * ranked > total).sum(1, keepdim=True)
        mask = (z - total.gather(1, size - 1) / size).clamp(min=0)
        return F.glu(self.out(mask * x))


class Flow(nn.Module):
    """Affine coupling with the halves exchanged, and the logarithm of the volume."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 8)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        volume = torch.zeros(x.shape[0])
        for net in self.nets:
            kept, moved = x.flip(1).chunk(2, 1)
            scale, shift = net(kept).chunk(2, 1)
            x, volume = torch.cat((kept, moved * scale.tanh().exp() + shift), 1), volume + scale.tanh().sum(1)
        return x, volume


class Splines(nn.Module):
    """Kolmogorov-Arnold layer: sums of bumps on a grid, beside a plain layer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(-2, 2, 8))
        self.weights, self.plain, self.out = nn.Parameter(torch.randn(6, 5, 8) * 0.1), nn.Linear(5, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        bumps = torch.exp(-((x[..., None] - self.grid) ** 2) * 4)
        return self.out(torch.einsum("nig,oig->no", bumps, self.weights) + self.plain(F.silu(x)))


class Recurrent(nn.Module):
    """A policy with memory: its state comes in and goes out."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.cell = nn.Linear(6, 16), nn.LSTMCell(16, 16)
        self.act, self.value, self.spread = nn.Linear(16, 3), nn.Linear(16, 1), nn.Parameter(torch.zeros(3))

    def forward(self, seen: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        h, c = self.cell(F.elu(self.look(seen)), (h, c))
        return self.act(h).tanh() * 2, self.spread.exp().expand(seen.shape[0], 3), self.value(h), h, c


class Spikes(nn.Module):
    """Leaky neurons that fire and reset, for five steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        current, level, votes = self.inp(x), torch.zeros(x.shape[0], 16), torch.zeros(x.shape[0], 3)
        for _ in range(5):
            level = level * 0.9 + current
            fired = (level > 1).float()
            level = level - fired
            votes = votes + self.out(fired)
        return votes / 5


class Periodic(nn.Module):
    """Time as angles: remainders, floors, powers, sines (Time2Vec and SIREN in one)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 16), nn.Linear(16, 2)

    def forward(self, hours: Tensor) -> Tensor:
        day, hour = (hours / 24).floor(), hours.fmod(24)
        angle, root = hour * 0.26, day.sign() * day.abs().pow(0.5)
        rows = (hour / 24, torch.remainder(day, 7) / 7, angle.sin(), angle.cos(), root)
        return self.two((30 * self.one(torch.cat(rows, 1))).sin())


WAVE, CLOUD = torch.randn(2, 128), torch.randn(2, 3, 20)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], *tuple[str, ...]]] = {
    "enhance": (Enhance, (WAVE,), "script11", "script14 free", "dynamo18 free"),
    "tasnet": (TasNet, (WAVE,), "script9", "script13 free"),
    "wavenet": (WaveNet, (torch.randint(0, 32, (2, 40)),), "script10", "dynamo18 free"),
    "tcn": (Causal, (torch.randn(2, 4, 24),), "script11 free", "dynamo20"),
    "speech": (Speech, (torch.randn(2, 1, 20, 30),), "script11", "script14 free", "dynamo18"),
    "spectrogram": (Spectrogram, (torch.randn(2, 160),), "dynamo18", "dynamo20 free"),
    "beats": (Beats, (torch.randn(2, 24),), "script9", "script13 free"),
    "pointnet": (Points, (CLOUD,), "script11", "script13 free"),
    "dgcnn": (Neighbours, (CLOUD,), "script11 free", "dynamo18"),
    "gat": (Attention, (torch.randn(2, 7, 5), torch.randint(0, 2, (2, 7, 7)).float()), "script9", "script12 free"),
    "messages": (Messages, (torch.randn(2, 4, 4), torch.randint(0, 4, (2, 5, 2))), "script16", "script18", "dynamo18"),
    "experts": (Experts, (torch.randn(2, 10),), "script12 free", "dynamo18 free"),
    "dlrm": (Clicks, (torch.randn(2, 4), torch.randint(0, 9, (2, 3))), "script11 free", "dynamo18 free"),
    "sparsemax": (Sparse, (torch.randn(2, 6),), "script11", "dynamo18 free"),
    "flow": (Flow, (torch.randn(2, 8),), "script10", "script12 free"),
    "splines": (Splines, (torch.randn(2, 5),), "script12 free", "dynamo18"),
    "policy": (Recurrent, (torch.randn(2, 6), torch.randn(2, 16), torch.randn(2, 16)), "script9", "script13 free"),
    "spikes": (Spikes, (torch.randn(2, 8),), "script9", "script13 free"),
    "periodic": (Periodic, (torch.rand(2, 1) * 1000,), "script10 free", "dynamo18 free"),
}  # fmt: skip
