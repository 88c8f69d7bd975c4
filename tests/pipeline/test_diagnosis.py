from pathlib import Path

import numpy as np
import onnx
import onnx.compose
import pytest
import torch
from tests.small_networks import images, residual

from edgepress.errors import UserError
from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, save
from edgepress.pipeline.diagnosis import diagnose_files, diagnose_run
from edgepress.pipeline.onnx_noise import diagnose_onnx
from edgepress.quantize.diagnose import diagnose
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets.capability import load_capability

__all__ = ["images", "residual"]


class Silent:
    def step(self, number: int, total: int, name: str) -> None: ...
    def result(self, summary: str, *, reused: bool, seconds: float | None) -> None: ...
    def tell(self, text: str) -> None: ...
    def progress(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def files(residual: Program, images: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """float.onnx, coarse.onnx (three bits to nearest), coarse (the program), and packed.onnx in four bits."""
    folder = tmp_path_factory.mktemp("pair")
    table = load_capability("onnxruntime-x86")
    export_onnx(residual, folder / "float.onnx")
    coarse = quantize(residual, QuantOptions(weight_bits=3, rounding="nearest"), table, [(images,)]).program
    export_onnx(coarse, folder / "coarse.onnx")
    save(coarse, folder / "coarse")
    save(residual, folder / "float")
    export_onnx(quantize(residual, QuantOptions(weight_bits=4), table, [(images,)]).program, folder / "packed.onnx",
                opset=21)  # fmt: skip
    return folder


def test_two_files_tell_the_same_as_two_programs(files: Path, residual: Program, images: torch.Tensor) -> None:
    from_files = diagnose_onnx(files / "float.onnx", files / "coarse.onnx", [{"image": images.numpy()}])
    programs = quantize(residual, QuantOptions(weight_bits=3, rounding="nearest"),
                        load_capability("onnxruntime-x86"), [(images,)])  # fmt: skip
    direct = diagnose(prepare(residual), programs.program, [(images,)])
    assert from_files.output_db == pytest.approx(direct.output_db, abs=0.5)
    ours = {n.node: n for n in direct.nodes}
    for noise in from_files.nodes:
        if noise.node in ours and noise.weight_db is not None:
            assert noise.weight_db == pytest.approx(ours[noise.node].weight_db, abs=0.1)
            assert noise.sqnr_db == pytest.approx(ours[noise.node].sqnr_db, abs=1.0)
    assert {"conv2d", "conv2d_1", "conv2d_2"} <= {n.node for n in from_files.nodes if n.weight_db is not None}


def test_packed_weights_are_read(files: Path, images: torch.Tensor) -> None:
    found = diagnose_onnx(files / "float.onnx", files / "packed.onnx", [{"image": images.numpy()}])
    assert sum(n.weight_db is not None for n in found.nodes) >= 3


def test_files_without_common_values_are_refused(files: Path, tmp_path: Path, images: torch.Tensor) -> None:
    model = onnx.compose.add_prefix(onnx.load(files / "coarse.onnx"), "q_", rename_inputs=False, rename_outputs=False)
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(UserError, match="no inner value"):
        diagnose_onnx(files / "float.onnx", tmp_path / "renamed.onnx", [{"image": images.numpy()}])


def test_repairs_of_two_programs(files: Path) -> None:
    found = diagnose_files(files / "float", files / "coarse", 32, recipe=None, target="onnxruntime-x86-avx2",
                           with_repairs=False, reporter=Silent())  # fmt: skip
    assert found.repairs is None and found.saturating == () and "noise" in found.data
    assert found.diagnosis.first_bad in ("conv2d", "conv2d_1")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run"):
        diagnose_run(tmp_path, 8, with_repairs=False, reporter=Silent())


def test_values_stay_finite(files: Path) -> None:
    zeros = [{"image": np.zeros((4, 3, 8, 8), np.float32)}]
    found = diagnose_onnx(files / "float.onnx", files / "coarse.onnx", zeros)
    assert all(np.isfinite(n.sqnr_db) for n in found.nodes)


class Reader:
    """Calibration data as onnxruntime's own quantizer reads it."""

    def __init__(self, batches: list[np.ndarray]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def test_files_of_another_quantizer(files: Path, images: torch.Tensor, tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat, quantize_static

    quantize_static(files / "float.onnx", tmp_path / "theirs.onnx", Reader([images.numpy()]), per_channel=True,
                    quant_format=QuantFormat.QDQ)  # fmt: skip
    found = diagnose_onnx(files / "float.onnx", tmp_path / "theirs.onnx", [{"image": images.numpy()}])
    weighted = [n for n in found.nodes if n.weight_db is not None]
    assert len(weighted) >= 3 and all(n.weight_db > 30 for n in weighted)
    assert 15 < found.output_db < 60
    assert any(n.rounding_db is not None for n in found.nodes)
