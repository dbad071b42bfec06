"""The id of a run: a hash over its complete config, as the first schema would have written it.

Options that were added later and have their defaults are left out, and renamed ones have their old names.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nfrepro.options import TaskOptions, added_at_default, old_names, rare_at_default
from nfrepro.plugins.sources import own_names, source_of

# Incremented when the meaning of an unchanged config changes, so that earlier runs are not taken for new ones.
SCHEMA_VERSION = 1

_HASH_LENGTH = 12
_OTHER_VERSIONS = 100  # a record may be older or newer than this program
_MISSING = object()


def identity(task: str, config: dict[str, Any], schema_version: int = SCHEMA_VERSION) -> str:
    """Twelve hexadecimal digits that identify a task and its complete config. Raises `ValueError` if not JSON."""
    text = _canonical({"schema": schema_version, "task": task, "config": config})
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_HASH_LENGTH]


def other_schema_version(task: str, config: dict[str, Any], found: str) -> int | None:
    """The schema version other than this one, if any, by which the config has the identity `found`."""
    others = (version for version in range(_OTHER_VERSIONS) if version != SCHEMA_VERSION)
    return next((version for version in others if identity(task, config, version) == found), None)


@dataclass(frozen=True)
class Resolved:
    """The id of a run, its complete config, and how the part that the id is a hash of differs from it."""

    id: str
    config: dict[str, Any]
    outside_id: tuple[str, ...]  # dotted keys that the first schema does not have
    old_names: dict[str, str]  # dotted keys (and key=value) that were renamed since, with their first names


def run_id(options: TaskOptions, task: str) -> str:
    """The name of the run's folder: its readable label and its identity."""
    return resolve(options, task).id


def resolve(options: TaskOptions, task: str) -> Resolved:
    """The run that `options` of `task` describe, with the state of the user's code that they name if not given."""
    if options.source is None:
        options = options.model_copy(update={"source": source_of(own_names(options, task))})
    config = options.model_dump(mode="json")
    for path in rare_at_default(options):
        _pop(config, ".".join(path))
    outside = tuple(".".join(path) for path in added_at_default(options))
    names = old_names(options)
    return Resolved(f"{options.label()}-{identity(task, id_config(config, outside, names))}", config, outside, names)


def id_config(config: dict[str, Any], outside_id: Iterable[str], old_names: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `config` as the first schema has it: without the dotted keys `outside_id`, others under `old_names`."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    for key in outside_id:
        _pop(copy, key)
    for new, old in old_names.items():
        key, _, value = new.partition("=")
        found = _pop(copy, key)
        if found is not _MISSING:
            changed = old.partition("=")[2] if value and found == value else found
            _set(copy, key if value else old, changed)
    return copy


def _pop(config: dict[str, Any], key: str) -> Any:
    level, last = _level(config, key)
    return _MISSING if level is None else level.pop(last, _MISSING)


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    level, last = _level(config, key)
    if level is not None:
        level[last] = value


def _level(config: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    """The mapping in `config` that holds the dotted `key`, None if there is none, and the last part of the key."""
    *outer, last = key.split(".")
    level: Any = config
    for part in outer:
        level = level.get(part) if isinstance(level, dict) else None
    return level if isinstance(level, dict) else None, last


def config_difference(stored: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """One line for each key in which two configs differ, in the order of the keys; empty if they are the same run's."""
    return _differences(stored, expected, "")


def _differences(stored: Any, expected: Any, path: str) -> list[str]:
    if isinstance(stored, dict) and isinstance(expected, dict):
        return [
            line
            for key in sorted(stored.keys() | expected.keys())
            for line in _differences(
                stored.get(key, _MISSING), expected.get(key, _MISSING), f"{path}.{key}" if path else key
            )
        ]
    shown = tuple("missing" if value is _MISSING else _canonical(value) for value in (stored, expected))
    return [] if shown[0] == shown[1] else [f"{path}: {shown[0]} (stored) != {shown[1]} (expected)"]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
