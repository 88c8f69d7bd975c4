"""Networks that read: tagging, translation, retrieval, attention in several spellings, scripted control flow."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

torch.manual_seed(0)
WORDS = 20


class Tagger(nn.Module):
    """BiLSTM with a conditional random field: the best path is found in the graph (Viterbi), for eight words."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(WORDS, 12), nn.LSTM(12, 8, bidirectional=True, batch_first=True)
        self.scores, self.moves = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 4))

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.scores(self.rnn(self.words(words))[0])
        best, back = scores[:, 0], []
        for t in range(1, 8):
            reached, source = (best.unsqueeze(2) + self.moves).max(1)
            best = reached + scores[:, t]
            back.append(source)
        tag = best.argmax(1, keepdim=True)
        path = [tag]
        for source in reversed(back):
            tag = source.gather(1, tag)
            path.insert(0, tag)
        return torch.cat(path, 1), best.amax(1)


class Translate(nn.Module):
    """GRU to GRU with attention; five words are written, each the likeliest."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.read = nn.Embedding(WORDS, 12), nn.GRU(12, 16, batch_first=True)
        self.write = nn.GRUCell(28, 16)
        self.query, self.out = nn.Linear(16, 16, bias=False), nn.Linear(32, WORDS)

    def forward(self, words: Tensor) -> tuple[Tensor, Tensor]:
        memory, last = self.read(self.words(words))
        hidden, word, said = last[0], torch.zeros_like(words[:, 0]), []
        for _ in range(5):
            weights = torch.bmm(memory, self.query(hidden).unsqueeze(2)).softmax(1)
            seen = (weights * memory).sum(1)
            hidden = self.write(torch.cat((self.words(word), seen), 1), hidden)
            said.append(self.out(torch.cat((hidden, seen), 1)))
            word = said[-1].argmax(1)
        return torch.stack(said, 1), torch.stack([s.argmax(1) for s in said], 1)


class Encoder(nn.Module):
    """torch's own encoder layers, with a mask of padding made from the words."""

    def __init__(self, first: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, 0.1, F.gelu, batch_first=True, norm_first=first)
        self.words, self.places = nn.Embedding(WORDS, 16, padding_idx=0), nn.Parameter(torch.randn(1, 32, 16))
        self.layers, self.out = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 3)

    def forward(self, words: Tensor) -> Tensor:
        there = words != 0
        x = self.layers(self.words(words) + self.places[:, : words.shape[1]], src_key_padding_mask=~there)
        total = (x * there.unsqueeze(-1)).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        return self.out(total)


class Both(nn.Module):
    """torch's own encoder and decoder with a causal mask, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 16)
        self.net, self.out = nn.Transformer(16, 2, 1, 1, 32), nn.Linear(16, WORDS)
        self.register_buffer("causal", torch.full((6, 6), float("-inf")).triu(1))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        a, b = (self.words(words).transpose(0, 1) for words in (source, target))
        return self.out(self.net(a, b, tgt_mask=self.causal).transpose(0, 1))


class Latents(nn.Module):
    """A few learned queries read a long row (Perceiver)."""

    def __init__(self) -> None:
        super().__init__()
        self.latents, self.inp = nn.Parameter(torch.randn(4, 16)), nn.Linear(5, 16)
        self.cross, self.norm = nn.MultiheadAttention(16, 4, batch_first=True), nn.LayerNorm(16)
        self.out = nn.Linear(16, 3)

    def forward(self, row: Tensor) -> tuple[Tensor, Tensor]:
        x = self.inp(row)
        y, weights = self.cross(self.latents.expand(row.shape[0], -1, -1), x, x)
        return self.out(self.norm(y).mean(1)), weights


class Relative(nn.Module):
    """Attention with distances: a table indexed by computed places, ALiBi slopes, a local window."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.table, self.out = nn.Linear(16, 48), nn.Embedding(17, 2), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        place = torch.arange(t)
        distance = place[None] - place[:, None]
        bias = self.table(distance.clamp(-8, 8) + 8).permute(2, 0, 1) - 0.1 * distance.abs()
        q, k, v = self.qkv(x).view(n, t, 3, 2, 8).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) / 8**0.5 + bias).masked_fill(distance.abs() > 4, float("-inf"))
        return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, 16))


