"""The packed worker stands on its own: no edgepress, no pydantic, and an interpreter as old as promised."""

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgepress.targets.remote.bundle import FILES, PACKAGE, bootstrap, worker_archive


def test_the_same_archive_every_time() -> None:
    fresh = worker_archive.__wrapped__()
    assert fresh == worker_archive()
    assert len(fresh) < 64_000


@pytest.mark.parametrize("name", FILES)
def test_its_files_are_valid_for_the_oldest_python(name: str) -> None:
    ast.parse((PACKAGE / name).read_text(), feature_version=(3, 10))


def test_it_imports_nothing_that_a_board_may_lack(tmp_path: Path) -> None:
    (tmp_path / "worker.zip").write_bytes(worker_archive())
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'worker.zip')!r})\n"
        "import edgepress.targets.worker.serve, edgepress.targets.meters\n"
        "import edgepress.targets.runtimes.onnxruntime_session\n"
        "print(edgepress.errors.__file__); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    place, modules = done.stdout.splitlines()
    assert "worker.zip" in place
    assert "numpy" in modules.split()
    assert not {"pydantic", "yaml", "torch", "scipy", "psutil"} & set(modules.split())


def test_everything_its_requests_import_is_packed() -> None:
    """Imports inside functions count: a missing file would only be found out on the board."""
    packed = {f"edgepress/{name}" for name in FILES} | {"edgepress/__init__.py", "edgepress/targets/__init__.py"}
    for name in FILES:
        for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
            if (
                isinstance(node, ast.ImportFrom)
                and (node.module or "").startswith("edgepress.")
                and not typing_only(node, name)
            ):
                path = node.module.replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & packed, f"{name} imports {node.module}"


def typing_only(wanted: ast.ImportFrom, name: str) -> bool:
    """Whether an import stands under TYPE_CHECKING, or in the branch that boards never take."""
    tree = ast.parse((PACKAGE / name).read_text())
    guarded = [n for block in ast.walk(tree) if isinstance(block, ast.If) for n in ast.walk(block)]
    return any(
        isinstance(n, ast.ImportFrom) and n.module == wanted.module and n.lineno == wanted.lineno for n in guarded
    )


def test_the_archive_is_a_zip_with_nothing_else() -> None:
    import io

    names = set(zipfile.ZipFile(io.BytesIO(worker_archive())).namelist())
    assert names == {f"edgepress/{name}" for name in (*FILES, "__init__.py", "targets/__init__.py")}


def test_the_bootstrap_serves_requests(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-I", "-c", bootstrap(str(tmp_path / "far"))],
        input=worker_archive() + b'{"op": "size", "path": "/nowhere"}\n',
        capture_output=True,
        check=False,
        timeout=60,
    )
    # its input has ended: the answer may or may not have been written before it noticed
    assert process.returncode == 3
    assert process.stdout in (b"", json.dumps({"ok": 0}).encode() + b"\n")
    assert len(list((tmp_path / "far").glob("worker-*.zip"))) == 1
