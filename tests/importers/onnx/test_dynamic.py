"""Dynamically quantized files: float layers on grids, which answer as onnxruntime does and lose the grids on demand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgepress.errors import UserError
from edgepress.importers.onnx import load, to_module
from edgepress.passes.strip_quantization import strip_quantization

Write = Callable[..., Path]
RNG = np.random.default_rng(5)
LAYERS = ("aten.linear.default", "aten.conv2d.default")


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def node(kind: str, inputs: str, outputs: str, domain: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), domain=domain, **attributes)


def answers(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, feeds)


def agree(path: Path, *shape: int) -> None:
    """The imported program gives what onnxruntime gives for the file, and the file keeps its layers."""
    program, x = load(path), floats(*shape)
    (expected,) = answers(path, {"x": x})
    with torch.no_grad():
        (found,) = program.module()(torch.from_numpy(x))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def perceptron(write: Write) -> Path:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a b", "s"),
        node("Relu", "s", "r"),
        node("MatMul", "r v", "y"),
    ]
    return write(nodes, {"x": ["n", 8]}, ["y"], {"w": floats(8, 16), "b": floats(16), "v": floats(16, 4)})


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_linear_layers(write: Write, tmp_path: Path, kind: QuantType, per_channel: bool) -> None:
    path = tmp_path / "q.onnx"
    quantize_dynamic(perceptron(write), path, weight_type=kind, per_channel=per_channel)
    agree(path, 3, 8)
    program = load(path)
    assert "2 activation grids, 2 weights on integer grids" in " ".join(program.history)
    plain = strip_quantization(program).program
    assert [str(n.target) for n in plain.nodes if str(n.target) in LAYERS] == ["aten.linear.default"] * 2
    assert not [n for n in plain.nodes if "quantize" in str(n.target)]


def test_a_convolution(write: Write, tmp_path: Path) -> None:
    source = write([node("Conv", "x w b", "y", pads=[1, 1, 1, 1])], {"x": ["n", 2, 6, 6]}, ["y"],
                   {"w": floats(4, 2, 3, 3), "b": floats(4)})  # fmt: skip
    quantize_dynamic(source, tmp_path / "q.onnx", weight_type=QuantType.QUInt8)
    agree(tmp_path / "q.onnx", 2, 2, 6, 6)


def test_gradients_pass_the_grids(write: Write, tmp_path: Path) -> None:
    quantize_dynamic(perceptron(write), tmp_path / "q.onnx")
    module = to_module(tmp_path / "q.onnx").module
    x = torch.randn(3, 8, requires_grad=True)
    torch.ops.edgepress.dynamic_quantize(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 8))
    assert {tuple(p.shape) for p in module.parameters()} >= {(16, 8), (16,), (4, 16)}


def test_a_quantized_embedding(write: Write, tmp_path: Path) -> None:
    nodes = [node("Gather", "e t", "r"), node("Relu", "r", "x"), node("MatMul", "x w", "y")]
    source = write(nodes, {"t": (TensorProto.INT64, ["n", "length"])}, ["y"], {"e": floats(20, 8), "w": floats(8, 3)})
    quantize_dynamic(source, tmp_path / "q.onnx")
    program, tokens = load(tmp_path / "q.onnx"), RNG.integers(0, 20, (2, 5))
    plain = strip_quantization(program).program
    assert [str(n.target) for n in plain.nodes if "embedding" in str(n.target)] == ["aten.embedding.default"]
    with torch.no_grad():
        found, stripped = (p.module()(torch.from_numpy(tokens))[0].numpy() for p in (program, plain))
    (expected,) = answers(tmp_path / "q.onnx", {"t": tokens})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert 0 < np.abs(stripped - found).max() < 0.1 * np.abs(found).max()


def test_zeros_alone_stay_zeros() -> None:
    assert torch.equal(torch.ops.edgepress.dynamic_quantize(torch.zeros(4)), torch.zeros(4))


def test_the_fused_form_of_onnxruntime(write: Write) -> None:
    weights = {"w": RNG.integers(0, 256, (8, 5)).astype(np.uint8), "s": np.float32(0.02), "z": np.uint8(120),
               "b": floats(5)}  # fmt: skip
    fused = node("DynamicQuantizeMatMul", "x w s z b", "y", "com.microsoft")
    agree(write([fused], {"x": ["n", 8]}, ["y"], weights, domains=["com.microsoft"]), 4, 8)


def test_integers_that_were_not_measured_are_multiplied_as_they_are(write: Write) -> None:
    weights = {"w": RNG.integers(-9, 9, (8, 5)).astype(np.int8), "s": np.float32(0.1), "z": np.uint8(128)}
    nodes = [
        node("QuantizeLinear", "x s z", "q"),
        node("MatMulInteger", "q w z", "i"),
        node("Cast", "i", "y", to=1),
    ]
    agree(write(nodes, {"x": ["n", 8]}, ["y"], weights), 4, 8)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("with_zeros", [False, True])
def test_weights_of_a_few_bits(write: Write, bits: int, with_zeros: bool) -> None:
    rows, columns, block = 6, 40, 16
    blocks, size = 3, block * bits // 8
    weights = {"p": RNG.integers(0, 256, (rows, blocks, size)).astype(np.uint8), "s": floats(rows * blocks)}
    if with_zeros:
        weights["z"] = RNG.integers(0, 256, (rows * (2 if bits == 4 else 3),)).astype(np.uint8)
    names = "x p s z" if with_zeros else "x p s"
    layer = node("MatMulNBits", names, "y", "com.microsoft", K=columns, N=rows, bits=bits, block_size=block)
    agree(write([layer], {"x": ["n", columns]}, ["y"], weights, domains=["com.microsoft"]), 3, columns)


def test_a_fused_form_without_its_inputs_is_refused(write: Write) -> None:
    for kind in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        path = write([node(kind, "x", "y", "com.microsoft")], {"x": [2, 8]}, ["y"], {}, domains=["com.microsoft"])
        with pytest.raises(UserError, match="cannot be computed"):
            load(path)
