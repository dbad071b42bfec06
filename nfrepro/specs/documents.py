"""The sections of an experiment file, checked for form but not yet against a schema."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from nfrepro.errors import did_you_mean
from nfrepro.specs.origins import KeyPath, Origin, described, dotted, problem
from nfrepro.specs.reader import MAX_DEPTH, Node, plain, read_file

_BLOCK_KEYS = ("set", "grid", "zip")
_COMMON_KEYS = (*_BLOCK_KEYS, "scales")
_ARM_KEYS = (*_COMMON_KEYS, "only")
_DOCUMENT_KEYS = ("title", "claims", "extends", "task", *_COMMON_KEYS, "arms")
# Keys that files once had, with their replacements.
_INSTEAD = dict.fromkeys(("include", "exclude"), "; list such runs as arms of their own, under arms")
_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value for one key of the config. An empty mapping means `a mapping is here` and does not replace a mapping."""

    path: KeyPath
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Axis:
    """Keys that take their values together: one key under `grid`, all keys of a `zip`."""

    keys: dict[KeyPath, Origin]
    points: tuple[tuple[Entry, ...], ...]
    section: str


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of settings."""

    set: tuple[Entry, ...]
    grid: tuple[Axis, ...]
    zip: tuple[Axis, ...] | None  # None if not given; if given, it replaces the zips below it


@dataclass(frozen=True, slots=True)
class Arm:
    """A block with its own scales; a whole document is one too."""

    block: Block
    scales: dict[str, Block]
    origin: Origin
    only: tuple[str, ...] | None = None  # the scales that have the arm; None: all


@dataclass(frozen=True, slots=True)
class Document:
    """One file. `extends` holds the paths as written, with the lines they are on."""

    title: str | None
    claims: tuple[str, ...] | None
    task: tuple[str, Origin] | None
    extends: tuple[tuple[str, Origin], ...]
    common: Arm
    arms: dict[str, Arm]


def read_document(path: Path) -> Document:
    """Read the file into its parts. Raises `InputError`, with the line, if it is not of the form of an experiment."""
    node = read_file(path)
    sections = _sections(node, "", _DOCUMENT_KEYS)
    task = sections.get("task")
    return Document(
        title=_text(sections["title"], "title") if "title" in sections else None,
        claims=tuple(_text(item, "claims") for item in _list(sections["claims"], "claims"))
        if "claims" in sections
        else None,
        task=(_text(task, "task"), task.origin) if task else None,
        extends=_extends(sections.get("extends")),
        common=_arm(sections, "", task.origin if task else node.origin),
        arms={
            name: _arm(_block_sections(arm, f"arms.{name}", _ARM_KEYS), f"arms.{name}.", arm.origin)
            for name, arm in _named(sections, "arms", "").items()
        },
    )


def leaves(node: Node, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """Every value below the node with its path; nested and dotted keys are equivalent."""
    if not isinstance(node.value, dict):
        yield prefix, node
        return
    if prefix:
        yield prefix, Node({}, node.origin)
    for key, child in node.value.items():
        yield from leaves(child, prefix + key_path(key, child.origin))


def entries(node: Node, prefix: KeyPath = ()) -> tuple[Entry, ...]:
    """The values that the node sets, key by key."""
    return tuple(Entry(path, plain(leaf), leaf.origin) for path, leaf in leaves(node, prefix))


def list_axis(path: KeyPath, node: Node, where: str, section: str) -> Axis:
    """The axis that a list of values gives. Raises `InputError` if it is not a list or is empty."""
    items = _list(node, where)
    if not items:
        raise problem(node.origin, f"{where}: empty axis")
    return Axis({path: node.origin}, tuple(entries(item, path) for item in items), section)


def key_path(key: str, origin: Origin) -> KeyPath:
    """The path of a dotted key: ("model", "alpha") for `model.alpha`."""
    path = tuple(key.split("."))
    if not all(path):
        raise problem(origin, f"key {key!r} has an empty part")
    if len(path) > MAX_DEPTH:
        raise problem(origin, f"{key}: nested deeper than {MAX_DEPTH} levels")
    return path


def refuse_overlaps(settings: Iterable[tuple[KeyPath, Origin]]) -> None:
    """Raises `InputError` if one block gives a key twice, or both a key and a part of it."""
    seen: dict[KeyPath, Origin] = {}
    settings = list(settings)
    for path, origin in settings:
        if path in seen:
            raise problem(origin, f"{dotted(path)}: key given twice, first at {seen[path]}")
        seen[path] = origin
    for path, origin in settings:
        for outer in (path[:length] for length in range(1, len(path))):
            if outer in seen:
                raise problem(origin, f"{dotted(path)}: a value for all of {dotted(outer)} is given at {seen[outer]}")


def _arm(sections: dict[str, Node], where: str, origin: Origin) -> Arm:
    scales = {
        name: _block(_block_sections(scale, f"{where}scales.{name}", _BLOCK_KEYS), f"{where}scales.{name}.")
        for name, scale in _named(sections, "scales", where).items()
    }
    only = None
    if "only" in sections:
        only = tuple(_text(item, f"{where}only") for item in _list(sections["only"], f"{where}only"))
    return Arm(_block(sections, where), scales, origin, only)


def _block(sections: dict[str, Node], where: str) -> Block:
    return Block(
        set=_set(sections["set"], f"{where}set") if "set" in sections else (),
        grid=_grid(sections["grid"], f"{where}grid") if "grid" in sections else (),
        zip=_zips(sections["zip"], f"{where}zip") if "zip" in sections else None,
    )


def _set(node: Node, where: str) -> tuple[Entry, ...]:
    _mapping(node, where)
    settings = entries(node)
    refuse_overlaps((entry.path, entry.origin) for entry in settings if entry.value != {})
    return settings


def _grid(node: Node, where: str, section: str = "grid") -> tuple[Axis, ...]:
    axes = tuple(
        list_axis(key_path(key, child.origin), child, f"{where}.{key}", section)
        for key, child in _mapping(node, where).items()
    )
    refuse_overlaps(chain.from_iterable(axis.keys.items() for axis in axes))
    return axes


def _zips(node: Node, where: str) -> tuple[Axis, ...]:
    items = node.value if isinstance(node.value, list) else [node]
    return tuple(axis for item in items for axis in _zip(item, where))


def _zip(node: Node, where: str) -> tuple[Axis, ...]:
    axes = _grid(node, where, "zip")
    if not axes:
        return ()
    keys = {path: origin for axis in axes for path, origin in axis.keys.items()}
    first, count = next(iter(keys)), len(axes[0].points)
    for (path, origin), axis in zip(keys.items(), axes, strict=True):
        if len(axis.points) != count:
            lengths = f"{len(axis.points)} values, but {dotted(first)} has {count} ({keys[first]})"
            raise problem(origin, f"{where}.{dotted(path)}: {lengths}")
    points = tuple(tuple(chain(*parts)) for parts in zip(*(axis.points for axis in axes), strict=True))
    return (Axis(keys, points, "zip"),)


def _extends(node: Node | None) -> tuple[tuple[str, Origin], ...]:
    if node is None:
        return ()
    items = node.value if isinstance(node.value, list) else [node]
    return tuple((_text(item, "extends"), item.origin) for item in items)


def _named(sections: dict[str, Node], section: str, where: str) -> dict[str, Node]:
    if section not in sections:
        return {}
    named = _mapping(sections[section], f"{where}{section}")
    for name, node in named.items():
        if not _NAME.fullmatch(name):
            raise problem(node.origin, f"{where}{section}: name {name!r} may hold only letters, digits, _ and -")
    return named


def _block_sections(node: Node, where: str, known: tuple[str, ...]) -> dict[str, Node]:
    """The sections of a scale or an arm; an empty value is a block that changes nothing."""
    return {} if node.value is None else _sections(node, where, known)


def _sections(node: Node, where: str, known: tuple[str, ...]) -> dict[str, Node]:
    sections = _mapping(node, where)
    prefix = f"{where}." if where else ""
    for key, child in sections.items():
        if key not in known:
            hint = _INSTEAD.get(key) or did_you_mean(key, known) or f"; known are {', '.join(known)}"
            raise problem(child.origin, f"{prefix}{key}: unknown key{hint}")
    return sections


def _mapping(node: Node, where: str) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        prefix = f"{where}: " if where else ""
        raise problem(node.origin, f"{prefix}expected a mapping, found {described(plain(node))}")
    return node.value


def _list(node: Node, where: str) -> list[Node]:
    if not isinstance(node.value, list):
        raise problem(node.origin, f"{where}: expected a list, found {described(plain(node))}")
    return node.value


def _text(node: Node, where: str) -> str:
    if not isinstance(node.value, str):
        raise problem(node.origin, f"{where}: expected text, found {described(plain(node))}")
    return node.value
