"""What TensorRT would stumble over, each on a graph of a few nodes; and on what edgepress itself exports."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgepress import ir
from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.exporters.tensorrt import Profile, lint
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

IMAGE = [1, 3, 8, 8]
F32 = np.float32


def save(path: Path, nodes: list[onnx.NodeProto], shape: list[object] = IMAGE, dtype=TensorProto.FLOAT, **constants):
    """A graph from x to y with the given constants."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), path)
    return path


def kinds(path: Path, **profiles: Profile) -> list[tuple[str, str]]:
    return [(finding.kind, finding.found) for finding in lint(path, profiles)]


def pair(source: str, target: str, scale: str, zero: str = "z", **attributes) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [source, scale, zero], [f"{target}_q"], **attributes),
        helper.make_node("DequantizeLinear", [f"{target}_q", scale, zero], [target], **attributes),
    ]


def weight(axis: int = 0) -> list[onnx.NodeProto]:
    return [helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=axis)]


CONV = helper.make_node("Conv", ["xd", "wd"], ["y"], name="conv")
WEIGHT = {"w": np.ones((4, 3, 3, 3), np.int8), "ws": np.full(4, 0.1, F32), "wz": np.zeros(4, np.int8)}
ACTIVATION = {"s": F32(0.1), "z": np.int8(0)}


def test_a_well_quantized_convolution_has_no_findings(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", [*pair("x", "xd", "s"), *weight(), CONV], **WEIGHT, **ACTIVATION)
    assert lint(path) == ()


def test_a_float_network_has_no_findings(tmp_path: Path) -> None:
    assert lint(save(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])])) == ()


@pytest.mark.parametrize(
    ("zero", "found"),
    [
        (np.int8(3), "a zero point that is not 0"),
        (np.uint8(0), "quantized to uint8"),
        (np.uint8(128), "quantized to uint8"),
        (np.int16(0), "quantized to int16"),
    ],
)
def test_asymmetric_and_unsigned_activations_are_rejected(tmp_path: Path, zero: np.generic, found: str) -> None:
    path = save(tmp_path / "a.onnx", pair("x", "y", "s"), s=F32(0.1), z=zero)
    rejected = [f for f in lint(path) if f.kind == "rejected" and f.found == found]
    assert len(rejected) == 2  # the quantization and the dequantization


def test_no_zero_point_means_uint8(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    assert ("rejected", "quantized to uint8") in kinds(save(tmp_path / "a.onnx", nodes, s=F32(0.1)))


def test_a_quantized_bias_is_rejected(tmp_path: Path) -> None:
    nodes = [helper.make_node("DequantizeLinear", ["b", "s"], ["bd"]), helper.make_node("Add", ["x", "bd"], ["y"])]
    path = save(tmp_path / "a.onnx", nodes, b=np.ones(8, np.int32), s=F32(0.1))
    assert kinds(path) == [("rejected", "a quantized bias (int32)")]


def test_a_scale_that_is_computed_is_rejected(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMax", ["x"], ["s"], keepdims=0), *pair("x", "y", "s")]
    path = save(tmp_path / "a.onnx", nodes, z=np.int8(0))
    assert kinds(path) == [("rejected", "a scale that is computed")] * 2


@pytest.mark.parametrize("op", ["QLinearConv", "DynamicQuantizeLinear", "MatMulInteger", "STFT"])
def test_operators_without_an_importer(tmp_path: Path, op: str) -> None:
    assert kinds(save(tmp_path / "a.onnx", [helper.make_node(op, ["x"], ["y"])])) == [("rejected", op)]


def test_operators_of_other_domains(tmp_path: Path) -> None:
    node = helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")
    assert kinds(save(tmp_path / "a.onnx", [node])) == [("rejected", "com.microsoft.FusedConv")]


def test_maxpool_indices(tmp_path: Path) -> None:
    with_indices = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
    without = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])
    assert [kind for kind, _ in kinds(save(tmp_path / "a.onnx", [with_indices]))] == ["rejected"]
    assert lint(save(tmp_path / "b.onnx", [without])) == ()


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [(TensorProto.STRING, "rejected"), (TensorProto.UINT32, "rejected"), (TensorProto.DOUBLE, "narrowed")],
)
def test_types(tmp_path: Path, dtype: int, kind: str) -> None:
    path = save(tmp_path / "a.onnx", [helper.make_node("Identity", ["x"], ["y"])], dtype=dtype)
    assert [found for found, _ in kinds(path)] == [kind]


# -- unfused ---------------------------------------------------------------------------------------------------------


def test_half_quantized_convolutions_run_in_float(tmp_path: Path) -> None:
    weights_only = [*weight(), helper.make_node("Conv", ["x", "wd"], ["y"])]
    activations_only = [*pair("x", "xd", "s"), helper.make_node("Conv", ["xd", "wf"], ["y"])]
    first = save(tmp_path / "a.onnx", weights_only, **WEIGHT)
    second = save(tmp_path / "b.onnx", activations_only, wf=np.ones((4, 3, 3, 3), F32), **ACTIVATION)
    assert kinds(first) == [("unfused", "Conv with quantized weights and float activations")]
    assert kinds(second) == [("unfused", "Conv with quantized activations and float weights")]


