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
