"""Operators of onnxruntime's own domain, one node each: the imported node answers as onnxruntime does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper

from edgepress.errors import UserError
from edgepress.importers.onnx import load

Write = Callable[..., Path]
RNG = np.random.default_rng(7)
BATCH, LENGTH, WIDTH, HEADS = 2, 5, 12, 3
HEAD = WIDTH // HEADS


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def bytes_(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def small(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(np.int8)


def names(text: str) -> list[str]:
    return ["" if name == "-" else name for name in text.split()]


class Node:
    """One node: its inputs as text ("-" is left out), what is fed, what is stored, names of open axes."""

    def __init__(self, kind: str, inputs: str, feeds: dict, stored: dict | None = None, outputs: str = "y",
                 axes: dict | None = None, **attributes: Any) -> None:  # fmt: skip
        self.kind, self.inputs, self.outputs, self.attributes = kind, names(inputs), names(outputs), attributes
        self.feeds, self.stored, self.axes = feeds, stored or {}, axes or {}

    def write(self, write: Write) -> Path:
        node = helper.make_node(self.kind, self.inputs, self.outputs, domain="com.microsoft", **self.attributes)
        inputs = {
            name: (helper.np_dtype_to_tensor_dtype(value.dtype), list(self.axes.get(name, value.shape)))
            for name, value in self.feeds.items()
        }
        return write([node], inputs, self.outputs, self.stored, domains=["com.microsoft"])


def outputs(path: Path, feeds: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(ours, onnxruntime's)."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    program = load(path)
    with torch.no_grad():
        found = program.module()(*(torch.from_numpy(feeds[name]) for name in program.input_names))
    return [value.numpy() for value in found], session.run(None, feeds)


def assert_agree(node: Node, write: Write, count: int | None = None) -> None:
    ours, theirs = outputs(node.write(write), node.feeds)
    for a, b in list(zip(ours, theirs, strict=True))[:count]:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


GRIDS = {"s1": np.float32(0.02), "z1": np.uint8(120), "s2": np.float32(0.03), "z2": np.uint8(128),
         "s3": np.float32(0.05), "z3": np.uint8(100)}  # fmt: skip
EXACT = {
    "rows by a mask": Node("QLinearWhere", "c x s1 z1 v s2 z2 s3 z3",
                           {"c": RNG.random((BATCH, 6)) > 0.5, "x": bytes_(BATCH, 6)}, {**GRIDS, "v": bytes_(6)}),
    "channels last, mean": Node("QLinearGlobalAveragePool", "x s1 z1 s3 z3", {"x": bytes_(BATCH, 8, 8, 4)}, GRIDS,
                                channels_last=1),
    "channels last, maximum": Node("NhwcMaxPool", "x", {"x": bytes_(BATCH, 8, 8, 4)}, kernel_shape=[2, 2],
                                   strides=[2, 2]),
    "product of turned batches, left": Node("FusedMatMul", "a b", {"a": floats(5, 3, 4, 6), "b": floats(3, 4, 6, 7)},
                                            transBatchA=1),
    "product of turned batches, both ways": Node("FusedMatMul", "a b",
                                                 {"a": floats(6, 3, 4, 5), "b": floats(3, 4, 6, 7)},
                                                 transBatchA=1, transA=1),
    "product of turned batches, right": Node("FusedMatMul", "a b", {"a": floats(3, 4, 5, 6), "b": floats(6, 3, 4, 7)},
                                             transBatchB=1, alpha=0.5),
    "product, turned": Node("TransposeMatMul", "a b", {"a": floats(3, 6, 5), "b": floats(3, 6, 7)}, transA=1),
    "inverse": Node("Inverse", "a", {"a": floats(3, 4, 4) + 3 * np.eye(4, dtype=np.float32)}),
    "distance": Node("CDist", "a b", {"a": floats(3, 4), "b": floats(5, 4)}, metric="euclidean"),
    "squared distance": Node("CDist", "a b", {"a": floats(3, 4), "b": floats(5, 4)}, metric="sqeuclidean"),
    "axis": Node("ExpandDims", "a x", {"a": floats(3, 4)}, {"x": np.array(-1, np.int32)}),
    "windows": Node("UnfoldTensor", "a", {"a": floats(3, 10)}, size=4, step=2),
    "triangle": Node("Trilu", "a", {"a": floats(2, 5, 5)}, upper=0),
    "padding": Node("Pad", "a p v", {"a": floats(2, 5)}, {"p": np.array([0, 1, 0, 2]), "v": np.float32(1.5)}),
    "places": Node("GatherND", "a i", {"a": floats(4, 5)}, {"i": np.array([[0, 1], [2, 3]])}),
    "16 bits": Node("QuantizeLinear", "x s1 z", {"x": floats(3, 4)}, {"s1": GRIDS["s1"], "z": np.uint16(100)}),
    "16 bits back": Node("DequantizeLinear", "x s1 z", {"x": bytes_(3, 4).astype(np.uint16)},
                         {"s1": GRIDS["s1"], "z": np.uint16(100)}),
    "table of 4 bits": Node("GatherBlockQuantized", "t i s", {"i": RNG.integers(0, 10, (2, 3))},
                            {"t": bytes_(10, 16), "s": floats(10, 2)}, block_size=16, bits=4),
    "table of 4 bits with middles": Node("GatherBlockQuantized", "t i s z", {"i": RNG.integers(0, 10, (2, 3))},
                                         {"t": bytes_(10, 16), "s": floats(10, 2), "z": bytes_(10, 1)},
                                         block_size=16, bits=4),
    "rotation": Node("RotaryEmbedding", "x p c s",
                     {"x": floats(2, 3, 5, 8), "p": np.array([[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]])},
                     {"c": floats(16, 4), "s": floats(16, 4)}),
    "rotation of neighbours from a place on": Node("RotaryEmbedding", "x p c s",
                                                   {"x": floats(2, 5, 24), "p": np.array([3])},
                                                   {"c": floats(16, 4), "s": floats(16, 4)}, interleaved=1),
    "rotation of a part": Node("RotaryEmbedding", "x p c s", {"x": floats(2, 3, 5, 8), "p": np.array([0])},
                               {"c": floats(16, 2), "s": floats(16, 2)}, num_heads=3, rotary_embedding_dim=4),
    "embeddings": Node("QEmbedLayerNormalization", "t g w p s ga be m ws ps ss gs bs wz pz sz gz bz",
                       {"t": RNG.integers(0, 20, (2, 5)).astype(np.int32), "m": np.ones((2, 5), np.int32),
                        "g": RNG.integers(0, 2, (2, 5)).astype(np.int32)},
                       {"w": bytes_(20, WIDTH), "p": bytes_(9, WIDTH), "s": bytes_(2, WIDTH), "ga": bytes_(WIDTH),
                        "be": bytes_(WIDTH), **{f"{k}s": np.float32(0.02) for k in "wpsgb"},
                        **{f"{k}z": np.uint8(120) for k in "wpsgb"}}, "y count", epsilon=1e-5),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_one_node(case: str, write: Write) -> None:
    assert_agree(EXACT[case], write)


# Sums of products of integers end between two steps of 8 bits now and then.
ONE_STEP = {
    "convolution": Node("QLinearConv", "x s1 z1 w s2 z2 s3 z3 b", {"x": bytes_(BATCH, 8, 8, 4)},
                        {**GRIDS, "w": small(6, 4, 3, 3), "z2": np.int8(0),
                         "b": RNG.integers(-99, 99, 6).astype(np.int32)}, channels_last=1, pads=[1, 1, 1, 1]),
    "depthwise": Node("QLinearConv", "x s1 z1 w s2 z2 s3 z3", {"x": bytes_(BATCH, 8, 8, 4)},
                      {**GRIDS, "w": small(4, 1, 3, 3), "z2": np.int8(0)}, channels_last=1, group=4),
    "mean of windows": Node("QLinearAveragePool", "x s1 z1 s3 z3", {"x": bytes_(BATCH, 8, 8, 4)}, GRIDS,
                            channels_last=1, kernel_shape=[2, 2], strides=[2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("case", ONE_STEP)
def test_channels_last(case: str, write: Write) -> None:
    (ours,), (theirs,) = outputs(ONE_STEP[case].write(write), ONE_STEP[case].feeds)
    steps = np.abs(ours.astype(int) - theirs.astype(int))
    assert ours.shape == theirs.shape and steps.max() <= 1 and steps.mean() < 0.05 and theirs.std() > 1


# -- attention on integers ---------------------------------------------------------------------------------------------


def quantized_attention(per_column: bool, **attributes: Any) -> Node:
    scale = np.abs(floats(3 * WIDTH)) * 0.01 + 0.005 if per_column else np.float32(0.01)
    zero = np.zeros(3 * WIDTH, np.int8) if per_column else np.int8(3)
    stored = {"w": small(WIDTH, 3 * WIDTH), "b": floats(3 * WIDTH), "xs": np.float32(0.02), "ws": scale,
              "xz": np.uint8(120), "wz": zero}  # fmt: skip
    feeds = {"x": bytes_(BATCH, LENGTH, WIDTH)}
    return Node("QAttention", "x w b xs ws - xz wz", feeds, stored, num_heads=HEADS, **attributes)


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_on_integers(write: Write, per_column: bool, causal: int) -> None:
    node = quantized_attention(per_column, unidirectional=causal)
    assert_agree(node, write)
    program = load(node.write(write))
    assert any(str(n.target) == "aten.linear.default" for n in program.nodes)
    assert max((tuple(v.shape) for v in program.exported.state_dict.values()), key=len) == (3 * WIDTH, WIDTH)


def test_a_matrix_that_is_computed_is_refused(write: Write) -> None:
    node = quantized_attention(False)
    node.feeds["w"] = node.stored.pop("w")
    with pytest.raises(UserError, match="QAttention"):
        load(node.write(write))


# -- caches ------------------------------------------------------------------------------------------------------------

OPEN = {name: ["batch", "sequence", WIDTH] for name in "xqkv"}
CACHE = ["batch", HEADS, "past_sequence", HEAD]


def test_attention_with_a_cache(write: Write) -> None:
    feeds = {"x": floats(BATCH, LENGTH, WIDTH), "past": floats(2, BATCH, HEADS, 4, HEAD)}
    stored = {"w": floats(WIDTH, 3 * WIDTH), "b": floats(3 * WIDTH)}
    node = Node("Attention", "x w b - past", feeds, stored, "y present", {**OPEN, "past": [2, *CACHE]},
                num_heads=HEADS, unidirectional=1)  # fmt: skip
    assert_agree(node, write)


def test_attention_with_a_cache_and_padding_in_front(write: Write) -> None:
    feeds = {"x": floats(BATCH, LENGTH, WIDTH), "m": np.array([4, 5, 1, 0], np.int32)}
    stored = {"w": floats(WIDTH, 3 * WIDTH), "b": floats(3 * WIDTH)}
    assert_agree(Node("Attention", "x w b m", feeds, stored, "y present", num_heads=HEADS), write)


def test_multi_head_attention_with_a_cache(write: Write) -> None:
    feeds = {**{name: floats(BATCH, LENGTH, WIDTH) for name in "qkv"}, "pk": floats(BATCH, HEADS, 3, HEAD),
             "pv": floats(BATCH, HEADS, 3, HEAD)}  # fmt: skip
    node = Node("MultiHeadAttention", "q k v b - - pk pv", feeds, {"b": floats(3 * WIDTH)}, "y nk nv",
                {**OPEN, "pk": CACHE, "pv": CACHE}, num_heads=HEADS, unidirectional=1)  # fmt: skip
    assert_agree(node, write)


def groups(length: int, past: int, ends: list[int], inputs: str = "q k v pk pv s t", **attributes: Any) -> Node:
    """4 query heads on 2 key heads of 16; `ends`: how many tokens each sample has, the cache included."""
    batch = len(ends)
    feeds = {"q": floats(batch, length, 64), "k": floats(batch, length, 32), "v": floats(batch, length, 32),
             "pk": floats(batch, 2, past, 16), "pv": floats(batch, 2, past, 16), "s": np.array(ends, np.int32) - 1,
             "t": np.array(max(ends), np.int32)}  # fmt: skip
    angles = floats(64, 8)
    tables = {"cos": np.cos(angles), "sin": np.sin(angles)} if "cos" in inputs else {}
    axes = {**{name: ["batch", "sequence", feeds[name].shape[2]] for name in "qkv"},
            **{name: ["batch", 2, "past", 16] for name in ("pk", "pv")}, "s": ["batch"]}  # fmt: skip
    return Node("GroupQueryAttention", inputs, feeds, tables, "y nk nv", axes, num_heads=4, kv_num_heads=2,
                **attributes)  # fmt: skip


ROTARY = "q k v pk pv s t cos sin"


@pytest.mark.parametrize("node", [
    groups(5, 0, [5, 5]), groups(1, 6, [7, 7]), groups(3, 4, [7]), groups(6, 0, [6, 6], local_window_size=3),
    groups(6, 0, [6, 6], softcap=2.0), groups(1, 6, [7, 7], ROTARY, do_rotary=1),
    groups(5, 0, [5, 5], ROTARY, do_rotary=1, rotary_interleaved=1),
], ids=["prompt", "step", "chunk", "window", "cap", "rotated", "rotated neighbours"])  # fmt: skip
def test_groups_of_queries(write: Write, node: Node) -> None:
    assert_agree(node, write)


def test_groups_of_queries_with_caches_of_different_lengths(write: Write) -> None:
    assert_agree(groups(1, 6, [7, 5]), write, count=1)  # behind the end of the shorter one the cache is undefined


def test_groups_of_queries_packed(write: Write) -> None:
    feeds = {"q": floats(BATCH, 5, 128), "s": np.array([4, 4], np.int32), "t": np.array(5, np.int32)}
    node = Node("GroupQueryAttention", "q - - - - s t", feeds, {}, "y nk nv", num_heads=4, kv_num_heads=2)
    assert_agree(node, write)


# -- a recurrent layer on integers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_layer_on_integers(write: Write, directions: int) -> None:
    hidden, scales = 5, np.full((directions, 20), 0.01, np.float32)
    zeros = np.zeros((directions, 20), np.int8)
    stored = {"w": small(directions, 6, 20), "r": small(directions, hidden, 20), "b": floats(directions, 40),
              "ws": scales, "wz": zeros, "rs": scales * 0.8, "rz": zeros}  # fmt: skip
    node = Node("DynamicQuantizeLSTM", "x w r b - - - - ws wz rs rz", {"x": floats(7, BATCH, 6)}, stored, "y h c",
                {"x": ["time", "batch", 6]}, hidden_size=hidden,
                direction=["forward", "bidirectional"][directions - 1])  # fmt: skip
    path = node.write(write)
    ours, theirs = outputs(path, node.feeds)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and np.abs(a - b).max() < 0.02 * np.abs(b).max()
    program = load(path)
    assert any(str(n.target) == "aten.lstm.input" for n in program.nodes)
    assert "states of DynamicQuantizeLSTM" in " ".join(program.history)


def test_what_was_saved_for_one_processor_says_so(write: Write) -> None:
    node = helper.make_node("ReorderInput", ["x"], ["y"], domain="com.microsoft.nchwc")
    path = write([node], {"x": [1, 8, 4, 4]}, ["y"], {}, domains=["com.microsoft.nchwc"])
    with pytest.raises(UserError, match="one processor"):
        load(path)
