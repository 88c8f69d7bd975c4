"""Attention and embedding blocks as onnxruntime's transformer optimizer fuses them (domain com.microsoft)."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.ops.attention import rotary_embedding
from edgepress.importers.onnx.values import Unsupported, is_symbolic

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
    """Self-attention with one matrix (Q + K + V, E) for all three projections; x (B, L, E).

    A cache is one tensor (2, B, heads, S, E / heads), keys before values; what it grew to is the second output.
    """
    _refuse(past_length is not None or bool(others.get("past_present_share_buffer")), "a cache of fixed length")
    _refuse(bool(others.get("do_rotary")), "rotary embeddings inside")
    joined = F.linear(x, weight, bias)
    sizes = list(qkv_hidden_sizes) if qkv_hidden_sizes else [weight.shape[0] // 3] * 3
    q, k, v = (_heads(part, num_heads) for part in joined.split(sizes, dim=-1))
    if past is not None:
        k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
    hidden = _hidden(mask, x.shape[0], k.shape[2], mask_filter_value)
    y = _attend(q, k, v, hidden, added, scale, bool(unidirectional), mask_filter_value)
    return (y, torch.stack([k, v])) if outputs > 1 else y


def multi_head_attention(
    query: Tensor, key: Tensor | None = None, value: Tensor | None = None, bias: Tensor | None = None,
    mask: Tensor | None = None, added: Tensor | None = None, past_key: Tensor | None = None,
    past_value: Tensor | None = None, past_length: Tensor | None = None, *_: Any,
    num_heads: int, scale: float | None = None, unidirectional: int = 0, mask_filter_value: float = FILTER,
    outputs: int = 1, **__: Any,
) -> Any:  # fmt: skip
    """Attention of projected queries (B, L, E) to keys and values (B, S, E) or (B, heads, S, E / heads).

    Keys and values of a cache (B, heads, P, E / heads) come first; what they grew to are outputs 2 and 3.
    """
    _refuse(past_length is not None or outputs > 3, "a cache of fixed length" if past_length is not None else "scores")
    if key is None or value is None or query.dim() != 3:
        raise Unsupported("MultiHeadAttention", found="packed projections", expected="query, key and value apart")
    if bias is not None:
        parts = bias.split([query.shape[-1], query.shape[-1], bias.shape[0] - 2 * query.shape[-1]])
        query = query + parts[0]
        key, value = (x + b if x.dim() == 3 else x for x, b in ((key, parts[1]), (value, parts[2])))
    k, v = (x if x.dim() == 4 else _heads(x, num_heads) for x in (key, value))
    if past_key is not None and past_value is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    hidden = _hidden(mask, query.shape[0], k.shape[2], mask_filter_value)
    y = _attend(_heads(query, num_heads), k, v, hidden, added, scale, bool(unidirectional), mask_filter_value)
    return (y, k, v) if outputs > 1 else y


def group_query_attention(
    query: Tensor, key: Tensor | None, value: Tensor | None, past_key: Tensor | None, past_value: Tensor | None,
    last: Tensor, total: Any = None, cos: Tensor | None = None, sin: Tensor | None = None,
    positions: Tensor | None = None, added: Tensor | None = None, sink: Tensor | None = None, *,
    num_heads: int, kv_num_heads: int, scale: float = 0.0, softcap: float = 0.0, local_window_size: int = -1,
    do_rotary: int = 0, rotary_interleaved: int = 0, smooth_softmax: int = 0, outputs: int = 1, **_: Any,
) -> Any:  # fmt: skip
    """Causal attention of groups of query heads to shared keys, with a cache; query (B, L, heads E).

    Args:
        query: with key and value left out, all three side by side.
        past_key, past_value: (B, kv heads, P, E); the first tokens of each sample are valid, see `last`.
        last: position of each sample's last token, past included (B). total: the longest length, past included.
        cos, sin: (positions, E / 2) for the rotation of queries and keys.

    Returns:
        (y, keys, values), the latter two (B, kv heads, T, E).
    """
    _refuse(bool(smooth_softmax) or sink is not None, "a softmax with a sink")
    _refuse(outputs > 3, "scores as an output")
    q, k, v = _grouped(query, key, value, num_heads, kv_num_heads)
    length = q.shape[2]
    taken = _taken(last, length, past_key)  # (B): tokens of the cache that are valid
    places = taken[:, None] + torch.arange(length)
    if do_rotary and cos is not None and sin is not None:
        angles = places if positions is None else positions
        q, k = (rotated(x, cos, sin, angles, bool(rotary_interleaved)) for x in (q, k))
    keys, values = (_appended(past, x, taken, total) for past, x in ((past_key, k), (past_value, v)))
    y = _causal(q, keys, values, places, added, (scale, softcap, local_window_size))
    return y.transpose(1, 2).reshape(q.shape[0], length, -1), keys, values


def _grouped(
    query: Tensor, key: Tensor | None, value: Tensor | None, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(B, heads, L, E) and twice (B, kv heads, L, E)."""
    if key is None or value is None:
        width = query.shape[-1] // (heads + 2 * kv_heads)
        query, key, value = query.split([heads * width, kv_heads * width, kv_heads * width], dim=-1)
    return _heads(query, heads), _heads(key, kv_heads), _heads(value, kv_heads)


def _taken(last: Tensor, length: Any, past: Tensor | None) -> Tensor:
    """How many tokens each sample has in the cache; none in front of a prompt, also of one that is padded."""
    if past is None:
        return torch.zeros_like(last, dtype=torch.int64)
    return (last.reshape(-1).to(torch.int64) + 1 - length).clamp(min=0)


