"""A program as PyTorch takes it: a `torch.export` archive, or machine code that AOTInductor made of it."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from edgepress.errors import ToolError
from edgepress.exporters.shipping import shipping_form
from edgepress.ir.capture import quiet_torch
from edgepress.ir.program import Program
from edgepress.ir.serde import ARCHIVE
from edgepress.targets.runtimes.torch_session import NAMES, compile_ahead


@dataclass(frozen=True)
class Pt2Artifact:
    """The written .pt2 and its sha256."""

    path: Path
    digest: str


def export_pt2(program: Program, path: Path) -> Pt2Artifact:
    """Write the archive: `torch.export.load` reads it anywhere, quantized programs after `import edgepress.ir`.

    It also holds the names of inputs and outputs, which torch would forget. Equal programs give equal bytes.

    Raises:
        ToolError: the file cannot be written.
    """
    names = json.dumps({"inputs": program.input_names, "outputs": program.output_names})
    return _placed(path, lambda file: _save(program, names, file))


def export_aot(program: Program, path: Path) -> Pt2Artifact:
    """Compile for this machine's CPU. The package runs on machines with the same vector instructions only.

    Raises:
        MissingTool: no C++ compiler. ToolError: the compiler fails, or the file cannot be written.
    """
    return _placed(path, lambda file: compile_ahead(shipping_form(program), file))


def _save(program: Program, names: str, file: Path) -> None:
    with quiet_torch():
        torch.export.save(shipping_form(program).exported, file, extra_files={NAMES: names})


def _placed(path: Path, write: Callable[[Path], object]) -> Pt2Artifact:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / ARCHIVE  # the file's name is part of its bytes: keep it fixed
            write(made)
            digest = hashlib.sha256(made.read_bytes()).hexdigest()
            made.replace(path)
    except OSError as error:
        raise ToolError(f"{path} cannot be written", found=error.strerror or str(error)) from None
    return Pt2Artifact(path, digest)
