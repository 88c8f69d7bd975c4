"""Transformers: an encoder of text, a vision transformer, a small decoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2): (N, T, width) -> (N, T, width)."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.heads, self.size, self.causal = heads, width // heads, causal
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = projected.unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and two dense layers, each with a shortcut; normalized after the addition, or before the block."""

    def __init__(self, width: int, heads: int, inner: int, *, norm_first: bool = False, causal: bool = False) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, causal)
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm_first = norm_first

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_first:
            x = x + self.self_attn(self.norm1(x))
            return x + self._mix(self.norm2(x))
        x = self.norm1(x + self.self_attn(x))
        return self.norm2(x + self._mix(x))

    def _mix(self, x: Tensor) -> Tensor:
        return self.linear2(F.relu(self.linear1(x)))


class Encoder(nn.Module):
    """Token numbers (N, T) -> (N, classes), from the mean over positions. BERT's layers without its pretraining."""

    def __init__(self, words: int, length: int, width: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(Layer(width, heads, 2 * width) for _ in range(layers)))
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layers(self.norm(self.words(tokens) + self.positions)).mean(1))


def encoder(words: int = 3000, length: int = 16, width: int = 48, heads: int = 4, layers: int = 2, classes: int = 6):
    """A small BERT-like encoder."""
    return Encoder(words, length, width, heads, layers, classes)


class Layers(nn.Module):
    """A stack, named as in PyTorch's own encoder."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021: (N, 3, 32, 32) -> (N, 10), patches of 4x4, class token."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 65, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 4, 4)})
        self.transformer = Layers([Layer(width, heads, 2 * width) for _ in range(layers)])
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.pos_embed
        return self.mlp_head(self.transformer(x)[:, 0])


def vision_transformer(width: int = 128, heads: int = 8, layers: int = 6) -> nn.Module:
    """0.81 million parameters at the defaults."""
    return VisionTransformer(width, heads, layers)


class Decoder(nn.Module):
    """Token numbers (N, T) -> (N, T, words) logits of the next token, as GPT: causal attention, norms first."""

    def __init__(self, words: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, length, width))
        self.layers = nn.Sequential(
            *(Layer(width, heads, 4 * width, norm_first=True, causal=True) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.words(tokens) + self.positions)))


def decoder(words: int = 67, length: int = 64, width: int = 48, heads: int = 4, layers: int = 2) -> nn.Module:
    """A small language model over characters."""
    return Decoder(words, length, width, heads, layers)
