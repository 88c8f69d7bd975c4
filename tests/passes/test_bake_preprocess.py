"""A network that preprocesses by itself answers raw values as the original answers preprocessed ones."""

from dataclasses import replace
from pathlib import Path

import onnxruntime
import torch
from torch import nn

from edgepress.data.preprocess import Preprocess
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.ir.serde import load, save
from edgepress.passes.bake_preprocess import MULTIPLIER, bake_preprocess

PREPROCESS = Preprocess(scale=1 / 255, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def network() -> Program:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    return capture(layers, [torch.randn(2, 3, 6, 6)], input_names=["image"])


def test_raw_values_give_the_same_answers_also_at_padded_borders() -> None:
    program = network()
    result = bake_preprocess(program, *PREPROCESS.affine())
    assert result.changed and not result.refusals
    raw = torch.randint(0, 256, (7, 3, 6, 6)).float()
    torch.testing.assert_close(result.program(raw), program(PREPROCESS.tensor(raw)), rtol=1e-4, atol=1e-4)
    assert result.program.input_names == ("image",) and result.program.dynamic_batch()


def test_one_number_serves_all_channels() -> None:
    program = network()
    raw = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(bake_preprocess(program, (2.0,), (-1.0,)).program(raw), program(2 * raw - 1))


def test_the_original_stays_as_it_was() -> None:
    program = network()
    before = program.digest()
    bake_preprocess(program, *PREPROCESS.affine())
    assert program.digest() == before


def test_another_number_of_channels_is_refused() -> None:
    program = network()
    result = bake_preprocess(program, (1.0, 2.0), (0.0, 0.0))
    assert not result.changed and result.program is program
    assert "3 channels" in result.refusals[0].found


def test_token_numbers_are_refused() -> None:
    program = capture(nn.Embedding(4, 3), [torch.zeros(2, 5, dtype=torch.int64)], input_names=["tokens"])
    assert "int64" in bake_preprocess(program, (2.0,), (0.0,)).refusals[0].found


def test_channels_last_are_moved_inside_the_graph() -> None:
    program = network()
    result = bake_preprocess(program, *PREPROCESS.affine(), channels_last=True)
    raw = torch.randint(0, 256, (7, 6, 6, 3)).float()
    expected = program(replace(PREPROCESS, layout="nhwc").tensor(raw))
    torch.testing.assert_close(result.program(raw), expected, rtol=1e-4, atol=1e-4)
    assert result.program.dynamic_batch() and result.program.example_inputs[0].shape == (2, 6, 6, 3)
    assert "channels last" in result.program.history[-1]


def test_the_layout_alone_can_be_baked_and_survives_saving_and_export(tmp_path: Path) -> None:
    program = network()
    result = bake_preprocess(program, (1.0,), (0.0,), channels_last=True)
    assert MULTIPLIER not in result.program.state()
    save(result.program, tmp_path / "baked")
    raw = torch.randn(3, 6, 6, 3)
    expected = program(raw.movedim(-1, 1).contiguous())
    torch.testing.assert_close(load(tmp_path / "baked")(raw), expected)
    artifact = export_onnx(result.program, tmp_path / "baked.onnx")
    session = onnxruntime.InferenceSession(str(artifact.path))
    assert session.get_inputs()[0].shape[1:] == [6, 6, 3]
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"image": raw.numpy()})[0]), expected)


def test_nothing_to_do_changes_nothing() -> None:
    program = network()
    assert bake_preprocess(program, (1.0,), (0.0,)).program is program


def test_a_table_has_no_layout() -> None:
    program = capture(nn.Linear(3, 2), [torch.randn(2, 3)], input_names=["row"])
    assert "2 dimensions" in bake_preprocess(program, (2.0,), (0.0,), channels_last=True).refusals[0].found
