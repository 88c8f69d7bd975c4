"""Bad input through real processes: exit code 2, what failed with found / expected / fix, and nothing half-written."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.pipeline.conftest import make_project

Run = Callable[..., CompletedProcess[str]]
BRANCHES = """
import torch
from torch import nn


class Branches(nn.Module):
    def forward(self, image):
        if image.sum() > 0:
            return image
        return -image


def branches():
    return Branches()
"""


def missing_data(folder: Path) -> list[str]:
    (folder / "train.npz").unlink()
    return []


def empty_data(folder: Path) -> list[str]:
    np.savez(folder / "train.npz", images=np.zeros((0, 1, 6, 6), np.float32), labels=np.zeros(0, np.int64))
    return []


def labels_out_of_range(folder: Path) -> list[str]:
    data = dict(np.load(folder / "test.npz"))
    np.savez(folder / "test.npz", images=data["images"], labels=data["labels"] + 5)
    return []


def weights_of_another_network(folder: Path) -> list[str]:
    save_file({"a.weight": torch.zeros(3)}, folder / "w.safetensors")
    return ["model.weights=w.safetensors"]


def pickle_named_safetensors(folder: Path) -> list[str]:
    torch.save({"a.weight": torch.zeros(3)}, folder / "w.safetensors")
    return ["model.weights=w.safetensors"]


def pickled_objects(folder: Path) -> list[str]:
    torch.save({"a.weight": torch.zeros(3), "more": Path("x")}, folder / "w.pth")
    return ["model.weights=w.pth"]


def uncapturable(folder: Path) -> list[str]:
    (folder / "net.py").write_text(BRANCHES)
    return ["model.factory=net.py:branches"]


# what is wrong -> words of the error
CASES: dict[Callable[[Path], list[str]] | str, str] = {
    missing_data: "train.npz",
    empty_data: "no samples",
    labels_out_of_range: "labels",
    weights_of_another_network: "do not fit",
    pickle_named_safetensors: "name it .pt",
    pickled_objects: "run code",
    uncapturable: "if image.sum() > 0:",
    "model.inputs.image.shape=[1, 5, 5]": "does not fit",
    "model.factory=net.py:absent": "absent",
    "steps.0.prune.criterion=tayler": "taylor",
    "targets=['local-cpuu']": "local-cpu",
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c if isinstance(c, str) else c.__name__)
def test_bad_input_is_wrong_use(case: Callable[[Path], list[str]] | str, tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    overrides = [case] if isinstance(case, str) else case(tmp_path)
    flags = [word for override in overrides for word in ("--set", override)]
    done = edgepress("run", recipe, "--out", tmp_path / "run", *flags)
    assert done.returncode == 2, done.stderr
    assert CASES[case] in done.stderr
    assert "fix: " in done.stderr or "expected: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("run/steps/*"))
    assert not (tmp_path / "run" / "evidence.json").exists()


def weights_not_a_number(folder: Path) -> list[str]:
    """The network itself holds a NaN; nothing before quantization looks at weights."""
    (folder / "net.py").write_text(
        (folder / "net.py").read_text().replace("return Tiny(width)", "net = Tiny(width)\n    BREAK\n    return net")
    )
    text = (folder / "net.py").read_text().replace("BREAK", "net.b.weight.data[0, 0, 0, 0] = float('nan')")
    (folder / "net.py").write_text(text)
    return []


def data_not_finite(folder: Path) -> list[str]:
    data = dict(np.load(folder / "train.npz"))
    data["images"][5, 0, 0, 0] = np.inf
    np.savez(folder / "train.npz", **data)
    return []


@pytest.mark.parametrize(("case", "words"), [(weights_not_a_number, "b.weight"), (data_not_finite, "train.npz")])
def test_quantize_refuses_what_is_not_finite(
    case: Callable[[Path], list[str]], words: str, tmp_path: Path, edgepress: Run
) -> None:
    recipe = make_project(tmp_path)
    case(tmp_path)
    done = edgepress("quantize", recipe, "--out", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "evidence.json").exists()


def test_quantize_with_one_sample_and_constant_images(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    data = dict(np.load(tmp_path / "train.npz"))
    np.savez(tmp_path / "train.npz", images=np.full_like(data["images"][:1], 0.5), labels=data["labels"][:1])
    done = edgepress("quantize", recipe, "--out", tmp_path / "run", "--set", "steps.2.quantize.samples=1")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "evidence.json").exists()


def test_quantize_names_the_outlier(tmp_path: Path, edgepress: Run) -> None:
    recipe = make_project(tmp_path)
    data = dict(np.load(tmp_path / "train.npz"))
    data["images"][:8, 0, 5, 5] = 1e4
    np.savez(tmp_path / "train.npz", **data)
    done = edgepress("quantize", recipe, "--out", tmp_path / "run", "--json")
    assert done.returncode in (0, 1), done.stderr
    assert "less than one step" in (tmp_path / "run" / "evidence.json").read_text()
