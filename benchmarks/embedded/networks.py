"""The networks of these benchmarks as quantized files, with what real inputs there are for them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgepress.exporters.c.export import read_graph
from edgepress.exporters.onnx import export_onnx
from edgepress.pipeline.model import import_model
from edgepress.pipeline.samples import open_samples
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import quantize
from edgepress.recipe import load
from edgepress.targets.capability import load_capability

FILES = {"resnet8": "resnet8_int8", "dscnn": "kws_dscnn_int8", "vww": "vww_96_int8", "ad": "ad01_int8"}
RECIPE = Path(__file__).parents[2] / "recipes" / "embedded.yaml"
Rows = np.ndarray


@dataclass(frozen=True)
class Network:
    """A quantized file, and real inputs as its integers [n, bytes], where there are any."""

    name: str
    path: Path
    real: Rows


def networks(folder: Path, names: list[str]) -> Iterator[Network]:
    """Those of that name; the quickstart's is quantized into `folder`."""
    for name in names:
        yield _quickstart(folder) if name == "quickstart" else _tiny(name)


def _tiny(name: str) -> Network:
    data = Path(os.environ["EDGEPRESS_DATA"])
    path = data / "mlperf_tiny" / "models" / f"{FILES[name]}.tflite"
    graph = read_graph(path)
    size = graph.tensor(graph.inputs[0]).size
    return Network(name, path, {"resnet8": _photos, "dscnn": _words, "vww": _enlarged}.get(name, _none)(data, size))


def _none(data: Path, size: int) -> Rows:
    return np.zeros((0, size), np.int8)


def _words(data: Path, size: int) -> Rows:
    return np.load(data / "mlperf_tiny/eval/kws01_mfcc_int8.npz")["x"].reshape(-1, size).astype(np.int8)


def _cifar(data: Path) -> Rows:
    """[n, 32, 32, 3] in 0..255."""
    images = np.load(data / "cifar10/test.npz")["images"]
    return images.transpose(0, 2, 3, 1) if images.shape[1] == 3 else images


def _photos(data: Path, size: int) -> Rows:
    ours = np.load(data / "mlperf_tiny/eval/ic01_u8.npz")["x"].reshape(-1, size)
    return (np.concatenate([ours, _cifar(data).reshape(-1, size)]).astype(int) - 128).astype(np.int8)


def _enlarged(data: Path, size: int) -> Rows:
    """Photos of CIFAR-10 at 96 x 96: not what the network looks for, but real pixels."""
    small = torch.from_numpy(_cifar(data)[:600].copy()).permute(0, 3, 1, 2).float()
    large = torch.nn.functional.interpolate(small, size=(96, 96), mode="bilinear").permute(0, 2, 3, 1)
    return (large.round().clamp(0, 255).numpy().reshape(-1, size).astype(int) - 128).astype(np.int8)


def _quickstart(folder: Path) -> Network:
    """The quickstart's network, quantized for the generated C with its own calibration data."""
    recipe = load(RECIPE)
    program = import_model(recipe.model)
    samples = open_samples(recipe.data, program, seed=recipe.seed, calibration=recipe.data.calibration.samples)
    assert samples.calibration is not None and samples.evaluate is not None
    batches = [(samples.calibration.inputs[0],)]
    found = quantize(program, QuantOptions(), load_capability("mcu-c"), batches)
    path = folder / "quickstart.onnx"
    export_onnx(found.program, path)
    graph = read_graph(path)
    x = graph.tensor(graph.inputs[0])
    images = torch.cat([samples.evaluate.inputs[0], samples.training().inputs[0]]).double().numpy()
    codes = np.clip(np.rint(images.reshape(len(images), -1) / x.scale[0]) + x.zero_point, -128, 127)
    return Network("quickstart", path, codes.astype(np.int8))
