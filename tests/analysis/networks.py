"""Networks that couple channels in every way the analysis knows."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from edgepress.ir import Program, capture


class Function(nn.Module):
    """A network whose forward is a plain function of its layers and its input."""

    def __init__(self, forward: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.calculate = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.calculate(self, x)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


def plain() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 12), nn.ReLU(), head(12))


def flat() -> nn.Module:
    """Flatten without pooling: 36 columns of the linear layer per channel."""
    return nn.Sequential(conv(3, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5))


def flat_view() -> nn.Module:
    return Function(lambda m, x: m.head(m.conv(x).view(-1, 8 * 64)), conv=conv(3, 8), head=nn.Linear(8 * 64, 5))


def residual() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m.stem(x))
        return m.head(F.relu(y + m.outer(F.relu(m.inner(y)))))

    return Function(forward, stem=conv(3, 8), inner=conv(8, 12), outer=conv(12, 8), head=head(8))


def padded_shortcut() -> nn.Module:
    """Parameter-free shortcut: every second position, zeros beside the channels."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m.stem(x))
        shortcut = F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))
        return m.head(F.relu(m.outer(F.relu(m.inner(y))) + shortcut))

    inner = nn.Conv2d(6, 12, 3, stride=2, padding=1)
    return Function(forward, stem=conv(3, 6), inner=inner, outer=conv(12, 12), head=head(12))


def dense() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(m.a(x))
        b = F.relu(m.b(a))
        c = m.c(torch.cat([a, b], 1))
        return m.head(torch.cat([a, b, c], 1))

    return Function(forward, a=conv(3, 6), b=conv(6, 8), c=conv(14, 4), head=head(18))


def chunked() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        left, right = m.stem(x).chunk(2, 1)
        return m.head(torch.cat([m.left(left), right], 1))

    return Function(forward, stem=conv(3, 12), left=conv(6, 8), head=head(14))


def gated() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        value, gate = torch.split(m.stem(x), [6, 6], dim=1)
        return m.head(value * torch.sigmoid(gate))

    return Function(forward, stem=conv(3, 12), head=head(6))


def depthwise() -> nn.Module:
    layers = (conv(3, 8, 1), conv(8, 8, groups=8), nn.BatchNorm2d(8), nn.ReLU6(), conv(8, 6, 1), head(6))
    return nn.Sequential(*layers)


def grouped() -> nn.Module:
    return nn.Sequential(conv(3, 12), nn.ReLU(), conv(12, 18, groups=2), nn.ReLU(), head(18))


def many_groups() -> nn.Module:
    return nn.Sequential(conv(3, 12), nn.ReLU(), conv(12, 12, groups=6), nn.ReLU(), head(12))


def squeeze_excite() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m.stem(x))
        scale = torch.sigmoid(m.up(F.relu(m.down(y.mean((2, 3), keepdim=True)))))
        return m.head(y * scale)

    return Function(forward, stem=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), head=head(8))


