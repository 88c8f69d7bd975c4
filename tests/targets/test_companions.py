from pathlib import Path

from edgepress.targets.companions import companions


def test_companions_lie_beside_the_artifact(tmp_path: Path) -> None:
    for name in ("a.xml", "a.bin", "b.onnx", "b.onnx.data", "c.onnx"):
        (tmp_path / name).touch()
    assert companions(tmp_path / "a.xml") == (tmp_path / "a.bin",)
    assert companions(tmp_path / "b.onnx") == (tmp_path / "b.onnx.data",)
    assert companions(tmp_path / "c.onnx") == ()
    assert companions(tmp_path / "d.pt2") == ()
