"""Merges layers of settings: the values shared by all runs of an arm, the origin of each key, and the axes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from nfrepro.specs.documents import Axis, Block, Entry, entries, key_path, leaves, list_axis, refuse_overlaps
from nfrepro.specs.origins import KeyPath, Origin, dotted, problem
from nfrepro.specs.reader import Node, read_value

Override = tuple[KeyPath, Node]


@dataclass(frozen=True, slots=True)
class Layered:
    """The stacked blocks of one arm at one scale; its runs differ only in the axes."""

    base: dict[str, Any]
    origins: dict[KeyPath, Origin]
    origin: Origin
    axes: tuple[Axis, ...]
    overrides: tuple[Entry, ...] = ()  # on top of the axes


def stack(blocks: Sequence[Block], origin: Origin) -> Layered:
    """Merge the blocks, later ones winning; `origin` is the place to report for a key that is missing altogether."""
    axes = _stacked_axes(blocks)
    base: dict[str, Any] = {}
    origins: dict[KeyPath, Origin] = {(): origin}
    for entry in chain.from_iterable(block.set for block in blocks):
        assign(base, entry)
        record(origins, entry)
    return Layered(base, origins, origin, axes)


def assign(config: dict[str, Any], entry: Entry) -> None:
    """Sets the entry's key in the nested config; an empty mapping keeps a mapping that is already there."""
    *parents, last = entry.path
    for key in parents:
        child = config.get(key)
        if not isinstance(child, dict):
            child = config[key] = {}
        config = child
    if entry.value != {}:
        config[last] = entry.value
    elif not isinstance(config.get(last), dict):
        config[last] = {}


def record(origins: dict[KeyPath, Origin], entry: Entry) -> None:
    """Notes the origin of the entry's key, and of its parents unless they have one."""
    for length in range(1, len(entry.path)):
        origins.setdefault(entry.path[:length], entry.origin)
    origins[entry.path] = entry.origin


def read_override(text: str) -> Override:
    """Read `key=value` of the command line, the value by the rules of files. Raises `InputError` for any other form."""
    name = f"--set {text}"
    key, equals, value = text.partition("=")
    if not equals or not key or not key.isprintable():
        raise problem(name, "expected key=value, for example train.lr_per_256=0.1")
    return key_path(key, Origin(name)), read_value(value, name)


def override(layered: Layered, overrides: Sequence[Override]) -> Layered:
    """The arm with axes narrowed and other keys set by `overrides`. Raises `InputError` for a key of a zip."""
    axes = layered.axes
    narrowed = list(axes)
    rest: list[Entry] = []
    numbers = {path: number for number, axis in enumerate(axes) for path in axis.keys}
    for path, node in overrides:
        for key, leaf in [(path, node)] if path in numbers else leaves(node, path):
            if key not in numbers:
                rest.extend(entries(leaf, key))
                continue
            axis = axes[numbers[key]]
            if axis.section == "zip":
                raise problem(
                    leaf.origin, f"{dotted(key)}: moves together with other keys under zip ({axis.keys[key]})"
                )
            values = leaf if isinstance(leaf.value, list) else Node([leaf], leaf.origin)
            narrowed[numbers[key]] = list_axis(key, values, dotted(key), axis.section)
    return replace(layered, axes=tuple(narrowed), overrides=tuple(rest))


def _stacked_axes(blocks: Sequence[Block]) -> tuple[Axis, ...]:
    """Axes of `grid` in the order in which they were first given, then those of the last `zip`."""
    grid: dict[KeyPath, Axis] = {}
    zips: tuple[Axis, ...] = ()
    for block in blocks:
        grid |= {path: axis for axis in block.grid for path in axis.keys}
        zips = zips if block.zip is None else block.zip
    axes = (*grid.values(), *zips)
    refuse_overlaps(chain.from_iterable(axis.keys.items() for axis in axes))
    _refuse_set_above_axis(blocks, axes)
    return axes


def _refuse_set_above_axis(blocks: Sequence[Block], axes: Sequence[Axis]) -> None:
    """Raises `InputError` for a `set` in a layer above an axis of its key, which would silently win."""
    standing = set(map(id, axes))
    below: dict[KeyPath, Axis] = {}
    for block in blocks:
        for entry in block.set:
            if axis := below.get(entry.path):
                key, origin = next(of for of in axis.keys.items() if entry.path[: len(of[0])] == of[0])
                raise problem(
                    entry.origin, f"{dotted(key)}: is an axis ({origin}); narrow it under {axis.section} instead"
                )
        for axis in (*block.grid, *(block.zip or ())):
            if id(axis) in standing:
                below |= dict.fromkeys([*axis.keys, *(of.path for point in axis.points for of in point)], axis)
