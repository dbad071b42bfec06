"""Reads YAML text into values with line numbers.

The rules for plain scalars are those of the YAML 1.2 core schema: `no`, `on`, `12:30` and `2020-01-01` are text and
`1e-3` is a number. Refused: duplicate keys, keys that are not text, `<<`, tags of other types, more than one document,
integers such as `010`, non-finite numbers, files over 256 KiB, nesting deeper than 32 levels, aliases that expand
endlessly.
"""

import os
import re
import stat
from dataclasses import dataclass
from itertools import count
from math import isfinite, nan
from pathlib import Path
from typing import Any

import yaml

from nfrepro.errors import InputError
from nfrepro.specs.origins import KeyPath, Origin, display_path, dotted, problem, written

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

_TAG = "tag:yaml.org,2002:"
_PLAIN_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "merge": r"<<",
}


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the plain scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str | None, list[Any]] = {}  # noqa: RUF012


for _type, _pattern in _PLAIN_SCALARS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_type}", re.compile(rf"(?:{_pattern})\Z"), None)


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file. Its origin is the line of its key or, for a list item, its own line."""

    value: "str | int | float | bool | list[Node] | dict[str, Node] | None"
    origin: Origin


def read_file(path: Path) -> Node:
    """Read the only document in the file. Raises `InputError`, with the line if there is one, if it cannot be read."""
    name = display_path(path)
    node = _Converter(name, numbered=True).read(_decoded(_content(path, name), name))
    if node is None:
        raise problem(name, "the file is empty")
    return node


def read_value(text: str, name: str) -> Node:
    """The value that a `--set` override gives, by the same rules as in a file; `name` is its origin."""
    return _Converter(name, numbered=False).read(text) or Node(None, Origin(name))


def plain(node: Node) -> Any:
    """The value without its lines."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def _content(path: Path, name: str) -> bytes:
    try:
        # Checked before opening, because opening a named pipe would wait forever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise problem(name, "is not a regular file")
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise problem(name, "no such file") from None
    except OSError as error:
        raise problem(name, f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise problem(name, f"is larger than {MAX_BYTES // 1024} KiB")
    return content


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise problem(Origin(name, line), f"is not UTF-8 at byte {error.start}") from None


class _Converter:
    """Converts PyYAML's nodes of one text into ours; counts them, since aliases may expand far beyond the text."""

    def __init__(self, name: str, *, numbered: bool) -> None:
        self._name, self._numbered = name, numbered
        self._count = count(1)

    def read(self, text: str) -> Node | None:
        """The only document of the text, or None if there is none."""
        loader: Any = None
        try:
            loader = _Loader(text)
            root = loader.get_single_node()
        except yaml.reader.ReaderError as error:
            origin = self._origin(text.count("\n", 0, error.position))
            raise problem(origin, f"not valid YAML: character U+{ord(text[error.position]):04X}") from None
        except yaml.MarkedYAMLError as error:
            reason = f"{error.context}, {error.problem}" if error.context else error.problem
            line = error.problem_mark.line if error.problem_mark else loader.line
            raise problem(self._origin(line), f"not valid YAML: {reason}") from None
        except RecursionError:
            raise problem(self._origin(loader.line), f"nested deeper than {MAX_DEPTH} levels") from None
        except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF", a directive such as %YAML 9…9.0
            raise problem(self._origin(loader.line), "not valid YAML: an escape or number out of range") from None
        return None if root is None else self._node(root, self._origin(root.start_mark.line), ())

    def _origin(self, line: int) -> Origin:
        return Origin(self._name, line + 1 if self._numbered else 0)

    def _node(self, node: yaml.Node, origin: Origin, path: KeyPath) -> Node:
        if len(path) >= MAX_DEPTH:
            raise problem(origin, f"nested deeper than {MAX_DEPTH} levels")
        if next(self._count) > MAX_NODES:
            raise problem(origin, f"more than {MAX_NODES} values once aliases are expanded")
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return Node([self._item(item, origin, (*path, str(n))) for n, item in enumerate(node.value)], origin)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return Node(self._fields(node, path), origin)
        if isinstance(node, yaml.ScalarNode):
            return Node(_scalar(node, self._origin(node.start_mark.line)), origin)
        raise _unread_tag(node, origin)

    def _item(self, node: yaml.Node, above: Origin, path: KeyPath) -> Node:
        """An item of a list; the line of an alias is that of the list around it."""
        return self._node(node, max(above, self._origin(node.start_mark.line)), path)

    def _fields(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for key_node, value in node.value:
            origin = self._origin(key_node.start_mark.line)
            key = _key(key_node, origin)
            if key in fields:
                raise problem(origin, f"{dotted((*path, key))}: key given twice, first at {fields[key].origin}")
            fields[key] = self._node(value, origin, (*path, key))
        return fields


def _key(node: yaml.Node, origin: Origin) -> str:
    if node.tag == f"{_TAG}merge":
        raise problem(origin, "<<: merge keys are not read; share settings through extends")
    if not isinstance(node, yaml.ScalarNode):
        raise problem(origin, "a key must be text, not a list or a mapping")
    key = _scalar(node, origin)
    if not isinstance(key, str):
        raise problem(origin, f"key {written(key)} is not text; quote it")
    return key


def _scalar(node: yaml.ScalarNode, origin: Origin) -> str | int | float | bool | None:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "str" | "merge":
            if not text.isprintable() and any("\ud800" <= character <= "\udfff" for character in text):
                raise problem(origin, f"{written(text)} contains half a surrogate pair, which is no character")
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _integer(text, origin)
        case "float":
            return _finite(text, origin)
    raise _unread_tag(node, origin)


def _integer(text: str, origin: Origin) -> int:
    if re.fullmatch(r"[-+]?0[0-9]+", text):
        advice = "quote it if it is text, drop the leading zero if a number"
        raise problem(origin, f"{written(text)} is ambiguous: {advice}")
    try:
        return int(text, 0)
    except ValueError:
        raise problem(origin, f"{written(text)} is not an integer, or too long") from None


def _finite(text: str, origin: Origin) -> float:
    try:
        number = float(text)
    except ValueError:  # .inf, .nan, or a word after !!float
        number = nan
    if not isfinite(number):
        raise problem(origin, f"{text} is not a finite number")
    return number


def _unread_tag(node: yaml.Node, origin: Origin) -> InputError:
    tag = node.tag.replace(_TAG, "!!", 1)
    return problem(origin, f"tag {tag}: tags are not read; quote what is meant as text")
