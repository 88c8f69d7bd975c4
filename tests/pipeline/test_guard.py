import math
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from tests.pipeline.conftest import make_project
from torch import Tensor, nn

from edgepress.exporters.onnx import export_onnx
from edgepress.ir import Program, capture
from edgepress.measure.record import Evidence
from edgepress.pipeline.first_samples import first_samples
from edgepress.pipeline.guard import Guard, Version, _best, _pays, _worst_snr_db, can_time
from edgepress.pipeline.kernels import Profile, profile
from edgepress.quantize.options import QuantOptions
from edgepress.quantize.post_training import prepare, quantize
from edgepress.targets import load as load_target
from edgepress.targets.capability import load_capability

Run = Callable[..., CompletedProcess[str]]
HERE = load_target("local-cpu")
WITHOUT_INTEGERS = """
import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, image):
        return torch.erf(image.flatten(1)[:, :4]) * self.scale


def tiny():
    return Tiny()
"""


class Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.b(torch.relu(self.a(image))))
        return self.head((self.c(x) + x).mean((2, 3)))


@pytest.fixture(scope="module")
def wide() -> Program:
    return capture(Wide().eval(), [torch.randn(2, 3, 24, 24)], input_names=["image"])


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(8, 3, 24, 24)


def guard(program: Program, images: Tensor, **settings: object) -> Guard:
    capability = load_capability(HERE.capability)

    def make(slow):  # type: ignore[no-untyped-def]
        return quantize(program, QuantOptions(slow=slow), capability, [(images,)])

    return Guard(program, make, [images], HERE, **settings)  # type: ignore[arg-type]


def test_the_choice_is_one_of_both_and_says_why(wide: Program, images: Tensor) -> None:
    choice = guard(wide, images).choose()
    facts = choice.facts
    assert facts["float_ms"] > 0 and facts["int8_ms"] > 0 and facts["versions_tried"] >= 1
    if choice.outcome == "integers":
        assert choice.result is not None and choice.result.plan.quantized and not choice.refusals
        assert facts["int8_bytes"] <= facts["float_bytes"]
    else:
        assert choice.result is None and choice.refusals
        assert torch.allclose(choice.program(images), wide(images), atol=1e-5)


def test_a_users_own_file_is_in_the_race(wide: Program, images: Tensor, tmp_path: Path) -> None:
    source = export_onnx(wide, tmp_path / "own.onnx").path
    choice = guard(wide, images, source=source, search=False).choose()
    assert choice.facts["float_bytes"] == source.stat().st_size
    assert choice.facts["versions_tried"] == 1


def test_kernels_are_told_by_the_nodes_of_the_float_program(wide: Program, images: Tensor, tmp_path: Path) -> None:
    prepared, feeds = prepare(wide), {"image": images[:1].numpy()}
    path = export_onnx(prepared, tmp_path / "f.onnx").path
    floating = profile(prepared, prepared, path, HERE, feeds)
    names = {node.name for node in prepared.graph.nodes}
    assert set(floating.compute) <= names and not floating.conversions
    assert sum(floating.compute.values()) > 0.5 * floating.total

    result = quantize(wide, QuantOptions(), load_capability(HERE.capability), [(images,)])
    path = export_onnx(result.program, tmp_path / "q.onnx").path
    done = {*result.plan.quantized, "relu", "relu_1"}
    integer = profile(prepared, result.program, path, HERE, feeds, done)
    assert set(integer.compute) <= names and not integer.fell_back
    assert {kind for _, kind in integer.conversions} <= {"QuantizeLinear", "DequantizeLinear"}
    assert any(value == prepared.user_inputs()[0].name for value, _ in integer.conversions)


def version(ms: float, size: int, tmp_path: Path, integers: int = 1) -> Version:
    path = tmp_path / f"{ms}-{size}.onnx"
    path.write_bytes(b"\0" * size)
    program = capture(nn.ReLU(), [torch.zeros(2, 2)])
    return Version(program, path, Profile(path, 1.0, {}, {}, {}), dynamic=("x",) * integers, ms=ms)


def test_the_fastest_wins_and_among_equals_the_smallest(tmp_path: Path) -> None:
    slow, fast, alike = version(2.0, 10, tmp_path), version(1.0, 90, tmp_path), version(1.01, 50, tmp_path)
    assert _best([slow, fast, alike], 100) is alike
    assert _best([slow, fast], 100) is fast
    assert _best([slow, fast], 50) is slow  # the other is larger than the float file
    assert _best([version(0.5, 10, tmp_path, integers=0), slow], 100) is slow