def shuffled() -> nn.Module:
    """Channel shuffle after a grouped convolution."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m.grouped(F.relu(m.stem(x))))
        n, c, h, w = y.shape
        return m.head(y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))

    return Function(forward, stem=conv(3, 12), grouped=conv(12, 12, groups=2), head=head(12))


def u_net() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        top = F.relu(m.down(x))
        low = F.relu(m.low(F.max_pool2d(top, 2)))
        return m.out(F.relu(m.merge(torch.cat([top, m.up(low)], 1))))

    up = nn.ConvTranspose2d(10, 6, 2, stride=2)
    return Function(forward, down=conv(3, 8), low=conv(8, 10), up=up, merge=conv(14, 6), out=conv(6, 2, 1))


def super_resolution() -> nn.Module:
    return nn.Sequential(conv(3, 16), nn.PReLU(16), conv(16, 24), nn.PixelShuffle(2), conv(6, 3))


def group_normed() -> nn.Module:
    return nn.Sequential(conv(3, 12), nn.GroupNorm(6, 12), nn.ReLU(), conv(12, 6), head(6))


class Block(nn.Module):
    """A pre-norm transformer block over 16 positions, one fused projection for query, key and value."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.embed = nn.Conv2d(3, width, 2, stride=2)
        self.place = nn.Parameter(torch.randn(16, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 20), nn.Linear(20, width)
        self.head = nn.Linear(width, 5)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.embed(x).flatten(2).transpose(1, 2) + self.place
        y = y + self.out(self.attend(self.norms[0](y)))
        y = y + self.narrow(F.gelu(self.wide(self.norms[1](y))))
        return self.head(y.mean(1))


class ChunkedBlock(Block):
    """The same with attention written out, and the projection chunked before it is split into heads."""

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = (z.view(n, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        weights = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
        return (weights @ v).transpose(1, 2).reshape(n, t, c)


class GroupedQuery(Block):
    """Two key-value heads for four query heads, rotary positions, RMS norm, a gated feed-forward part."""

    def __init__(self) -> None:
        super().__init__(16, 4)
        self.norms = nn.ModuleList([nn.RMSNorm(16), nn.RMSNorm(16)])
        self.query, self.key_value = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.query_norm, self.gate = nn.RMSNorm(4), nn.Linear(16, 20)
        self.turn: torch.Tensor
        self.register_buffer("turn", torch.randn(2, 16, 4))

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.turn[0] + torch.cat([-x[..., 2:], x[..., :2]], -1) * self.turn[1]

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        q = self.query_norm(self.query(x).view(n, t, 4, 4)).transpose(1, 2)
        k, v = (z.view(n, t, 2, 4).transpose(1, 2) for z in self.key_value(x).split(8, -1))
        k, v = (z[:, :, None].expand(n, 2, 2, t, 4).reshape(n, 4, t, 4) for z in (self.rotate(k), v))
        y = F.scaled_dot_product_attention(self.rotate(q), k, v, is_causal=True)
        return y.transpose(1, 2).reshape(n, t, 16)


class Masked(nn.Module):
    """PyTorch's own encoder layer told which tokens to leave out: the mask is copied for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 12)
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, dropout=0.0)
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        left_out = tokens.sum(-1) < -2
        return self.head(self.layer(self.embed(tokens), src_key_padding_mask=left_out).mean(1))


class Named(Block):
    """Projections and attention as sums over named axes."""

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.qkv.weight.view(3, self.heads, -1, x.shape[-1])
        q, k, v = torch.einsum("...ntc,zhdc->z...nhtd", x, weight).unbind(0)
        weights = torch.softmax(torch.einsum("nhtd, nhsd -> nhts", q, k) / 2, -1)
        return torch.einsum("nhts,nhsd->nthd", weights, v).flatten(2)


def named_axes() -> nn.Module:
    return Named()


def windows() -> nn.Module:
    return Windows()


def normed_tokens() -> nn.Module:
    """Batch norm over all tokens at once, brought back into shape by the tensor it came from."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = m.wide(x.flatten(2).transpose(1, 2))
        y = torch.relu(m.norm(y.flatten(0, 1)).reshape_as(y))
        return m.head(y.mean(1).expand_as(y[:, 0]))

    return Function(forward, wide=nn.Linear(3, 8), norm=nn.BatchNorm1d(8), head=nn.Linear(8, 5))


class Windows(Block):
    """Tokens in a shifted order, and a bias for every distance and head from a table (Swin, LeViT, BEiT)."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(31, 3))
        self.distances: torch.Tensor
        self.register_buffer("distances", torch.arange(16)[:, None] - torch.arange(16) + 15)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = (z.view(n, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x.roll(2, 1)).chunk(3, -1))
        bias = self.table[self.distances[:t, :t]].permute(2, 0, 1)
        k, v = (F.pad(z, (0, 0, 0, 0)) for z in (k, v))  # as where windows have to be filled up
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
        return y.transpose(1, 2).reshape(n, t, c).roll(-2, 1)


class Recurrent(nn.Module):
    """A recurrent layer over the rows of the image."""

    def __init__(self, kind: type[nn.RNNBase], **options: int | bool) -> None:
        super().__init__()
        self.layer = kind(24, 10, batch_first=True, **options)
        width = (int(options.get("proj_size", 0)) or 10) * (1 + bool(options.get("bidirectional")))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x.transpose(1, 2).flatten(2))[0][:, -1])


def lstm() -> nn.Module:
    return Recurrent(nn.LSTM)


def lstm_projected() -> nn.Module:
    return Recurrent(nn.LSTM, proj_size=6)


def gru_bidirectional() -> nn.Module:
    return Recurrent(nn.GRU, bidirectional=True, num_layers=2)


def rnn() -> nn.Module:
    return Recurrent(nn.RNN)


def transformer() -> nn.Module:
    return Block()


def chunked_transformer() -> nn.Module:
    return ChunkedBlock()


def grouped_query() -> nn.Module:
    return GroupedQuery()


def masked_transformer() -> nn.Module:
    return Masked()


def volume() -> nn.Module:
    """Three-dimensional convolutions over a folded image, the last one transposed."""

    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(m.norm(m.inner(x.unflatten(3, (2, 4)).permute(0, 1, 3, 2, 4))))
        return m.head(F.relu(m.up(y)).mean((2, 3, 4)))

    inner, up = nn.Conv3d(3, 8, 3, padding=1), nn.ConvTranspose3d(8, 6, 2, stride=2, groups=2)
    return Function(forward, inner=inner, norm=nn.BatchNorm3d(8), up=up, head=nn.Linear(6, 5))


def instance_normed() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), conv(8, 6), head(6))


def narrowed() -> nn.Module:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.stem(x)).flip(3)
        return m.head(torch.cat([y.narrow(1, 2, 5), y[:, -3:]], 1))

    return Function(forward, stem=conv(3, 10), head=head(8))


def sequence() -> nn.Module:
    """One-dimensional convolutions with gated linear units."""
    layers = (nn.Flatten(2), nn.Conv1d(3, 16, 5, padding=2), nn.GLU(1), nn.Conv1d(8, 6, 3), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(6, 5))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    f.__name__: f
    for f in (
        plain, flat, flat_view, residual, padded_shortcut, dense, chunked, gated, depthwise, grouped, many_groups,
        squeeze_excite, shuffled, u_net, super_resolution, group_normed, lstm, gru_bidirectional, rnn,
        transformer, chunked_transformer, grouped_query, masked_transformer, windows, named_axes, normed_tokens, volume,
        sequence, narrowed, instance_normed,
    )
}  # fmt: skip


def program_of(name: str) -> Program:
    torch.manual_seed(0)
    return capture(NETWORKS[name](), [torch.randn(2, 3, 8, 8)])
