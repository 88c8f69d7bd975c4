"""PyTorch sessions: eager, compiled and ahead of time answer alike, and check what they are given."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgepress import ir, targets
from edgepress.errors import UserError
from edgepress.targets.runtimes import open_session
from edgepress.targets.runtimes.torch_session import compile_ahead

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class TwoHeads(torch.nn.Module):
    """Two inputs and two outputs, so that a mix-up of either would show."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.layer(left - 2 * right).relu(), right.sum(1)


@pytest.fixture(scope="module")
def network() -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads().eval()


@pytest.fixture(scope="module")
def program(network: TwoHeads) -> ir.Program:
    examples = [torch.randn(2, 3), torch.randn(2, 3)]
    return ir.capture(network, examples, input_names=["left", "right"], output_names=["scores", "sums"])


@pytest.fixture(scope="module")
def folder(program: ir.Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torch") / "program"
    ir.save(program, path)
    return path


def feed(n: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {name: rng.normal(size=(n, 3)).astype(np.float32) for name in ("right", "left")}


def check(artifact: Path, target: str, network: TwoHeads) -> None:
    session = open_session(artifact, targets.load(target))
    inputs = feed()
    outputs = session.run(inputs)
    expected = network(torch.from_numpy(inputs["left"]), torch.from_numpy(inputs["right"]))
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert (session.input_names, session.output_names) == (("left", "right"), ("scores", "sums"))
    with pytest.raises(UserError, match="input 'left' does not fit"):
        session.run({**inputs, "left": np.zeros((4, 2), np.float32)})
    session.close()
    with pytest.raises(Exception, match="closed"):
        session.run(inputs)


def test_eager(folder: Path, network: TwoHeads) -> None:
    check(folder, "torch-eager", network)


@pytest.mark.slow
@needs_compiler
def test_compiled(folder: Path, network: TwoHeads) -> None:
    check(folder, "torch-compile", network)


@pytest.mark.slow
@needs_compiler
def test_ahead_of_time(program: ir.Program, network: TwoHeads, tmp_path: Path) -> None:
    check(compile_ahead(program, tmp_path / "package.pt2"), "torch-aot", network)


def test_an_archive_without_our_manifest(folder: Path) -> None:
    session = open_session(folder / "program.pt2", targets.load("torch-eager"))
    assert session.input_names == ("left", "right")


def test_a_program_must_be_compiled_before_it_runs_ahead_of_time(folder: Path) -> None:
    with pytest.raises(UserError, match="torch-aot cannot run this program"):
        open_session(folder, targets.load("torch-aot"))


def test_a_folder_is_nothing_for_onnxruntime(folder: Path) -> None:
    with pytest.raises(UserError, match="onnxruntime cannot run"):
        open_session(folder, targets.load("local-cpu"))
