"""Attention and embedding blocks as onnxruntime's transformer optimizer fuses them (domain com.microsoft)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import Unsupported

FILTER = -10000.0
"""What hidden scores are lowered by, unless the node says otherwise."""


def embed_layer_norm(
    tokens: Tensor, segments: Tensor | None, words: Tensor, places: Tensor, kinds: Tensor | None,
    gamma: Tensor, beta: Tensor, mask: Tensor | None = None, positions: Tensor | None = None, *,
    epsilon: float = 1e-12, mask_index_type: int = 1,
) -> Any:  # fmt: skip
    """Layer normalisation of word, position and segment embeddings; (B, L, E), tokens per sample, their sum."""
    where = torch.arange(tokens.shape[1])[None, :] if positions is None else positions
    total = words[tokens.to(torch.int64)] + places[where.to(torch.int64)]
    if kinds is not None and segments is not None:
        total = total + kinds[segments.to(torch.int64)]
    count = torch.zeros(tokens.shape[0]) if mask is None else mask.sum(1)
    return F.layer_norm(total, total.shape[-1:], gamma, beta, epsilon), count.to(torch.int32), total


def attention_block(x: Tensor, weight: Tensor, *inputs: Any, **attributes: Any) -> Any:
    """As `fused_attention`, with the matrix as the file stores it: (E, Q + K + V)."""
    return fused_attention(x, weight.t(), *inputs, **attributes)


def fused_attention(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, mask: Tensor | None = None, past: Tensor | None = None,
    added: Tensor | None = None, past_length: Tensor | None = None, *,
    num_heads: int, unidirectional: int = 0, scale: float | None = None, mask_filter_value: float = FILTER,
    qkv_hidden_sizes: Any = None, outputs: int = 1, **others: Any,
) -> Any:  # fmt: skip
    """Self-attention with one matrix (Q + K + V, E) for all three projections; x (B, L, E)."""
    _refuse(past is not None or past_length is not None or outputs > 1, "a key/value cache")
    _refuse(bool(others.get("do_rotary")), "rotary embeddings inside")
    joined = F.linear(x, weight, bias)
    sizes = list(qkv_hidden_sizes) if qkv_hidden_sizes else [weight.shape[0] // 3] * 3
    q, k, v = (_heads(part, num_heads) for part in joined.split(sizes, dim=-1))
    hidden = _hidden(mask, x.shape[1], mask_filter_value)
    return _attend(q, k, v, hidden, added, scale, bool(unidirectional), mask_filter_value)


def multi_head_attention(
    query: Tensor, key: Tensor | None = None, value: Tensor | None = None, bias: Tensor | None = None,
    mask: Tensor | None = None, added: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, *,
    num_heads: int, scale: float | None = None, unidirectional: int = 0, mask_filter_value: float = FILTER,
    outputs: int = 1, **_: Any,
) -> Any:  # fmt: skip
    """Attention of projected queries (B, L, E) to keys and values (B, S, E) or (B, heads, S, E / heads)."""
    _refuse(past_key is not None or past_value is not None or outputs > 1, "a key/value cache")
    if key is None or value is None or query.dim() != 3:
        raise Unsupported("MultiHeadAttention", found="packed projections", expected="query, key and value apart")
    if bias is not None:
        parts = bias.split([query.shape[-1], query.shape[-1], bias.shape[0] - 2 * query.shape[-1]])
        query = query + parts[0]
        key, value = (x + b if x.dim() == 3 else x for x, b in ((key, parts[1]), (value, parts[2])))
    k, v = (x if x.dim() == 4 else _heads(x, num_heads) for x in (key, value))
    hidden = _hidden(mask, k.shape[2], mask_filter_value)
    return _attend(_heads(query, num_heads), k, v, hidden, added, scale, bool(unidirectional), mask_filter_value)


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise Unsupported("a fused attention", found=what, expected="attention over one sequence",
                          fix="export the model without a cache, or without the transformer optimizer")  # fmt: skip


def _heads(x: Tensor, count: int) -> Tensor:
    """(B, L, heads E) -> (B, heads, L, E)."""
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _hidden(mask: Tensor | None, length: Any, lowest: float) -> Tensor | None:
    """What a mask adds to scores: from lengths (B), from 0/1 per key (B, S), or per query and key (B, L, S)."""
    if mask is None:
        return None
    if mask.dim() == 1:
        mask = torch.arange(length)[None, :] < mask[:, None]
    if mask.dim() > 3:
        raise Unsupported("a fused attention", found=f"a mask of {mask.dim()} axes", expected="1 to 3")
    spread = mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
    return torch.where(spread != 0, 0.0, lowest)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None, added: Tensor | None,
    scale: float | None, causal: bool, lowest: float,
) -> Tensor:  # fmt: skip
    """softmax(scale Q K^T + mask) V, heads side by side again."""
    factor = scale or 1 / math.sqrt(q.shape[-1])  # 0 stands for the usual one
    if causal:
        ahead = torch.arange(k.shape[2])[None, :] > torch.arange(q.shape[2])[:, None]
        hidden = torch.where(ahead, lowest, 0.0) + (0.0 if hidden is None else hidden)
    bias = hidden if added is None else added if hidden is None else hidden + added
    y = F.scaled_dot_product_attention(q, k, v, bias, scale=factor)
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)


OPERATORS: Operators = {
    "com.microsoft::EmbedLayerNormalization": Operator(embed_layer_norm, weights=(2, 3, 4, 5, 6)),
    "edgepress::Attention": Operator(fused_attention, weights=(1, 2), counts_outputs=True),
    "com.microsoft::Attention": Operator(attention_block, weights=(1, 2), counts_outputs=True),
    "com.microsoft::MultiHeadAttention": Operator(multi_head_attention, weights=(3,), counts_outputs=True),
}
