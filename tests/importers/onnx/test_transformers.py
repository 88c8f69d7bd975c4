"""Blocks that onnxruntime's transformer optimizer fuses answer as onnxruntime computes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

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
