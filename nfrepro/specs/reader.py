"""YAML text to values that know their lines.

The rules for plain scalars are those of the YAML 1.2 core schema: `no`, `on`, `12:30` and `2020-01-01` are text and
`1e-3` is a number. Refused: duplicate keys, keys that are not text, `<<`, tags, more than one document, integers such
as `010`, non-finite numbers, files over 256 KiB, nesting deeper than 32 levels, aliases that expand without end.
"""

import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from nfrepro.specs.origins import KeyPath, Origin, display_path, dotted, problem, written

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000

_YAML_TAG = "tag:yaml.org,2002:"
_CONSTANTS = {"": None, "~": None} | {
    form: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_AMBIGUOUS = re.compile(r"[-+]?0[0-9]+")
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file. Its origin is the line of its key or, for a list item, its own line."""

    value: "str | int | float | bool | list[Node] | dict[str, Node] | None"
    origin: Origin
    # Of the expanded tree below it, aliases included: the limits are on what a file means, not on its text.
    size: int = 1
    height: int = 1


def read_file(path: Path) -> Node:
    """The one document in the file; InputError, with the line where there is one, if it cannot be read."""
    name = display_path(path)
    node = _Composer(_decoded(_content(path, name), name), name, numbered=True).document()
    if node is None:
        raise problem(name, "the file is empty")
    return node


def read_value(text: str, name: str) -> Node:
    """The value that a `--set` override gives, by the same rules as in a file; `name` is its origin."""
    node = _Composer(text, name, numbered=False).document()
    return Node(None, Origin(name)) if node is None else node


def plain(node: Node) -> Any:
    """The value without its lines."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(item) for item in node.value] if isinstance(node.value, list) else node.value


def _content(path: Path, name: str) -> bytes:
    try:
        # Asked before opening, because opening a named pipe would wait for ever.
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


class _Composer:
    """Builds nodes from the events of the parser, which keeps its own stack, so that depth is bounded here."""

    def __init__(self, text: str, name: str, *, numbered: bool) -> None:
        self._name, self._numbered = name, numbered
        self._anchors: dict[str, Node | None] = {}  # None while the anchored value is still being read
        self._nodes = 0
        try:
            self._parser: Any = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            origin = self._origin(text.count("\n", 0, error.position))
            raise problem(origin, f"not valid YAML: character U+{ord(text[error.position]):04X}") from None

    def document(self) -> Node | None:
        """The only document of the stream, or None if there is none."""
        self._next()
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        node = self._node(self._next(), None, ())
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise problem(self._position(event), "a second document; a file holds one")
        return node

    def _origin(self, line: int) -> Origin:
        return Origin(self._name, line + 1 if self._numbered else 0)

    def _position(self, event: Any) -> Origin:
        return self._origin(event.start_mark.line)

    def _next(self) -> Any:
        try:
            return self._parser.get_event()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line if error.problem_mark is not None else self._parser.line
            reason = f"{error.context}, {error.problem}" if error.context else error.problem
            raise problem(self._origin(line), f"not valid YAML: {reason}") from None
        except (ValueError, OverflowError):  # an escape such as "\UFFFFFFFF", a directive such as %YAML 9…9.0
            raise problem(self._origin(self._parser.line), "not valid YAML: an escape or number out of range") from None

    def _node(self, event: Any, key_origin: Origin | None, path: KeyPath) -> Node:
        origin = key_origin or self._position(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, origin, path)
        if event.tag is not None:
            tag = event.tag.replace(_YAML_TAG, "!!", 1)
            raise problem(self._position(event), f"tag {tag}: tags are not read; quote what is meant as text")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._check_limits(origin, depth=len(path) + 1, nodes=1)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(_scalar(event, self._position(event)), origin)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(origin, path)
        else:
            node = self._mapping(origin, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, anchor: Any, origin: Origin, path: KeyPath) -> Node:
        if anchor not in self._anchors:
            raise problem(origin, f"alias *{anchor}: no such anchor before it")
        node = self._anchors[anchor]
        if node is None:
            raise problem(origin, f"alias *{anchor}: is inside the value it names")
        self._check_limits(origin, depth=len(path) + node.height, nodes=node.size)
        return replace(node, origin=origin)

    def _list(self, origin: Origin, path: KeyPath) -> Node:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, None, (*path, str(len(items)))))
        return _container(items, items, origin)

    def _mapping(self, origin: Origin, path: KeyPath) -> Node:
        fields: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            position = self._position(event)
            key = _key(event, position)
            if key in fields:
                first = fields[key].origin
                raise problem(position, f"{dotted((*path, key))}: key given twice, first at {first}")
            fields[key] = self._node(self._next(), position, (*path, key))
        return _container(fields, list(fields.values()), origin)

    def _check_limits(self, origin: Origin, depth: int, nodes: int) -> None:
        self._nodes += nodes
        if depth > MAX_DEPTH:
            raise problem(origin, f"nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            raise problem(origin, f"more than {MAX_NODES} values once aliases are expanded")


def _container(value: list[Node] | dict[str, Node], children: list[Node], origin: Origin) -> Node:
    size = 1 + sum(child.size for child in children)
    return Node(value, origin, size, 1 + max((child.height for child in children), default=0))


def _key(event: Any, origin: Origin) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag is not None or event.anchor is not None:
        raise problem(origin, "a key must be plain text")
    if event.implicit[0] and event.value == "<<":
        raise problem(origin, "<<: merge keys are not read; share settings through extends")
    key = _scalar(event, origin)
    if not isinstance(key, str):
        raise problem(origin, f"key {written(key)} is not text; quote it")
    return key


def _scalar(event: Any, origin: Origin) -> str | int | float | bool | None:
    text: str = event.value
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise problem(origin, f"{written(text)} contains half a surrogate pair, which is no character") from None
    if not event.implicit[0]:  # quoted or a block of text
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _number_or_text(text, origin)


def _number_or_text(text: str, origin: Origin) -> str | int | float:
    if _AMBIGUOUS.fullmatch(text):
        raise problem(
            origin, f"{written(text)} is ambiguous: quote it if it is text, drop the leading zero if a number"
        )
    if _BASED_INTEGER.fullmatch(text):
        return int(text, 0)
    if _INTEGER.fullmatch(text):
        try:
            return int(text)
        except ValueError:
            raise problem(origin, f"integer of {len(text)} digits is too long") from None
    if _FLOAT.fullmatch(text):
        number = float(text)
        if number in (float("inf"), float("-inf")):
            raise problem(origin, f"{text} is not a finite number")
        return number
    if _NOT_FINITE.fullmatch(text):
        raise problem(origin, f"{text} is not a finite number")
    return text
