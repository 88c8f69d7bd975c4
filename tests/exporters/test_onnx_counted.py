"""Results whose length depends on values, in onnxruntime: as the program gives them, also where nothing is selected."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgepress.errors import UserError
from edgepress.exporters.onnx import build_model, export_onnx
from edgepress.exporters.onnx_graph import NotTranslated
from edgepress.importers.onnx import load
from edgepress.ir.capture import capture


class Selecting(nn.Module):
    def __init__(self, select: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.select = select

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return self.select(x, v)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "elements": lambda x, v: x[x > 0] * 2,
    "rows": lambda x, v: x[v > 0].relu(),
    "columns": lambda x, v: x[:, x[0] > 0],
    "a mask of two axes in front": lambda x, v: torch.stack([x, x + 1, x + 2], -1)[x > 0],
    "select": lambda x, v: torch.masked_select(x, x > 0),
    "positions": lambda x, v: torch.nonzero(x > 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_values_select(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, v = torch.randn(5, 4), torch.randn(5)
    program = capture(Selecting(FORMS[form]).eval(), [x, v])
    artifact = export_onnx(program, tmp_path / "m.onnx")
    assert artifact.manifest["exporter"] == "edgepress"
    session = onnxruntime.InferenceSession(artifact.path.read_bytes())
    for sign in (1, -1):
        given = (x.abs() * sign, v.abs() * sign) if form == "elements" else (x * sign, v * sign)
        feeds = dict(zip(program.input_names, (value.numpy() for value in given), strict=True))
        names = {value.name for value in session.get_inputs()}
        (found,) = session.run(None, {name: value for name, value in feeds.items() if name in names})
        assert np.array_equal(found, FORMS[form](*given).numpy())


def test_a_mask_and_positions_together_have_no_translation() -> None:
    program = capture(Selecting(lambda x, v: x[v > 0, torch.tensor([1])]).eval(), [torch.randn(5, 4), torch.ones(5)])
    with pytest.raises(NotTranslated, match="mask"):
        build_model(program)


@pytest.mark.parametrize("least", [None, 0.3])
def test_boxes_that_are_kept(tmp_path: Path, least: float | None) -> None:
    draw = np.random.default_rng(0)
    low = draw.random((1, 60, 2))
    feeds = {"b": np.concatenate([low, low + 0.3], -1).astype(np.float32),
             "s": draw.random((1, 2, 60)).astype(np.float32)}  # fmt: skip
    stored = {"k": np.array([9]), "i": np.float32([0.4]), **({} if least is None else {"t": np.float32([least])})}
    node = helper.make_node("NonMaxSuppression", ["b", "s", *stored], ["y"])
    entries = [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(v.shape)) for n, v in feeds.items()]
    graph = helper.make_graph([node], "g", entries, [helper.make_empty_tensor_value_info("y")],
                              [numpy_helper.from_array(v, k) for k, v in stored.items()])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "a.onnx")
    artifact = export_onnx(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    before, after = (onnxruntime.InferenceSession(p.read_bytes()).run(None, feeds)[0]
                     for p in (tmp_path / "a.onnx", artifact.path))  # fmt: skip
    assert len(before) > 5 and np.array_equal(before, after)


def test_what_has_no_onnx_form_at_all_is_a_user_error(tmp_path: Path) -> None:
    program = capture(Selecting(lambda x, v: torch.linalg.svdvals(x)).eval(), [torch.randn(5, 4), torch.ones(5)])
    with pytest.raises(UserError, match="cannot export"):
        export_onnx(program, tmp_path / "m.onnx")
