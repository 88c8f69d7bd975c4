"""Blocks that onnxruntime's transformer optimizer fuses answer as onnxruntime computes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from edgepress.importers.onnx import Unsupported, load

Write = Callable[..., Path]
RNG = np.random.default_rng(3)
BATCH, LENGTH, WIDTH, HEADS = 2, 5, 12, 3


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def agree(path: Path, feeds: dict[str, np.ndarray]) -> None:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    program = load(path)
    with torch.no_grad():
        found = program.module()(*(torch.from_numpy(feeds[name]) for name in program.input_names))
    for ours, theirs in zip(found, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def block(kind: str, inputs: str, outputs: str = "y", **attributes: object) -> list:
    names = ["" if name == "-" else name for name in inputs.split()]
    return [helper.make_node(kind, names, outputs.split(), domain="com.microsoft", **attributes)]


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}, {"scale": 0.3},
                                        {"qkv_hidden_sizes": [12, 12, 6]}], ids=str)  # fmt: skip
def test_attention(write: Write, attributes: dict) -> None:
    total = sum(attributes.get("qkv_hidden_sizes", [WIDTH] * 3))
    weights = {"w": floats(WIDTH, total), "b": floats(total)}
    nodes = block("Attention", "x w b", num_heads=HEADS, **attributes)
    path = write(nodes, {"x": ["batch", "sequence", WIDTH]}, ["y"], weights, domains=["com.microsoft"])
    agree(path, {"x": floats(BATCH, LENGTH, WIDTH)})
    assert any(str(n.target) == "aten.linear.default" for n in load(path).nodes)


@pytest.mark.parametrize("mask", [np.array([3, 5]), np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]])], ids=["1d", "2d"])
def test_attention_with_a_mask(write: Write, mask: np.ndarray) -> None:
    shape = ["batch"] if mask.ndim == 1 else ["batch", "sequence"]
    inputs = {"x": ["batch", "sequence", WIDTH], "m": (TensorProto.INT32, shape)}
    weights = {"w": floats(WIDTH, 3 * WIDTH), "b": floats(3 * WIDTH)}
    path = write(block("Attention", "x w b m", num_heads=HEADS), inputs, ["y"], weights, domains=["com.microsoft"])
    agree(path, {"x": floats(BATCH, LENGTH, WIDTH), "m": mask.astype(np.int32)})


def test_a_cache_of_fixed_length_is_refused(write: Write) -> None:
    weights = {"w": floats(WIDTH, 3 * WIDTH), "b": floats(3 * WIDTH), "p": floats(2, 1, HEADS, 8, WIDTH // HEADS)}
    nodes = block("Attention", "x w b - p", "y present", num_heads=HEADS, past_present_share_buffer=1)
    path = write(nodes, {"x": [1, LENGTH, WIDTH]}, ["y", "present"], weights, domains=["com.microsoft"])
    with pytest.raises(Unsupported, match="fixed length"):
        load(path)


def test_multi_head_attention_with_biases(write: Write) -> None:
    axes = ["batch", "sequence", WIDTH]
    nodes = block("MultiHeadAttention", "q k v b", num_heads=HEADS)
    path = write(nodes, {"q": axes, "k": axes, "v": axes}, ["y"], {"b": floats(3 * WIDTH)}, domains=["com.microsoft"])
    agree(path, {name: floats(BATCH, LENGTH, WIDTH) for name in "qkv"})


def test_embeddings(write: Write) -> None:
    tokens = (TensorProto.INT32, ["batch", "sequence"])
    weights = {"w": floats(20, WIDTH), "p": floats(9, WIDTH), "s": floats(2, WIDTH), "g": floats(WIDTH),
               "b": floats(WIDTH)}  # fmt: skip
    nodes = block("EmbedLayerNormalization", "t k w p s g b m", "y count", epsilon=1e-5)
    path = write(nodes, {"t": tokens, "k": tokens, "m": tokens}, ["y", "count"], weights, domains=["com.microsoft"])
    feeds = {"t": RNG.integers(0, 20, (BATCH, LENGTH)), "k": RNG.integers(0, 2, (BATCH, LENGTH)),
             "m": np.tril(np.ones((BATCH, LENGTH)), 2)}  # fmt: skip
    agree(path, {name: value.astype(np.int32) for name, value in feeds.items()})


class Decoder(torch.nn.Module):
    """One layer of causal attention with a cache: (tokens, mask, keys, values) -> (scores, keys, values)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = torch.nn.Embedding(20, 16), torch.nn.Embedding(64, 16)
        self.joined, self.head = torch.nn.Linear(16, 48), torch.nn.Linear(16, 20)

    def forward(self, tokens: Tensor, mask: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, ...]:
        batch, length = tokens.shape
        past = past_k.shape[2]
        places = (mask.long().cumsum(-1) - 1)[:, past:].clamp(min=0)
        parts = self.joined(self.words(tokens) + self.places(places)).chunk(3, -1)
        q, k, v = (part.view(batch, length, 2, 8).transpose(1, 2) for part in parts)
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        total = k.shape[2]
        seen = torch.ones(total, total, dtype=torch.bool).tril()[past:total]
        bias = torch.zeros(batch, 1, length, total).masked_fill(~seen, -1e4).masked_fill(mask[:, None, None] == 0, -1e4)
        y = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5 + bias, -1) @ v
        return self.head(y.transpose(1, 2).reshape(batch, length, 16)), k, v


@pytest.mark.parametrize("total", ["past_sequence_length + sequence_length", "total_sequence_length", "mask_length"])
def test_a_decoder_with_a_cache_keeps_its_axes_open(tmp_path: Path, total: str) -> None:
    torch.manual_seed(0)
    cache = {0: "batch", 2: "past_sequence_length"}
    axes = {"tokens": {0: "batch", 1: "sequence_length"}, "mask": {0: "batch", 1: total}, "k": cache, "v": cache}
    torch.onnx.export(Decoder().eval(), decoder_inputs(2, 3, 4), str(tmp_path / "d.onnx"), input_names=list(axes),
                      output_names=["y", "nk", "nv"], dynamic_axes=axes, opset_version=14, dynamo=False)  # fmt: skip
    program = load(tmp_path / "d.onnx").module()
    session = onnxruntime.InferenceSession(tmp_path / "d.onnx")
    for sizes in ((2, 3, 4), (1, 1, 7), (3, 5, 2)):
        given = decoder_inputs(*sizes)
        feeds = dict(zip(axes, (value.numpy() for value in given), strict=True))
        with torch.no_grad():
            found = program(*given)
        for ours, theirs in zip(found, session.run(None, feeds), strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def decoder_inputs(batch: int, length: int, past: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(batch)
    tokens = torch.randint(0, 20, (batch, length), generator=draw)
    cache = torch.randn(2, batch, 2, past, 8, generator=draw)
    return tokens, torch.ones(batch, length + past, dtype=torch.int64), cache[0], cache[1]
