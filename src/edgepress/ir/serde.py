"""A program as a folder: `program.pt2` (graph and weights) and `program.json` (names, plans, history, hashes).

Equal programs give equal bytes. Loading never unpickles: `torch.export.load` would, where an archive asks for it, so
the archive is inspected first.
"""

import hashlib
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from edgepress import __version__
from edgepress.errors import UserError
from edgepress.ir import quant_ops  # noqa: F401  (archives of quantized programs need its operators)
from edgepress.ir.capture import quiet_torch
from edgepress.ir.program import Program

ARCHIVE, MANIFEST = "program.pt2", "program.json"  # the archive's file name is part of its bytes: keep it fixed
FORMAT = 1


def save(program: Program, folder: Path) -> None:
    """Write the program into `folder` (made if missing)."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE
    with quiet_torch():
        torch.export.save(program.exported, archive)
    manifest = {
        "format": FORMAT,
        "edgepress": __version__,
        "torch": torch.__version__.split("+")[0],
        "inputs": list(program.input_names),
        "outputs": list(program.output_names),
        "plans": dict(program.plans),
        "history": list(program.history),
        "sha256": {ARCHIVE: file_digest(archive)},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> Program:
    """Read a program written by `save`.

    Raises:
        UserError: missing files, a manifest of another format, bytes that do not match their hash.
    """
    manifest = _read_manifest(folder)
    archive = folder / ARCHIVE
    found = file_digest(archive)
    if found != manifest["sha256"][ARCHIVE]:
        raise UserError(
            f"{archive} is damaged",
            found=f"sha256 {found[:12]}",
            expected=f"sha256 {manifest['sha256'][ARCHIVE][:12]}",
            fix="restore the file, or run the step again",
        )
    return Program(
        exported=load_archive(archive),
        input_names=tuple(manifest["inputs"]),
        output_names=tuple(manifest["outputs"]),
        plans=manifest["plans"],
        history=tuple(manifest["history"]),
    )


def load_archive(path: Path) -> torch.export.ExportedProgram:
    """`torch.export.load` for archives that hold nothing but data.

    Raises:
        UserError: no such file, not a `.pt2`, or an archive with pickled parts that could run code.
    """
    # torch reads pickled constants and inputs with weights_only=False (torch/export/pt2_archive/_package.py).
    _refuse_pickles(path)
    import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed::*

    try:
        with quiet_torch():
            return torch.export.load(path)
    except Exception as error:
        raise UserError(
            f"cannot read {path}",
            found=f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}",
            expected=f"an archive written by torch.export.save of torch {torch.__version__.split('+')[0]}",
            fix="export the model again with this version of torch",
        ) from error


def file_digest(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{path}", found=f"format {manifest['format']}", expected=f"format {FORMAT}")
        _ = manifest["sha256"][ARCHIVE], manifest["inputs"], manifest["outputs"]
    except FileNotFoundError as error:
        raise UserError(f"no program in {folder}", found="no " + MANIFEST, expected="a folder written by edgepress",
                        fix="name the folder of a finished step") from error  # fmt: skip
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged", found=str(error), expected="a manifest of edgepress") from error
    return dict(manifest)


def _refuse_pickles(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"no file {path}", found="nothing", expected="a .pt2 archive", fix="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                _refuse_pickled_member(path, name, archive)
    # A damaged archive also has member names that are no text, settings that are no JSON, sizes that are none.
    except (zipfile.BadZipFile, zlib.error, ValueError, AttributeError, KeyError, NotImplementedError, EOFError,
            OSError, RuntimeError) as error:  # fmt: skip
        raise UserError(f"cannot read {path}", found=str(error), expected="a .pt2 archive of torch.export.save",
                        fix="save the program with torch.export.save") from error  # fmt: skip


def _refuse_pickled_member(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    if name.endswith("_config.json"):
        config = json.loads(archive.read(name)).get("config", {})
        pickled = [key for key, meta in config.items() if meta.get("use_pickle")]
        if pickled:
            raise _pickle_error(path, f"{name}: {', '.join(pickled[:3])}")
    elif name.endswith(".pt"):
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)  # noqa: TID251
        except Exception as error:
            raise _pickle_error(path, name) from error


def _pickle_error(path: Path, member: str) -> UserError:
    return UserError(
        f"{path} holds pickled objects, which can run code when they are read",
        found=member,
        expected="plain tensors only",
        fix="export the model without custom objects, or import it from its Python factory",
    )