def _appended(past: Tensor | None, new: Tensor, taken: Tensor, total: Any) -> Tensor:
    """The new tokens behind the valid ones of the cache; (B, heads, P + L, E), or shorter where the total is known."""
    if past is None:
        return new
    joined, start = torch.cat([past, new], 2), past.shape[2]
    slots = torch.arange(joined.shape[2])[None, :]
    source = torch.where(slots < taken[:, None], slots, slots - taken[:, None] + start)
    source = source.clamp(max=joined.shape[2] - 1)[:, None, :, None].expand(joined.shape)
    found = torch.gather(joined, 2, source)
    if isinstance(total, np.ndarray) and not is_symbolic(total.reshape(-1)[0]) and not is_symbolic(start):
        found = found[:, :, : max(int(total.reshape(-1)[0]), start)]
    return found


def _causal(
    q: Tensor, k: Tensor, v: Tensor, places: Tensor, added: Tensor | None, how: tuple[float, float, int]
) -> Tensor:
    """softmax(cap(scale Q K^T) + bias) V over the keys up to each query's place, or the last few of them."""
    scale, cap, window = how
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) if group > 1 else x for x in (k, v))
    slots = torch.arange(k.shape[2])[None, None, :]
    unseen = slots > places[:, :, None]
    if window > 0:
        unseen = unseen | (slots <= places[:, :, None] - window)
    bias = torch.zeros(unseen.shape).masked_fill(unseen, float("-inf"))[:, None]
    bias = bias if added is None else bias + F.pad(added, (0, k.shape[2] - added.shape[-1]))
    factor = scale or 1 / math.sqrt(q.shape[-1])
    if not cap:
        return F.scaled_dot_product_attention(q, k, v, bias, scale=factor)
    scores = cap * torch.tanh((q @ k.transpose(-1, -2)) * factor / cap)
    return torch.softmax(scores + bias, -1) @ v


def rotated(x: Tensor, cos: Tensor, sin: Tensor, places: Tensor, interleaved: bool) -> Tensor:
    """Pairs of features turned by an angle for each place; x (B, heads, L, E), cos and sin (positions, width / 2)."""
    return rotary_embedding(x, cos, sin, places, interleaved=int(interleaved), rotary_embedding_dim=2 * cos.shape[-1])


def rotary_block(
    x: Tensor, positions: Tensor, cos: Tensor, sin: Tensor, *,
    interleaved: int = 0, num_heads: int = 0, rotary_embedding_dim: int = 0, scale: float = 1.0,
    is_packed_batching: int = 0,
) -> Tensor:  # fmt: skip
    """Rotary embedding with tables by position; one position is that of the first token of every sample."""
    packed = x.dim() == 3
    length = x.shape[1] if packed else x.shape[2]
    where = positions.reshape(1, 1) + torch.arange(length) if positions.dim() == 1 else positions
    where = where.expand(x.shape[0], length)
    width = 2 * cos.shape[-1]
    heads = num_heads or (x.shape[-1] // width if packed else 0)
    return rotary_embedding(x, cos, sin, where, interleaved=interleaved, num_heads=heads,
                            rotary_embedding_dim=rotary_embedding_dim)  # fmt: skip


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise Unsupported("a fused attention", found=what, expected="attention over one sequence, with a cache or not",
                          fix="export the model without it, or without the transformer optimizer")  # fmt: skip


def _heads(x: Tensor, count: int) -> Tensor:
    """(B, L, heads E) -> (B, heads, L, E)."""
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _hidden(mask: Tensor | None, batch: Any, length: Any, lowest: float) -> Tensor | None:
    """What a mask adds to scores.

    Forms: lengths (B); ends of the keys, then starts (2 B); 0/1 per key (B, S), per query and key (B, L, S); a square
    (B, 1, M, M) of which a corner is meant is refused.
    """
    if mask is None:
        return None
    if mask.dim() == 1:
        keys = torch.arange(length)[None, :]
        doubled = not is_symbolic(batch) and not is_symbolic(mask.shape[0]) and mask.shape[0] == 2 * batch
        seen = keys < (mask[:batch] if doubled else mask)[:, None]
        mask = seen & (keys >= mask[batch:, None]) if doubled else seen
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
        ahead = torch.arange(k.shape[2])[None, :] > torch.arange(q.shape[2])[:, None] + (k.shape[2] - q.shape[2])
        hidden = torch.where(ahead, lowest, 0.0) + (0.0 if hidden is None else hidden)
    bias = hidden if added is None else added if hidden is None else hidden + added
    y = F.scaled_dot_product_attention(q, k, v, bias, scale=factor)
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)


OPERATORS: Operators = {
    "com.microsoft::EmbedLayerNormalization": Operator(embed_layer_norm, weights=(2, 3, 4, 5, 6)),
    "edgepress::Attention": Operator(fused_attention, weights=(1, 2), counts_outputs=True),
    "com.microsoft::Attention": Operator(attention_block, weights=(1, 2), counts_outputs=True),
    "com.microsoft::MultiHeadAttention": Operator(multi_head_attention, weights=(3,), counts_outputs=True),
    "com.microsoft::GroupQueryAttention": Operator(group_query_attention, known=(6,), counts_outputs=True),
    "com.microsoft::RotaryEmbedding": Operator(rotary_block),
}