@pytest.mark.parametrize(
    ("time", "size", "pays"),
    [(0.5, 0.3, True), (0.5, 1.01, False), (0.99, 0.3, True), (0.99, 0.9, False), (1.01, 0.1, False)],
)
def test_what_pays(time: float, size: float, pays: bool) -> None:
    assert _pays(time, size) is pays


def test_only_onnxruntime_on_this_cpu_is_looked_into() -> None:
    assert can_time(HERE)
    assert not any(can_time(load_target(name)) for name in ("cortex-m4", "openvino-cpu", "arm64-qemu", "cuda"))


def test_a_sample_is_cut_along_the_free_size() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    program = capture(Two(), [torch.randn(3, 5), torch.randn(3, 1)])
    assert [v.shape for v in first_samples(program, [torch.randn(7, 5), torch.randn(7, 1)], 1)] == [(1, 5), (1, 1)]


@pytest.fixture
def hopeless(tmp_path: Path) -> Path:
    recipe = make_project(tmp_path)
    (tmp_path / "net.py").write_text(WITHOUT_INTEGERS)
    return recipe


def flags(policy: str) -> list[str]:
    return ["--set", f"steps.2.quantize.when_slower={policy}"]


def test_a_recipe_may_fail_where_nothing_pays(hopeless: Path, tmp_path: Path, edgepress: Run) -> None:
    done = edgepress("quantize", hopeless, "--out", tmp_path / "run", *flags("fail"))
    assert done.returncode == 1, done.stderr
    assert "not faster on integers" in done.stderr and "when_slower: float" in done.stderr


def test_a_recipe_may_keep_float_where_nothing_pays(hopeless: Path, tmp_path: Path, edgepress: Run) -> None:
    done = edgepress("quantize", hopeless, "--out", tmp_path / "run", *flags("float"))
    assert done.returncode == 0, done.stderr
    evidence = Evidence.model_validate_json((tmp_path / "run" / "evidence.json").read_bytes())
    step = next(step for step in evidence.steps if step.kind == "quantize")
    assert step.summary.startswith("left float") and not step.changed
    assert any("int8" in refusal.found for refusal in step.refusals)


def test_the_guard_works_inside_a_run(tmp_path: Path, edgepress: Run) -> None:
    done = edgepress("quantize", make_project(tmp_path), "--out", tmp_path / "run", *flags("float"))
    assert done.returncode == 0, done.stderr
    evidence = Evidence.model_validate_json((tmp_path / "run" / "evidence.json").read_bytes())
    step = next(step for step in evidence.steps if step.kind == "quantize")
    assert step.facts["float_ms"] > 0 and step.facts["int8_ms"] > 0


def test_dynamic_is_a_scheme_of_its_own(tmp_path: Path, edgepress: Run) -> None:
    recipe, run = make_project(tmp_path), tmp_path / "run"
    done = edgepress("quantize", recipe, "--out", run, "--set", "steps.2.quantize.scheme=dynamic")
    assert done.returncode == 0, done.stderr
    import onnx

    made = [onnx.load(path) for path in run.rglob("model.onnx")]
    assert [sum(n.op_type == "MatMulInteger" for n in model.graph.node) for model in made].count(1) == 1
    evidence = Evidence.model_validate_json((run / "evidence.json").read_bytes())
    step = next(step for step in evidence.steps if step.kind == "quantize")
    assert step.facts["dynamic_layers"] == 1
    assert [r.node for r in step.refusals] == ["conv2d (aten.conv2d)", "conv2d_1 (aten.conv2d)"]


def test_speed_does_not_redeem_a_network_that_no_longer_answers(
    wide: Program, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All versions are far faster than float here; none whose outputs are noise may be chosen."""
    monkeypatch.setattr("edgepress.pipeline.guard._pays", lambda time, size: True)
    assert guard(wide, images).choose().outcome == "integers"
    monkeypatch.setattr("edgepress.pipeline.guard.LEAST_SNR_DB", 200.0)
    choice = guard(wide, images).choose()
    assert choice.outcome == "float" and choice.result is None
    assert any("above the noise" in refusal.found for refusal in choice.refusals)


def test_noise_of_the_worst_output() -> None:
    truth = [np.ones(100, np.float32), np.full(10, 2.0, np.float32), np.arange(3)]
    worse = [truth[0] + 0.1, truth[1] + 1.0, truth[2] + 1]
    assert _worst_snr_db(truth, worse) == pytest.approx(20 * math.log10(2), abs=1e-4)
    assert _worst_snr_db(truth, truth) == math.inf
    assert _worst_snr_db([np.zeros(3, np.float32)], [np.ones(3, np.float32)]) == -math.inf
    assert _worst_snr_db([np.ones(3, np.float32)], [np.full(3, np.nan, np.float32)]) == -math.inf