class Linear2(nn.Module):
    """Attention without softmax: sums over the past (Katharopoulos et al. 2020), RMS norm, gated layer."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16, bias=False) for _ in range(3))
        self.scale, self.gate = nn.Parameter(torch.ones(16)), nn.Linear(16, 24)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1, self.v(x)
        sums = torch.einsum("btd,bte->btde", k, v).cumsum(1)
        y = torch.einsum("btd,btde->bte", q, sums) / torch.einsum("btd,btd->bt", q, k.cumsum(1)).unsqueeze(-1)
        y = x + y
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        return self.down(F.silu(self.gate(y)) * self.up(y))


class Search(nn.Module):
    """Two towers of word bags, normalised; how near are they?"""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, 12, mode="mean")
        self.tower = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, query: Tensor, page: Tensor) -> Tensor:
        return F.cosine_similarity(self.tower(self.words(query)), self.tower(self.words(page)))


class Letters(nn.Module):
    """Characters to words by convolution and maximum, a highway, tags per word."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.conv = nn.Embedding(WORDS, 8), nn.Conv1d(8, 16, 3, padding=1)
        self.carry, self.turn, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, letters: Tensor) -> Tensor:
        n, words, length = letters.shape
        x = self.conv(self.letters(letters.view(n * words, length)).transpose(1, 2)).amax(2)
        gate = self.carry(x).sigmoid()
        return self.out(gate * self.turn(x).relu() + (1 - gate) * x).view(n, words, 4)


class Lengths(nn.Module):
    """Rows of different lengths, told by a second input: a mask from lengths, the last valid state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(6, 12, batch_first=True), nn.Linear(24, 3)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        states = self.rnn(rows)[0]
        last = states.gather(1, (lengths - 1).view(-1, 1, 1).clamp(min=0).expand(-1, 1, 12)).squeeze(1)
        valid = (torch.arange(rows.shape[1])[None] < lengths[:, None]).unsqueeze(-1).float()
        return self.out(torch.cat((last, (states * valid).sum(1) / lengths[:, None].clamp(min=1)), 1))


class Loops(nn.Module):
    """Scripted: a loop that the exporter keeps, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.out = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = x + self.step(x).tanh()
        if x.sum() > 0:
            x = x * 0.5
        return self.out(x)


class Memory(nn.Module):
    """States stored into a slice of a buffer that is given and returned (a key-value cache of fixed size)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(8, 8), nn.Linear(8, 16), nn.Linear(8, 5)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = self.kv(x).chunk(2, -1)
        keys, values = torch.cat((keys[:, 1:], k), 1), torch.cat((values[:, 1:], v), 1)
        weights = (self.q(x) @ keys.transpose(1, 2)).softmax(-1)
        return self.out(weights @ values), keys, values


def scripted() -> nn.Module:
    """The loop as TorchScript sees it."""
    return torch.jit.script(Loops().eval())


TEXT = torch.randint(1, WORDS, (2, 8))
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...], *tuple[str, ...]]] = {
    "tagger": (Tagger, (TEXT,), "script11", "script13 free", "dynamo18"),
    "translate": (Translate, (TEXT,), "script11", "script14 free", "dynamo18 free"),
    "encoder": (Encoder, (TEXT,), "script12", "script14 free", "dynamo18 free"),
    "encoder_norm_first": (lambda: Encoder(first=True), (TEXT,), "script17 free"),
    "both": (Both, (TEXT, TEXT[:, :6]), "script12", "script14 free", "dynamo18"),
    "perceiver": (Latents, (torch.randn(2, 30, 5),), "script12 free", "dynamo18 free"),
    "relative": (Relative, (torch.randn(2, 10, 16),), "script12 free", "dynamo18 free"),
    "linear_attention": (Linear2, (torch.randn(2, 10, 16),), "script12 free", "dynamo18 free"),
    "towers": (Search, (TEXT, TEXT), "script12", "script13 free", "dynamo18"),
    "letters": (Letters, (torch.randint(1, WORDS, (2, 4, 7)),), "script9", "script13 free"),
    "lengths": (Lengths, (torch.randn(2, 9, 6), torch.tensor([9, 4])), "script11", "script14 free"),
    "scripted": (scripted, (torch.randn(2, 8),), "script11", "script13 free"),
    "memory": (Memory, (torch.randn(2, 1, 8), torch.randn(2, 6, 8), torch.randn(2, 6, 8)), "script11", "dynamo18 free"),
}  # fmt: skip
