"""The worker, packed for the journey: a zip archive that Python imports from as it is."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]

# What the worker needs, and nothing that would import more than the standard library, numpy and onnxruntime.
FILES = (
    "errors.py",
    "targets/meters/__init__.py",
    "targets/meters/commands.py",
    "targets/meters/external.py",
    "targets/meters/i2c.py",
    "targets/meters/meter.py",
    "targets/meters/nvml.py",
    "targets/meters/sysfs.py",
    "targets/runtimes/__init__.py",
    "targets/runtimes/inputs.py",
    "targets/runtimes/onnxruntime_session.py",
    "targets/runtimes/session.py",
    "targets/worker/__init__.py",
    "targets/worker/cold_start.py",
    "targets/worker/concurrency.py",
    "targets/worker/conditions.py",
    "targets/worker/facts.py",
    "targets/worker/operations.py",
    "targets/worker/serve.py",
    "targets/worker/turns.py",
    "targets/worker/warmup.py",
    "targets/worker/windows.py",
    "targets/worker/wire.py",
)
EMPTY = ("__init__.py", "targets/__init__.py")  # ours would import pydantic
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # equal files give an equal archive


@functools.cache
def worker_archive() -> bytes:
    """The archive's bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in EMPTY:
            archive.writestr(zipfile.ZipInfo(f"edgepress/{name}", LONG_AGO), "")
        for name in FILES:
            info = zipfile.ZipInfo(f"edgepress/{name}", LONG_AGO)
            archive.writestr(info, (PACKAGE / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def bootstrap(directory: str) -> str:
    """A Python program that takes the archive from the first bytes of stdin, keeps it in `directory`, and serves."""
    archive = worker_archive()
    name = f"worker-{hashlib.sha256(archive).hexdigest()[:16]}.zip"
    return "\n".join(
        (
            "import os, sys, json",
            "if sys.version_info < (3, 10):",
            "    fail = 'Python %d.%d' % sys.version_info[:2]",
            "    error = dict(kind='missing', what='the worker needs Python 3.10 or newer', found=fail,",
            "                 expected='Python 3.10', fix='set remote.python in the target file')",
            "    print(json.dumps(dict(error=error))); sys.exit()",
            f"data = sys.stdin.buffer.read({len(archive)})",
            f"folder = os.path.expanduser({directory!r})",
            f"path = os.path.join(folder, {name!r})",
            "try:",
            "    os.makedirs(folder, exist_ok=True)",
            "    open(path + '.part', 'wb').write(data)",
            "    os.replace(path + '.part', path)",
            "except OSError as e:",
            "    error = dict(kind='tool', what='the worker cannot be written', found=str(e), expected='', fix='')",
            "    print(json.dumps(dict(error=error))); sys.exit()",
            "sys.path.insert(0, path)",
            "from edgepress.targets.worker.serve import main",
            "sys.exit(main())",
        )
    )
