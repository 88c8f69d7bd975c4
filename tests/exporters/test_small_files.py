"""Small networks stay small as files: names, documentation and graph are kept short."""

from pathlib import Path

import pytest
import torch

from edgepress.exporters.onnx import export_onnx
from edgepress.importers.pytorch import FactorySource, InputSpec, from_factory
from edgepress.measure.size import measure_kinds
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.targets.capability import load_capability

NETWORKS = Path(__file__).parents[2] / "recipes/families/networks/images.py"
PEERS = 367_853  # bytes of onnxruntime's own quantizer on the same network


@pytest.mark.data
def test_an_int8_resnet20(data_dir: Path, tmp_path: Path) -> None:
    source = FactorySource(
        reference=f"{NETWORKS}:cifar_resnet", kwargs={}, weights=data_dir / "cifar_resnet/resnet20-12fca82f.th",
        inputs=[InputSpec("image", (3, 32, 32), "float32")], batch=None, base=Path(),
    )  # fmt: skip
    program = from_factory(source)
    images = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    result = quantize(program, QuantOptions(), load_capability("onnxruntime-x86"), [(images,)]).program
    artifact = export_onnx(result, tmp_path / "m.onnx")
    size = artifact.path.stat().st_size
    assert size < 300_000 < PEERS
    kinds = {m.name: m.value for m in measure_kinds(artifact.path)}
    assert kinds["size_int8_bytes"] > 0.9 * program.parameter_count()
    assert kinds["size_graph_bytes"] < 15_000  # type: ignore[operator]