def test_scales_along_the_wrong_axis(tmp_path: Path) -> None:
    constants = {**WEIGHT, "ws": np.full(3, 0.1, F32), "wz": np.zeros(3, np.int8)}
    path = save(tmp_path / "a.onnx", [*pair("x", "xd", "s"), *weight(axis=1), CONV], **constants, **ACTIVATION)
    assert kinds(path) == [("unfused", "weight scales along axis 1")]


def test_activations_per_channel(tmp_path: Path) -> None:
    constants = {"s": np.full(3, 0.1, F32), "z": np.zeros(3, np.int8)}
    path = save(tmp_path / "a.onnx", [*pair("x", "xd", "s", axis=1), *weight(), CONV], **WEIGHT, **constants)
    assert kinds(path) == [("unfused", "activations quantized per channel")]


def residual(other: str) -> list[onnx.NodeProto]:
    conv = helper.make_node("Conv", ["xd", "wd"], ["c"], pads=[1, 1, 1, 1])
    return [*pair("x", "xd", "s"), *weight(), conv, helper.make_node("Add", ["c", other], ["y"])]


def test_a_residual_branch_that_stays_float(tmp_path: Path) -> None:
    square = {**WEIGHT, "w": np.ones((3, 3, 3, 3), np.int8), "ws": np.full(3, 0.1, F32), "wz": np.zeros(3, np.int8)}
    float_branch = save(tmp_path / "a.onnx", residual("x"), **square, **ACTIVATION)
    quantized_branch = save(tmp_path / "b.onnx", residual("xd"), **square, **ACTIVATION)
    assert [kind for kind, _ in kinds(float_branch)] == ["unfused"]
    assert lint(quantized_branch) == ()


# -- profiles --------------------------------------------------------------------------------------------------------

RELU = [helper.make_node("Relu", ["x"], ["y"])]
GOOD = Profile((1, 3, 8, 8), (4, 3, 8, 8), (16, 3, 8, 8))


def test_free_dimensions_need_a_profile(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", RELU, shape=["N", 3, 8, 8])
    assert kinds(path) == [("missing profile", "free dimensions in ?x3x8x8")]
    assert kinds(path, x=GOOD) == []


@pytest.mark.parametrize(
    "profile", [Profile((1, 3, 8), (1, 3, 8), (1, 3, 8)), Profile((1, 3, 4, 8), (1, 3, 8, 8), (1, 3, 8, 8))]
)
def test_a_profile_that_does_not_fit(tmp_path: Path, profile: Profile) -> None:
    path = save(tmp_path / "a.onnx", RELU, shape=["N", 3, 8, 8])
    assert [kind for kind, _ in kinds(path, x=profile)] == ["missing profile"]


def test_a_profile_for_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.onnx", RELU)
    assert kinds(path, z=GOOD) == [("missing profile", "a profile for an input that is not there")]


@pytest.mark.parametrize("shapes", [((2,), (1,), (3,)), ((1,), (4,), (3,)), ((1, 1), (1,), (1,)), ((0,), (1,), (1,))])
def test_profiles_out_of_order(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(UserError, match="out of order"):
        Profile(*shapes)


def test_something_that_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xff\xff nonsense")
    with pytest.raises(UserError, match="not an ONNX file"):
        lint(tmp_path / "a.onnx")


# -- our own exports -------------------------------------------------------------------------------------------------


class Small(torch.nn.Module):
    """A convolution with a residual connection and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 8, 3, padding=1)
        self.classifier = torch.nn.Linear(8, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.first(image).relu()
        return self.classifier((self.second(x) + x).relu().mean((2, 3)))


def exported(path: Path, capability: str) -> Path:
    torch.manual_seed(0)
    program = ir.capture(Small(), [torch.randn(2, 3, 8, 8)], input_names=["x"], output_names=["y"])
    batches = [(torch.randn(4, 3, 8, 8),) for _ in range(4)]
    export_onnx(quantize(program, QuantOptions(), load_capability(capability), batches).program, path)
    return path


def test_what_we_quantize_for_tensorrt_passes(tmp_path: Path) -> None:
    findings = lint(exported(tmp_path / "a.onnx", "tensorrt"), {"x": GOOD})
    assert not [finding for finding in findings if finding.kind in ("rejected", "missing profile")]


def test_what_we_quantize_for_onnxruntime_does_not(tmp_path: Path) -> None:
    findings = lint(exported(tmp_path / "a.onnx", "onnxruntime-x86"), {"x": GOOD})
    assert any(finding.kind == "rejected" and "uint8" in finding.found for finding in findings)
