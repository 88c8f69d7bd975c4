"""What every part of a recipe is made of: strict frozen sections, and paths that know where the recipe lies.

Loading gives the validator a context `{"base": folder of the recipe}`: relative paths become absolute at once, so no
consumer needs to know where the recipe was. Dumping with a context `{"relative_to": folder}` turns them back.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    model_serializer,
)
from pydantic_core import PydanticCustomError

FILE_FUNCTION = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
MODULE_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Section(BaseModel):
    """A mapping of the recipe: frozen, no unknown keys, no silent conversions ("3" is not 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)

    @model_serializer(mode="wrap")
    def _leave_out_what_is_off_by_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields.items()
        silent = {field.alias or name for name, field in fields if field.default is None}
        return {key: value for key, value in handler(self).items() if value is not None or key not in silent}


def problem(what: str, *, at: str = "", found: str = "", expected: str = "", fix: str = "") -> PydanticCustomError:
    """An error for validators to raise that keeps its parts apart until it is shown.

    Args:
        at: the key inside the section that is at fault, "" for the section itself.
    """
    context = {"what": what, "at": at, "found": found, "expected": expected, "fix": fix}
    return PydanticCustomError("problem", "{what}", context)


def exactly_one(section: str, given: Mapping[str, object]) -> str:
    """The one key of `given` whose value is not `None`.

    Raises:
        PydanticCustomError: none or several are given.
    """
    chosen = [key for key, value in given.items() if value is not None]
    if len(chosen) == 1:
        return chosen[0]
    raise problem(
        f"{section} needs exactly one of its alternatives",
        found=" and ".join(chosen) or "none",
        expected="one of " + ", ".join(given),
        fix=f"keep one: {', '.join(chosen or given)}",
    )


def _absolute(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(os.path.normpath(base / path.expanduser())) if base else path


def absolute_if_folder(name: str, info: ValidationInfo) -> str:
    """The absolute path, if `name` is a folder seen from the recipe; else the name as it is (a repository id)."""
    place = _absolute(Path(name), info)
    return place.as_posix() if place.is_dir() else name


def _written(path: Path, info: SerializationInfo) -> str:
    folder = (info.context or {}).get("relative_to")
    return Path(os.path.relpath(path, folder)).as_posix() if folder else path.as_posix()


RecipePath = Annotated[Path, AfterValidator(_absolute), PlainSerializer(_written, return_type=str)]
"""A file or folder, written relative to the recipe; absolute once loaded."""


def _absolute_function(reference: str, info: ValidationInfo) -> str:
    if match := FILE_FUNCTION.fullmatch(reference):
        return f"{_absolute(Path(match['file']), info).as_posix()}:{match['name']}"
    if MODULE_FUNCTION.fullmatch(reference):
        return reference
    raise problem(
        "not a reference to a function",
        found=repr(reference),
        expected="path/file.py:function or package.module:function",
        fix="put the name of the function after a colon",
    )


def _written_function(reference: str, info: SerializationInfo) -> str:
    if match := FILE_FUNCTION.fullmatch(reference):
        return f"{_written(Path(match['file']), info)}:{match['name']}"
    return reference


FunctionRef = Annotated[str, AfterValidator(_absolute_function), PlainSerializer(_written_function, return_type=str)]
"""`path/file.py:function` (relative to the recipe, absolute once loaded) or `package.module:function`."""
