"""From pydantic's complaints to one error: where, what was found, what was expected, how to mend it."""

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edgepress.errors import UserError
from edgepress.recipe.yaml_text import Document, KeyPath

_WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list",
    dict: "a mapping",
}
WRONG_TAG = {"union_tag_not_found", "union_tag_invalid"}


def explain(error: ValidationError, model: type[BaseModel], document: Document) -> UserError:
    """The first complaint (in the order of the file) as a `UserError`; how many more there are stands behind it."""
    complaints = _merged(error.errors(include_url=False), document)
    path, details = min(complaints.items(), key=lambda item: _position(document, item[0], item[1][0]))
    what, found, expected, fix = _sentence(path, details, model)
    place = _place(document, path, details[0])
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return UserError(f"{place}: {what}{more}", found=found, expected=expected, fix=fix)


def _merged(errors: Iterable[ErrorDetails], document: Document) -> dict[KeyPath, list[ErrorDetails]]:
    """Complaints by path in the file. The branches of a union complain about the same place: they belong together."""
    merged: dict[KeyPath, list[ErrorDetails]] = {}
    for details in errors:
        merged.setdefault(_path_in_file(details, document.data), []).append(details)
    return merged


def _path_in_file(details: ErrorDetails, data: Any) -> KeyPath:
    """pydantic's location without the union tags that it mixes in; a missing or misused key stays as the last part."""
    path: KeyPath = ()
    for part in details["loc"]:
        if part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int):
            data, path = data[part], (*path, part)
    if details["type"] == "missing":
        return (*path, details["loc"][-1])
    if details["type"] in WRONG_TAG:
        return (*path, str(details["ctx"]["discriminator"]).strip("'"))
    at = details.get("ctx", {}).get("at", "") if details["type"] == "problem" else ""
    return (*path, *(int(key) if key.isdecimal() else key for key in at.split(".") if key))


def _place(document: Document, path: KeyPath, details: ErrorDetails) -> str:
    if details["type"] in {"missing", "union_tag_not_found"}:
        return document.place_of_key(path[:-1])
    if details["type"] in {"extra_forbidden", "problem"}:
        return document.place_of_key(path)
    return document.place_of_value(path)


def _position(document: Document, path: KeyPath, details: ErrorDetails) -> list[int]:
    """Line and column as numbers, for sorting; what a flag set comes first, for it was written last."""
    return [int(number) for number in re.findall(r":(\d+)", _place(document, path, details))[-2:]]


def _sentence(path: KeyPath, details: Sequence[ErrorDetails], model: type[BaseModel]) -> tuple[str, str, str, str]:
    """(what, found, expected, fix)."""
    first, name = details[0], _dotted(path)
    if first["type"] == "problem":
        context = first.get("ctx", {})
        where = f"{name}: " if name and not context["what"].startswith(name) else ""
        return where + context["what"], context["found"], context["expected"], context["fix"]
    if first["type"] == "missing":
        return _missing(path, first, model)
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, first, model)
    if first["type"] in WRONG_TAG:
        return _wrong_kind(path, first, model)
    return _wrong_value(path, details)


def _missing(path: KeyPath, details: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str, str]:
    field = _field(model, details["loc"])
    hint = _type_in_words(field.annotation) if field else "a value"
    section = _dotted(path[:-1]) or "the recipe"
    given = ", ".join(map(str, details["input"])) if isinstance(details["input"], dict) else _shown(details["input"])
    fix = f"add '{path[-1]}' to {section}, or --set {_dotted(path)}=..."
    return f"{section} lacks '{path[-1]}'", given or "nothing", f"{path[-1]}: {hint}", fix


def _unknown_key(path: KeyPath, details: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str, str]:
    known = sorted({key for owner in _models(_types_at(model, details["loc"][:-1])) for key in _keys(owner)})
    near = nearest(str(path[-1]), known)
    section = _dotted(path[:-1]) or "the recipe"
    fix = f"rename it to '{near}'" if near else f"remove '{path[-1]}'"
    return f"unknown key '{path[-1]}' in {section}", str(path[-1]), near or ", ".join(known), fix


