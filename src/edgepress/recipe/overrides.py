"""`--set a.b.0.c=value`: change one value of a parsed recipe before it is validated."""

from typing import Any

from edgepress.errors import UserError
from edgepress.recipe.yaml_text import MAX_DEPTH, Document, KeyPath, parse


def apply(document: Document, override: str) -> None:
    """Set one value in place. Mappings on the way are made where missing; list items must be there.

    Args:
        override: `path=value`; path is dotted keys and list indices, value is YAML (`0.3`, `[1, 2]`, `{a: b}`, text).

    Raises:
        UserError: no `=`, an empty key, a value that is no YAML, or a path that does not fit the recipe.
    """
    flag = f"--set {override}"
    path, value = _split(override, flag)
    container: Any = document.data
    walked: KeyPath = ()
    for part, following in zip(path, [*path[1:], None], strict=True):
        key = _key(container, part, walked, flag)
        walked = (*walked, key)
        if following is None:
            container[key] = value
        elif isinstance(container, dict) and container.get(key) is None:
            container[key] = {}
            document.values[walked] = flag
        container = container[key]
    _move_place(document, walked, flag)


def _split(override: str, flag: str) -> tuple[list[str], Any]:
    name, equals, text = override.partition("=")
    path = name.strip().split(".")
    if not equals or not text.strip() or not all(path) or len(path) > MAX_DEPTH:
        example = "--set steps.0.prune.reduce.macs=0.3"
        raise UserError(f"{flag}: not an override", found=override, expected="path=value", fix=f"e.g. {example}")
    return path, parse(text, flag).data


def _key(container: Any, part: str, walked: KeyPath, flag: str) -> str | int:
    """`part` as a key of `container`: an index where that is a list."""
    if isinstance(container, dict):
        return part
    where = ".".join(map(str, walked)) or "the recipe"
    if not isinstance(container, list):
        found = f"{where} is {container!r}"
        raise UserError(f"{flag}: no such place", found=found, expected=f"a mapping at {where}", fix="shorten the path")
    if part.isdecimal() and int(part) < len(container):
        return int(part)
    expected = f"an index from 0 to {len(container) - 1}" if container else "a list that is not empty"
    raise UserError(f"{flag}: {where} is a list", found=part, expected=expected, fix=f"--set {where}.0...")


def _move_place(document: Document, path: KeyPath, flag: str) -> None:
    """Errors below `path` name the flag from now on, not a line of the file that no longer counts."""
    for places in (document.keys, document.values):
        for known in [known for known in places if known[: len(path)] == path]:
            del places[known]
    document.keys[path] = document.values[path] = flag
