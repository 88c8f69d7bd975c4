import json
import zipfile
from pathlib import Path

import pytest
import torch

from edgepress.errors import UserError
from edgepress.ir import Program, load, save
from edgepress.ir.serde import ARCHIVE, MANIFEST, load_archive


def test_round_trip_keeps_everything(residual: Program, tmp_path: Path) -> None:
    carried = residual.with_plan("quantize", {"bits": 8})
    save(carried, tmp_path)
    back = load(tmp_path)
    assert back.digest() == carried.digest()
    assert (back.input_names, back.plans, back.history) == (("image",), {"quantize": {"bits": 8}}, ("made",))
    image = torch.randn(5, 1, 8, 8)
    assert torch.equal(back(image), residual(image))


def test_equal_programs_give_equal_bytes(residual: Program, tmp_path: Path) -> None:
    save(residual, tmp_path / "a")
    save(load(tmp_path / "a"), tmp_path / "b")
    for name in (ARCHIVE, MANIFEST):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_no_path_of_this_machine_is_saved(residual: Program, tmp_path: Path) -> None:
    save(residual, tmp_path)
    with zipfile.ZipFile(tmp_path / ARCHIVE) as archive:
        assert not [n for n in archive.namelist() if __file__.encode() in archive.read(n)]
        assert not [n for n in archive.namelist() if b"conftest.py" in archive.read(n)]


def test_damage_is_found(residual: Program, tmp_path: Path) -> None:
    save(residual, tmp_path)
    data = bytearray((tmp_path / ARCHIVE).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / ARCHIVE).write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 99, "sha256": {}}'])
def test_broken_manifests_are_refused(residual: Program, tmp_path: Path, text: str) -> None:
    save(residual, tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(UserError):
        load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 truncated"])
def test_files_that_are_no_archives(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        load_archive(path)


class Bomb:
    """What an attacker would pickle."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("pwned"),)  # type: ignore[return-value]


def rewritten(source: Path, target: Path, member_end: str, content: bytes) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith(member_end) else old.read(name))


def test_pickled_inputs_never_run(residual: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(residual, tmp_path / "good")
    torch.save(Bomb(), tmp_path / "bomb.pt")
    rewritten(tmp_path / "good" / ARCHIVE, tmp_path / "bad.pt2", "sample_inputs/model.pt", Path("bomb.pt").read_bytes())
    with pytest.raises(UserError, match="pickled"):
        load_archive(tmp_path / "bad.pt2")
    assert not (tmp_path / "pwned").exists()


def test_pickled_constants_never_run(residual: Program, tmp_path: Path) -> None:
    save(residual, tmp_path / "good")
    config = json.dumps({"config": {"x": {"use_pickle": True, "path_name": "x"}}}).encode()
    rewritten(tmp_path / "good" / ARCHIVE, tmp_path / "bad.pt2", "model_constants_config.json", config)
    with pytest.raises(UserError, match="pickled"):
        load_archive(tmp_path / "bad.pt2")
