"""Attention, rotary embeddings."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgepress.importers.onnx.entry import Operator, Operators
from edgepress.importers.onnx.values import torch_dtype


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_k: Tensor | None = None,
    past_v: Tensor | None = None,
    valid: Tensor | None = None,
    *,
    q_num_heads: int | None = None,
    kv_num_heads: int | None = None,
    scale: float | None = None,
    is_causal: int = 0,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    qk_matmul_output_mode: int = 0,
    left_window_size: int = -1,
    right_window_size: int = -1,
    outputs: int = 1,
) -> Any:
    """softmax(scale Q K^T + mask) V over heads, with a key/value cache.

    Q, K, V are (B, heads, L, E) or (B, L, heads E); `valid` counts the keys that are not padding, per sample.
    """
    packed = q.dim() == 3
    if packed:
        q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    k = k if past_k is None else torch.cat([past_k, k], dim=2)
    v = v if past_v is None else torch.cat([past_v, v], dim=2)
    right = 0 if is_causal else right_window_size
    bias = _bias(q, k, mask, past_k, valid, (left_window_size, right))
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if softcap == 0.0 and outputs < 4 and softmax_precision in (None, 1):
        y = _plain(q, k, v, bias, factor)
        scores = None
    else:
        y, scores = _explicit(q, k, v, bias, factor, softcap, softmax_precision, qk_matmul_output_mode)
    if packed:
        y = y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)
    return y, k, v, scores


def _heads(x: Tensor, count: Any) -> Tensor:
    """(B, L, heads E) -> (B, heads, L, E)."""
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def _plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    return F.scaled_dot_product_attention(q, _repeated(k, q), _repeated(v, q), bias, scale=scale)


def _repeated(x: Tensor, q: Tensor) -> Tensor:
    """Heads shared by groups of queries, once per query head."""
    return x if x.shape[1] == q.shape[1] else x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def _bias(
    q: Tensor, k: Tensor, mask: Tensor | None, past: Tensor | None, valid: Tensor | None, window: tuple[int, int]
) -> Tensor | None:
    """What is added to the scores: -inf where a key may not be seen. (B or 1, heads or 1, L, S)."""
    total, length = k.shape[2], q.shape[2]
    bias: Tensor | None = None
    if mask is not None:
        bias = _additive(mask, q.dtype)
        if bias.shape[-1] < total:
            bias = F.pad(bias, (0, total - bias.shape[-1]), value=float("-inf"))
    keys = torch.arange(total)
    left, right = window
    if right >= 0:
        bias = _forbid(bias, keys[None, :] > _query_positions(length, past, valid) + right, q.dtype)
    if left >= 0:
        bias = _forbid(bias, keys[None, :] < _query_positions(length, past, valid) - left, q.dtype)
    if valid is not None:
        bias = _forbid(bias, keys[None, None, None, :] >= valid[:, None, None, None], q.dtype)
    return bias


def _query_positions(length: Any, past: Tensor | None, valid: Tensor | None) -> Tensor:
    """Where each query stands among the keys: after the past, or at the end of the valid keys."""
    rows = torch.arange(length)[:, None]
    if past is not None:
        return rows + past.shape[2]
    return rows if valid is None else rows + (valid[:, None, None, None] - length)


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))


def _forbid(bias: Tensor | None, hidden: Tensor, dtype: torch.dtype) -> Tensor:
    blocked = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, float("-inf"))
    return blocked if bias is None else bias + blocked


def _explicit(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, softcap: float, precision: int | None, mode: int
) -> tuple[Tensor, Tensor]:
    """Step by step; `mode` picks which intermediate is the fourth output."""
    root = math.sqrt(scale)
    scores = (q * root) @ (_repeated(k, q) * root).transpose(-1, -2)
    stages = {0: scores}
    stages[1] = scores = softcap * torch.tanh(scores / softcap) if softcap else scores
    stages[2] = scores = scores if bias is None else scores + bias
    held = scores if precision is None else scores.to(torch_dtype(precision))
    shares = torch.softmax(held, -1).to(q.dtype)
    shares = torch.where(shares.isnan(), 0.0, shares)
    stages[3] = shares
    return shares @ _repeated(v, q), stages[mode]


def rotary_embedding(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Rotate pairs of features by an angle per position; x (B, heads, L, E) or (B, L, heads E)."""
    packed = x.dim() == 3
    held = x.reshape(x.shape[0], x.shape[1], num_heads, -1) if packed else x.transpose(1, 2)  # (B, L, heads, E)
    width = rotary_embedding_dim or held.shape[-1]
    turned, kept = held[..., :width], held[..., width:]
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)  # (B, L, 1, width / 2)
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, dim=-1)
    real, imaginary = a * cos - b * sin, a * sin + b * cos
    if interleaved:
        rotated = torch.stack([real, imaginary], dim=-1).reshape(turned.shape)
    else:
        rotated = torch.cat([real, imaginary], dim=-1)
    result = torch.cat([rotated, kept], dim=-1) if width < held.shape[-1] else rotated
    return result.reshape(x.shape) if packed else result.transpose(1, 2)


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    q_num_heads: int,
    kv_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
    chunk_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Recurrent attention, token by token: S = exp(g) S + beta k (v - S^T k)^T, o = scale q^T S (terms by rule)."""
    heads = kv_num_heads
    q, k, v = _split_heads(q, q_num_heads), _split_heads(k, heads), _split_heads(v, heads)  # (B, T, H, D)
    memory = torch.zeros(k.shape[0], heads, k.shape[3], v.shape[3]) if state is None else state.float()
    factor = scale or 1 / k.shape[3] ** 0.5
    outputs = []
    for t in range(q.shape[1]):
        key, value = k[:, t].float(), v[:, t].float()
        if decay is not None and update_rule.startswith("gated"):
            memory = memory * torch.exp(decay[:, t].float().reshape(k.shape[0], heads, -1, 1))
        if beta is not None and update_rule.endswith("delta"):
            value = value - torch.einsum("bhkv,bhk->bhv", memory, key)
            value = value * beta[:, t].float().unsqueeze(-1)
        memory = memory + key.unsqueeze(-1) * value.unsqueeze(-2)
        read = memory.repeat_interleave(q_num_heads // heads, dim=1)
        outputs.append(factor * torch.einsum("bhk,bhkv->bhv", q[:, t].float(), read))
    y = torch.stack(outputs, 1).reshape(q.shape[0], q.shape[1], -1)
    return y.to(q.dtype), memory.to(q.dtype if state is None else state.dtype)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1)


OPERATORS: Operators = {
    "Attention": Operator(attention, counts_outputs=True),
    "LinearAttention": Operator(linear_attention),
    "RotaryEmbedding": Operator(rotary_embedding),
}
