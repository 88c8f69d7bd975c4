"""Embeddings: their tables are stored as integers where the target looks rows up among integers."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.quantize.options import Mixed, QuantOptions
from edgepress.quantize.post_training import QuantizeResult, quantize
from edgepress.targets.capability import Capability, load_capability

TOKENS = torch.randint(0, 400, (32, 6), generator=torch.Generator().manual_seed(0))


class Reader(nn.Module):
    """Embedding, linear layer, scores; `tied` scores are products with the table itself."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.inner = nn.Embedding(400, 16), nn.Linear(16, 16)
        self.scores = nn.Linear(16, 400, bias=False)
        if tied:
            self.scores.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.scores(torch.relu(self.inner(self.words(tokens))).mean(1))


def reader(*, tied: bool = False) -> Program:
    return capture(Reader(tied=tied), [TOKENS[:2]], input_names=["tokens"], output_names=["scores"])


def quantized(program: Program, table: Capability | None = None, **settings: object) -> QuantizeResult:
    options = QuantOptions(**settings)  # type: ignore[arg-type]
    return quantize(program, options, table or load_capability("onnxruntime-x86"), [(TOKENS,)])


def test_rows_are_looked_up_among_integers(tmp_path: Path) -> None:
    program = reader()
    result = quantized(program)
    path = export_onnx(result.program, tmp_path / "reader.onnx").path
    graph = onnx.load(path).graph
    lookup = next(n for n in graph.node if n.op_type == "Gather")
    stored = next(t for t in graph.initializer if t.name == lookup.input[0])
    assert stored.data_type == onnx.TensorProto.INT8 and list(stored.dims) == [400, 16]
    answers = ort.InferenceSession(str(path)).run(None, {"tokens": TOKENS.numpy()})[0]
    np.testing.assert_allclose(answers, result.program(TOKENS).numpy(), atol=0.05)
    assert path.stat().st_size < export_onnx(program, tmp_path / "float.onnx").path.stat().st_size / 3


def test_the_plan_says_what_it_is() -> None:
    plan = quantized(reader()).plan
    point = plan.weight("words.weight")
    assert point is not None and point.why == "a table" and point.axis is None and not point.input
    assert "embedding" not in plan.quantized and all(n.op != "aten.embedding" for n in plan.float_nodes)


@pytest.mark.parametrize(
    "settings",
    [
        {"weight_bits": 4},
        {"activation_bits": None, "weight_bits": 4},
        {"mixed": Mixed(average_bits=4)},
        {"correct_biases": True},
        {"reconstruct_steps": 2, "rounding": "output"},
    ],
)
def test_tables_keep_eight_bits_whatever_else_is_asked(settings: dict[str, object]) -> None:
    result = quantized(reader(), **settings)
    point = result.plan.weight("words.weight")
    assert point is not None and point.grid.high == 127 and len(point.scales) == 1
    assert torch.isfinite(result.program(TOKENS)).all()


def test_a_table_that_is_also_multiplied_with_stays_float() -> None:
    result = quantized(reader(tied=True))
    refused = next(n for n in result.plan.float_nodes if n.op == "aten.embedding")
    assert "weight of linear" in refused.found and refused.needed == "a table of its own"
    point = next(p for p in result.plan.weights if refused.found.split()[-2] in p.nodes)
    assert point.axis == 0


def test_the_user_may_keep_it_float() -> None:
    result = quantized(reader(), keep_float=("words",))
    assert result.plan.weight("words.weight") is None
    assert any("kept float by the recipe" in n.found for n in result.plan.float_nodes)


def test_targets_without_integer_lookups_say_so() -> None:
    plan = quantized(reader(), load_capability("openvino-cpu")).plan
    assert any(n.op == "aten.embedding" for n in plan.float_nodes)
