"""Find and call a user's function named as `file.py:function` or `package.module:function`."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.errors import UserError


def call(reference: str, kwargs: Mapping[str, Any], base: Path) -> Any:
    """Call the function that `reference` names.

    Args:
        reference: `path/to/file.py:function` (relative to `base`) or `package.module:function`.
        kwargs: keyword arguments for it.

    Raises:
        UserError: no such file, module or function, or the function raised (names the user's line).
    """
    function = find(reference, base)
    try:
        return function(**kwargs)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{reference} failed at {frame.filename}:{frame.lineno}: {frame.line}",
            found=f"{type(error).__name__}: {error}",
            expected="a function that returns",
            fix="check its keyword arguments and try it in a Python shell",
        ) from error


def find(reference: str, base: Path) -> Callable[..., Any]:
    """The function itself; see `call`."""
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise UserError(f"cannot read the factory {reference!r}", found="no colon",
                        expected="file.py:function or package.module:function")  # fmt: skip
    module = _module_from_file(base / place) if place.endswith(".py") else _module_by_name(place, base)
    function = getattr(module, name, None)
    if not callable(function):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UserError(f"no function {name} in {place}", found=", ".join(public[:8]) or "no functions",
                        expected=name)  # fmt: skip
    return function


def _module_from_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise UserError(f"no file {path}", found="nothing", expected="a Python file", fix="check the path")
    # The module's name ends up in saved programs: it follows from the content alone, not from path or process.
    name = f"user_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look themselves up by module name
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _import_error(str(path), error) from error
    return module


def _module_by_name(name: str, base: Path) -> ModuleType:
    if str(base) not in sys.path:
        sys.path.insert(0, str(base))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise _import_error(name, error) from error


def _import_error(place: str, error: BaseException) -> UserError:
    return UserError(
        f"cannot import {place}",
        found=f"{type(error).__name__}: {error}",
        expected="a module that imports",
        fix="install what it needs, or correct the name",
    )
