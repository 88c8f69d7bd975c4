"""Artifacts on emulated cores: bit-exact, counted the same by two emulators, sizes as predicted, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.errors import MissingTool, UserError
from edgepress.targets.emulate import CORES, core_named, deploy, engines, why_not

CORE_NAMES = sorted(CORES)
pytestmark = pytest.mark.emulator


@pytest.fixture
def artifact(tmp_path: Path) -> Callable[[str], Path]:
    """core -> a C artifact of a small convolutional network, with the inputs and outputs of its golden vectors."""
    from edgepress.exporters.c import Options
    from edgepress.exporters.c import graph as g
    from edgepress.exporters.c.arithmetic import rescale_of
    from edgepress.exporters.c.export import export_graph

    draw = np.random.default_rng(0)

    def constant(name: str, *shape: int) -> g.Tensor:
        return g.Tensor(name, shape, "int8", (1.0,), 0, draw.integers(-127, 128, shape).astype(np.int8))

    def bias(name: str, n: int) -> g.Tensor:
        return g.Tensor(name, (n,), "int32", (1.0,), 0, draw.integers(-3000, 3000, n).astype(np.int32))

    activations = [
        g.Tensor("x", (1, 9, 7, 3), "int8", (0.1,), 5),
        g.Tensor("a", (1, 9, 7, 8), "int8", (0.1,), -128),
        g.Tensor("d", (1, 9, 7, 8), "int8", (0.1,), -128),
        g.Tensor("s", (1, 9, 7, 8), "int8", (0.1,), -3),
        g.Tensor("p", (1, 4, 3, 8), "int8", (0.1,), -3),
        g.Tensor("f", (1, 96), "int8", (0.1,), -3),
        g.Tensor("y", (1, 5), "int8", (0.1,), 0),
    ]
    constants = [constant("w1", 8, 3, 3, 3), bias("b1", 8), constant("w2", 8, 3, 3, 1), bias("b2", 8)]
    constants += [constant("w3", 5, 96), bias("b3", 5)]
    half, same = rescale_of(0.5), {"pads": (1, 1, 1, 1), "stride": (1, 1)}
    scales = rescale_of(*draw.uniform(0.001, 0.004, 8))
    ops = (
        g.Conv(name="conv", inputs=("x", "w1", "b1"), output="a", rescale=scales, **same),
        g.Conv(name="depthwise", inputs=("a", "w2", "b2"), output="d", rescale=scales, groups=8, **same),
        g.Arithmetic(
            name="add",
            inputs=("d", "a"),
            output="s",
            kind="add",
            left=half,
            right=half,
            output_rescale=rescale_of(2**-19),
        ),
        g.Pool(name="pool", inputs=("s",), output="p", kind="average", kernel=(2, 2), stride=(2, 2)),
        g.Reshape(name="flatten", inputs=("p",), output="f"),
        g.Dense(name="dense", inputs=("f", "w3", "b3"), output="y", rescale=rescale_of(0.001)),
    )
    tensors = {tensor.name: tensor for tensor in (*activations, *constants)}
    graph = g.Graph("small", tensors, ops, ("x",), ("y",))
    (tmp_path / "small.onnx").write_bytes(b"made by a test")

    def build(core: str) -> Path:
        out = tmp_path / core
        written = export_graph(
            graph, tmp_path / "small.onnx", out, options=Options(target=core, name="small", golden=4)
        )
        del written
        vectors = _golden(graph, core)
        np.savez(out / "golden.npz", x=vectors[0], y=vectors[1])
        return out

    def _golden(graph: g.Graph, core: str) -> tuple[np.ndarray, np.ndarray]:
        from edgepress.exporters.c.export import golden_vectors

        pairs = golden_vectors(graph, Options(target=core, golden=20))
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])

    return build


@pytest.mark.parametrize("core", CORE_NAMES)
def test_outputs_are_bit_exact_on_every_core(core: str, artifact: Callable[[str], Path]) -> None:
    if reason := why_not(core):
        pytest.skip(reason)
    folder = artifact(core)
    golden = np.load(folder / "golden.npz")
    found = deploy(folder, golden["x"])
    np.testing.assert_array_equal(found.outputs, golden["y"])
    assert found.static_ram_bytes == 0
    assert 0 < found.stack_bytes < 1024


def test_two_emulators_count_the_same(artifact: Callable[[str], Path]) -> None:
    core = core_named("cortex-m4")
    reasons = [engines.unicorn_why_not(core), engines.qemu_why_not(core)]
    if any(reasons):
        pytest.skip("; ".join(filter(None, reasons)))
    folder = artifact("cortex-m4")
    x = np.load(folder / "golden.npz")["x"]
    by_unicorn, by_qemu = (deploy(folder, x, engine=e, compiler="gcc") for e in ("unicorn", "qemu"))  # type: ignore[arg-type]
    assert by_unicorn.layers.keys() == by_qemu.layers.keys()
    for name, cost in by_unicorn.layers.items():
        if name != "entry":
            # qemu's last layer takes in what leads the caller to the end of counting.
            assert cost.instructions == pytest.approx(by_qemu.layers[name].instructions, rel=0, abs=2), name


def test_counts_repeat_exactly(artifact: Callable[[str], Path]) -> None:
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    folder = artifact("cortex-m4")
    x = np.load(folder / "golden.npz")["x"]
    assert deploy(folder, x).layers == deploy(folder, x).layers


def test_every_layer_equals_the_reference(artifact: Callable[[str], Path]) -> None:
    if reason := engines.unicorn_why_not(core_named("cortex-m4")):
        pytest.skip(reason)
    folder = artifact("cortex-m4")
    golden = np.load(folder / "golden.npz")
    found = deploy(folder, golden["x"], by_layer=True)
    assert set(found.layer_outputs) == {"conv", "depthwise", "add", "pool", "dense"}
    np.testing.assert_array_equal(found.layer_outputs["dense"], golden["y"])


def test_predicted_constants_are_what_was_linked(artifact: Callable[[str], Path]) -> None:
    if reason := why_not("cortex-m4"):
        pytest.skip(reason)
    folder = artifact("cortex-m4")
    found = deploy(folder, np.load(folder / "golden.npz")["x"][:1])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert found.constant_bytes == manifest["constant_bytes"]
    assert 1000 < found.code_bytes < 8000
    records = {m.name: m for m in found.measurements()}
    assert records["instructions"].source == "counted" and records["cycles"].source == "modelled"
    assert records["flash_bytes"].value == found.flash_bytes


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no C artifact"):
        deploy(tmp_path, np.zeros((1, 1), np.int8))
    (tmp_path / "manifest.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="not of a C artifact"):
        deploy(tmp_path, np.zeros((1, 1), np.int8))


def test_unknown_cores_and_missing_engines_are_named(artifact: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="unknown core"):
        core_named("z80")
    folder = artifact("cortex-m55")
    with pytest.raises(MissingTool, match="unicorn has no cortex-m55"):
        deploy(folder, np.load(folder / "golden.npz")["x"], engine="unicorn")