def _wrong_kind(path: KeyPath, details: ErrorDetails, model: type[BaseModel]) -> tuple[str, str, str, str]:
    key, section = str(path[-1]), _dotted(path[:-1])
    members = _models(_types_at(model, details["loc"]))
    choices = [str(choice) for member in members for choice in get_args(member.model_fields[key].annotation)]
    tag = details["ctx"].get("tag")
    near = nearest(str(tag), choices) if tag else None
    fix = f"did you mean '{near}'?" if near else f"--set {_dotted(path)}={choices[0]}"
    return f"{section} is of no known {key}", str(tag) if tag else f"no '{key}'", ", ".join(choices), fix


def _wrong_value(path: KeyPath, details: Sequence[ErrorDetails]) -> tuple[str, str, str, str]:
    value = details[0]["input"]
    wanted = dict.fromkeys(_wanted(complaint["msg"]) for complaint in details)
    choices = re.findall(r"'([^']*)'", str(details[0].get("ctx", {}).get("expected", "")))
    near = nearest(value, choices) if isinstance(value, str) else None
    name = _dotted(path) or "the recipe"
    if details[0]["type"] == "value_error":
        return f"{name}: {details[0]['msg'].removeprefix('Value error, ')}", _shown(value), "", f"change {name}"
    fix = f"did you mean '{near}'?" if near else f"change {name}, or --set {name}=..."
    return f"{name}: not a usable value", _shown(value), " or ".join(wanted), fix


def _wanted(message: str) -> str:
    """What pydantic wanted, in the words of someone who writes YAML."""
    wanted = re.sub(r"^(Input|Value|String|Tuple|List) should (be |have )?", "", message).removesuffix(", not 0")
    for words, plain in (
        ("an object", "a mapping"),
        ("a valid array", "a list"),
        ("a valid string", "text"),
        ("a valid integer", "a whole number"),
        ("a valid ", "a "),
        (" after validation", ""),
    ):
        wanted = wanted.replace(words, plain)
    return wanted


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, `None` if none is near."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


# What may stand where: a walk over the annotations of the models.


def _field(model: type[BaseModel], location: Sequence[str | int]) -> FieldInfo | None:
    for owner in _models(_types_at(model, location[:-1])):
        for name, field in owner.model_fields.items():
            if (field.alias or name) == location[-1]:
                return field
    return None


def _types_at(model: type[BaseModel], location: Sequence[str | int]) -> list[Any]:
    """Every type that the annotations allow at `location` (with pydantic's union tags in it)."""
    types: list[Any] = [model]
    for part in location:
        below = [leaf for owner in types for leaf in _leaves(_child(owner, part))]
        types = below or [owner for owner in types if _has_tag(owner, part)] or types
    return types


def _leaves(annotation: Any) -> list[Any]:
    """The members of a union, through `Annotated` and `| None`."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [leaf for member in get_args(annotation) for leaf in _leaves(member)]
    return [] if annotation in (None, type(None)) else [annotation]


def _child(owner: Any, part: str | int) -> Any:
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        return next((f.annotation for name, f in owner.model_fields.items() if (f.alias or name) == part), None)
    arguments = get_args(owner)
    if get_origin(owner) is tuple and isinstance(part, int):
        return arguments[0]
    return arguments[1] if get_origin(owner) is dict else None


def _has_tag(owner: Any, tag: str | int) -> bool:
    """Is `owner` the member of a discriminated union that `tag` stands for?"""
    fields = [model.model_fields.values() for model in _models([owner])]
    return any(get_args(f.annotation) == (tag,) for group in fields for f in group)


def _models(types: Iterable[Any]) -> list[type[BaseModel]]:
    return [owner for owner in types if isinstance(owner, type) and issubclass(owner, BaseModel)]


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _type_in_words(annotation: Any) -> str:
    leaves = _leaves(annotation)
    if _models(leaves):
        return "a mapping"
    if len(leaves) == 1 and get_origin(leaves[0]) is Literal:
        return " or ".join(map(str, get_args(leaves[0])))
    return " or ".join(dict.fromkeys(_WORDS.get(get_origin(leaf) or leaf, "a value") for leaf in leaves))
