"""Operators around the layers, recurrent layers and free sizes: the artifact computes what the program computes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from tests.small_networks import Apply
from torch import Tensor, nn

from edgepress.exporters.onnx import build_model, export_onnx
from edgepress.exporters.onnx_counted import COUNTED
from edgepress.exporters.onnx_graph import NotTranslated
from edgepress.exporters.onnx_layers import LAYERS
from edgepress.exporters.onnx_logic import LOGIC
from edgepress.exporters.onnx_math import MATH
from edgepress.exporters.onnx_ops import TRANSLATIONS
from edgepress.exporters.onnx_qdq import QDQ
from edgepress.exporters.onnx_recurrent import RECURRENT
from edgepress.exporters.onnx_select import SELECT
from edgepress.exporters.onnx_table import TABLE
from edgepress.ir import Program, capture
from edgepress.ir.text import op_name
from edgepress.passes.mark_dynamic import mark_dynamic, rounded, row_scales


def runtime(path: Path, program: Program, inputs: Sequence[Tensor]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {n: v.numpy() for n, v in zip(program.input_names, inputs, strict=True)})


def agrees(module: nn.Module, inputs: Sequence[Tensor], tmp_path: Path, *, atol: float = 1e-5) -> Program:
    """Exported with our own translations, at the captured batch and at another one."""
    program = capture(module.eval(), list(inputs))
    artifact = export_onnx(program, tmp_path / "m.onnx")
    assert artifact.manifest["exporter"] == "edgepress"
    for rows in (len(inputs[0]), 1):
        given = [value[:rows] for value in inputs]
        expected = program(*given)
        expected = expected if isinstance(expected, tuple | list) else [expected]
        for found, wanted in zip(runtime(artifact.path, program, given), expected, strict=True):
            assert found.shape == tuple(wanted.shape)
            assert np.allclose(found, wanted.detach(), atol=atol)
    return program


X = torch.linspace(-2, 3, 48).reshape(2, 4, 6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 0.5, x, x * x),
        lambda x: torch.where(x == x.abs(), x, torch.minimum(x, x * 2)),
        lambda x: torch.maximum(x, -x).sum((1,)),
        lambda x: x.sum(2, keepdim=True) + x.amax((1, 2), keepdim=True) - x.amin(1, keepdim=True),
        lambda x: torch.round(x * 3) + torch.floor(x) + torch.ceil(x) + torch.sign(x),
        lambda x: x.narrow(2, 1, 3),
        lambda x: x[:, :1].squeeze(1),
        lambda x: x.index_select(2, torch.tensor([4, 0, 0])),
        lambda x: x.argmax(2).float(),
        lambda x: torch.nn.functional.instance_norm(x),
        lambda x: torch.nn.functional.adaptive_max_pool1d(x, 1),
        lambda x: x.reshape(x.shape[0] * 4, 6).sin().reshape(x.shape[0], 24),
        lambda x: x[:, :1].expand(-1, 4, -1) * 2,
    ],
)  # fmt: skip
def test_operators(function: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    agrees(Apply(function), [X], tmp_path)


def test_slopes_of_channels(tmp_path: Path) -> None:
    layer = nn.PReLU(4)
    layer.weight.data = torch.tensor([0.1, 0.2, 0.3, -0.4])
    agrees(layer, [X], tmp_path)


def test_two_sizes_may_be_free(tmp_path: Path) -> None:
    class Frames(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(1, -1, x.shape[1]).tanh().reshape(x.shape[0], x.shape[1] // 2, 2)

    free = {0: torch.export.Dim("batch"), 1: 2 * torch.export.Dim("half", min=2)}
    exported = torch.export.export(Frames(), (torch.randn(3, 8),), dynamic_shapes=({**free},))
    program = Program(exported, ("x",), ("y",))
    model = build_model(program)
    session = ort.InferenceSession(model.SerializeToString())
    for shape in ((3, 8), (1, 12)):
        x = torch.randn(shape)
        assert np.allclose(session.run(None, {"x": x.numpy()})[0], Frames()(x), atol=1e-6)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], **settings: object) -> None:
        super().__init__()
        self.layer = kind(5, 7, **settings)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        sequence, last = self.layer(x)
        return (sequence, *(last if isinstance(last, tuple) else (last,)))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [{}, {"num_layers": 2}])
@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"bidirectional": True}])
def test_recurrent_layers(
    kind: type[nn.RNNBase], settings: dict[str, object], layers: dict[str, object], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    agrees(Recurrent(kind, batch_first=True, **settings, **layers), [torch.randn(3, 6, 5)], tmp_path)


def test_a_projection_is_left_to_torch_onnx() -> None:
    program = capture(Recurrent(nn.LSTM, batch_first=True, proj_size=3), [torch.randn(2, 4, 5)])
    with pytest.raises(NotTranslated, match="projection"):
        build_model(program)


def test_names_of_values_never_meet(tmp_path: Path) -> None:
    """`relu` for the tenth time and `relu_1` for the first must not both be called relu_10."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(24)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x)) + x
            return x

    agrees(Deep(), [X], tmp_path, atol=1e-3)


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True, bidirectional=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0])


def marked() -> tuple[Program, Program, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5)
    program = capture(Dynamic().eval(), [x])
    layers = [n.name for n in program.nodes if op_name(n) in ("aten.linear", "aten.lstm.input")]
    return program, mark_dynamic(program, layers).program, x


def test_dynamic_layers_compute_on_integers(tmp_path: Path) -> None:
    program, dynamic, x = marked()
    artifact = export_onnx(dynamic, tmp_path / "d.onnx")
    operators = artifact.manifest["operators"]
    assert operators["DynamicQuantizeLSTM"] == 1 and operators["MatMulInteger"] == 1
    expected = program(x).detach().numpy()
    found = runtime(artifact.path, dynamic, [x])[0]
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    plain = export_onnx(program, tmp_path / "f.onnx").path.stat().st_size
    assert artifact.path.stat().st_size < plain


def test_marking_rounds_weights_to_what_is_exported() -> None:
    program, dynamic, _ = marked()
    before, after = program.state()["head.weight"], dynamic.state()["head.weight"]
    assert 0 < (before - after).abs().max() <= row_scales(before).max() / 2 + 1e-7
    assert torch.allclose(rounded(after), after)  # rounding again changes nothing
    assert isinstance(after, nn.Parameter)


def test_a_row_of_zeros_is_no_division_by_zero() -> None:
    weight = torch.zeros(3, 4)
    weight[0] = torch.arange(4)
    assert torch.isfinite(rounded(weight)).all() and (rounded(weight)[1:] == 0).all()


def test_no_operator_has_two_translations() -> None:
    parts = (TRANSLATIONS, QDQ, LOGIC, RECURRENT, MATH, SELECT, LAYERS, COUNTED)
    assert sum(map(len, parts)) == len(TABLE)
