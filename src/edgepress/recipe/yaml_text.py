"""YAML in and out, with the position of every key and value kept for error messages.

The dialect is YAML 1.2's core schema, reduced to what JSON can say: `1e-3` is a number, `yes` and `2026-01-01` are
text. (PyYAML's own YAML 1.1 reads them as text, true and a date.) Size, depth and the number of values after alias
expansion are bounded, so that a hostile file cannot exhaust memory.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from edgepress.errors import UserError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]

_TAGS = [f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")]
_NULL, _BOOL, _INT, _FLOAT, _STR, _, _ = _TAGS
_CORE_SCHEMA = (
    (_NULL, re.compile(r"~|null|Null|NULL|"), ["~", "n", "N", ""]),
    (_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    (_INT, re.compile(r"[-+]?[0-9]+"), list("-+0123456789")),
    (_FLOAT, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), list("-+.0123456789")),
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first_characters in _CORE_SCHEMA:
        for character in first_characters:
            table.setdefault(character, []).append((tag, re.compile(f"^(?:{pattern.pattern})$")))
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass
class Document:
    """A parsed file.

    Attributes:
        data: plain JSON-like data. keys, values: where each came from, "file:line:column" or the flag that set it.
    """

    name: str
    data: Any
    keys: dict[KeyPath, str] = field(default_factory=dict)
    values: dict[KeyPath, str] = field(default_factory=dict)

    def place_of_key(self, path: KeyPath) -> str:
        """Where the key (or list item) stands; the nearest enclosing one if it is not there."""
        return self.keys.get(path) or self.place_of_value(path)

    def place_of_value(self, path: KeyPath) -> str:
        for length in range(len(path), -1, -1):
            if place := self.values.get(path[:length]):
                return place
        return self.name


def parse(text: str, name: str) -> Document:
    """Read one YAML document.

    Args:
        name: how the source is called in error messages.

    Raises:
        UserError: no YAML, more than one document, no content, a duplicate or non-text key, a tag, or too large.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{name}: too large", found=f"{len(text)} characters", expected=f"at most {MAX_BYTES}")
    document = Document(name, None)
    try:
        root = yaml.compose(text, _Loader)
        if root is None:
            raise UserError(f"{name}: empty", found="no content", expected="a recipe", fix="edgepress init MODEL")
        document.data = _Builder(document).build(root, ())
    except RecursionError:
        raise _too_deep(name) from None
    except yaml.YAMLError as error:
        raise _syntax_error(error, name) from None
    return document


def dump(data: Mapping[str, object]) -> str:
    """Text that `parse` reads back as the same data."""
    # Escapes instead of Unicode: PyYAML writes U+0085 and U+2028 as they are and then reads them as line breaks.
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=110, default_flow_style=None)


def _too_deep(place: str) -> UserError:
    return UserError(f"{place}: nested too deeply", expected=f"at most {MAX_DEPTH} levels", fix="flatten the recipe")


def _syntax_error(error: yaml.YAMLError, name: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    found = getattr(error, "problem", None) or str(error).splitlines()[0]
    return UserError(f"{place}: not valid YAML", found=found, expected="YAML", fix="check indentation and quotes there")


class _Builder:
    """Turns nodes into plain data and notes where each came from."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.values[path] = place = self._place(node)
        self.count += 1
        if self.count > MAX_VALUES:
            expected = f"at most {MAX_VALUES} values"
            raise UserError(f"{place}: aliases expand to too much", expected=expected, fix="write the values out")
        if len(path) > MAX_DEPTH:
            raise _too_deep(place)
        if node.tag not in _TAGS:
            raise _tagged(node, place)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in result:
                raise self._duplicate(key, (*path, key), self._place(key_node))
            self.document.keys[(*path, key)] = self._place(key_node)
            result[key] = self.build(value_node, (*path, key))
        return result

    def _key(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode) and node.tag == _STR:
            return str(_scalar(node, self._place(node)))
        found = repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {node.tag.rsplit(':', 1)[-1]}"
        raise UserError(f"{self._place(node)}: a key must be text", found=found, expected="text", fix="quote the key")

    def _duplicate(self, key: str, path: KeyPath, place: str) -> UserError:
        first = self.document.keys[path]
        return UserError(
            f"{place}: the key '{key}' is given twice",
            found=f"first at {first}",
            expected="each key once",
            fix=f"remove one of the two '{key}'",
        )

    def _place(self, node: yaml.Node) -> str:
        mark = node.start_mark
        return f"{self.document.name}:{mark.line + 1}:{mark.column + 1}"


def _scalar(node: yaml.Node, place: str) -> str | int | float | bool | None:
    text: str = node.value
    if node.tag == _STR:
        return _clean_text(text, place)
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    return _number(node.tag, text, place)


def _tagged(node: yaml.Node, place: str) -> UserError:
    expected = "plain YAML: text, numbers, true, false, null, lists, mappings"
    return UserError(f"{place}: tags are not allowed", found=node.tag, expected=expected, fix="remove the tag")


def _number(tag: str, text: str, place: str) -> int | float:
    try:
        number = int(text) if tag == _INT else float(text)
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass
    raise UserError(f"{place}: not a usable number", found=text[:40], expected="a finite number", fix="shorten it")


def _clean_text(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        found = ascii(text[:40])
        raise UserError(f"{place}: half a character", found=found, expected="Unicode text", fix="remove it") from None
    return text
