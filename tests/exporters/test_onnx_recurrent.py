"""Recurrent layers and attention in ONNX compute what they compute in PyTorch, at any batch size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import capture


class Cells(nn.Module):
    """All states of a recurrent layer beside its last hidden state."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states, last = self.cell(x)
        return states, last[0] if isinstance(last, tuple) else last


class Causal(nn.Module):
    """One head of attention that does not look ahead, on three parts of its input."""

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = x.unflatten(2, (3, 4)).permute(2, 0, 1, 3).unbind(0)
        return nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Cells(nn.LSTM(12, 5, batch_first=True)),
    "gru": lambda: Cells(nn.GRU(12, 5, batch_first=True)),
    "both directions, two layers": lambda: Cells(nn.LSTM(12, 5, num_layers=2, bidirectional=True, batch_first=True)),
    "without biases": lambda: Cells(nn.GRU(12, 5, bias=False, batch_first=True)),
    "causal attention": Causal,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_computes_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    program = capture(net, [torch.randn(2, 7, 12)], input_names=["x"])
    export_onnx(program, tmp_path / "model.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert kinds & {"LSTM", "GRU", "Softmax"}
    assert "Shape" not in kinds, "nothing is computed from sizes"
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = torch.randn(batch, 7, 12)
        with torch.no_grad():
            expected = net(x)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for ours, theirs in zip(session.run(None, {"x": x.numpy()}), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
