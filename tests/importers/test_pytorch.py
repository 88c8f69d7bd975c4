from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgepress.errors import UserError
from edgepress.importers.pytorch import FactorySource, InputSpec, from_factory, from_pt2
from edgepress.importers.weights import read_weights
from edgepress.ir import save
from edgepress.ir.serde import ARCHIVE

MODEL = """
import torch
from torch import nn

def small(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))

def not_a_network():
    return 3

def broken():
    raise RuntimeError("no luck")

class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MODEL)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "net.pth")
    return tmp_path


def source(folder: Path, function: str = "small", weights: str = "net.safetensors", **kwargs: object) -> FactorySource:
    return FactorySource(
        f"net.py:{function}", [InputSpec("x", (3,))], kwargs, folder / weights if weights else None, base=folder
    )


def test_factory_with_safetensors(folder: Path) -> None:
    program = from_factory(source(folder))
    assert program.input_names == ("x",)
    assert torch.equal(program.state()["0.weight"], read_weights(folder / "net.safetensors")["0.weight"])
    assert program(torch.ones(5, 3)).shape == (5, 2)


def test_state_dict_wrappers_and_prefixes_are_unwrapped(folder: Path) -> None:
    assert from_factory(source(folder, weights="net.pth")).digest() == from_factory(source(folder)).digest()


def test_pt2_round_trip(folder: Path) -> None:
    program = from_factory(source(folder))
    save(program, folder / "saved")
    back = from_pt2(folder / "saved" / ARCHIVE)
    assert torch.equal(back(torch.ones(5, 3)), program(torch.ones(5, 3)))


def test_fixed_batch(folder: Path) -> None:
    program = from_factory(FactorySource("net.py:small", [InputSpec("x", (3,))], batch=1, base=folder))
    assert not program.dynamic_batch()


@pytest.mark.parametrize(
    ("function", "weights", "kwargs", "words"),
    [
        ("small", "net.safetensors", {"width": 8}, "do not fit"),
        ("small", "absent.safetensors", {}, "no weights"),
        ("small", "net.py", {}, "suffix"),
        ("small", "", {"depth": 3}, "depth"),
        ("absent", "", {}, "small"),
        ("not_a_network", "", {}, "int"),
        ("broken", "", {}, "no luck"),
        ("Branches", "", {}, "if x.sum() > 0"),
    ],
)
def test_each_door_says_what_is_wrong(folder: Path, function: str, weights: str, kwargs: dict, words: str) -> None:
    with pytest.raises(UserError) as caught:
        from_factory(source(folder, function, weights, **kwargs))
    assert words in str(caught.value)


@pytest.mark.parametrize("reference", ["no_colon", "absent.py:f", "absent_module_of_nobody:f"])
def test_bad_references(folder: Path, reference: str) -> None:
    with pytest.raises(UserError):
        from_factory(FactorySource(reference, [InputSpec("x", (3,))], base=folder))


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


def test_pickled_weights_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(1), "x": Payload()}, "evil.pt")
    with pytest.raises(UserError, match="run code"):
        read_weights(Path("evil.pt"))
    assert not Path("ran").exists()


def test_a_pickle_named_safetensors_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save({"w": torch.ones(1)}, path)
    with pytest.raises(UserError, match=r"name it \.pt"):
        read_weights(path)
