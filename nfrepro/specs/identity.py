"""The id of a run: a hash over its complete config, less the options that came later and stand at their defaults."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from nfrepro.options import TaskOptions, added_at_default

# Raised when the meaning of an unchanged config changes, so that runs made before are not taken for the new ones.
SCHEMA_VERSION = 1

_HASH_LENGTH = 12
_OTHER_VERSIONS = 100  # a record may be older or newer than this program
_MISSING = object()


def identity(task: str, config: dict[str, Any], schema_version: int = SCHEMA_VERSION) -> str:
    """Twelve hexadecimal digits that stand for the task and its complete config. ValueError if it is not JSON."""
    text = _canonical({"schema": schema_version, "task": task, "config": config})
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_HASH_LENGTH]


def other_schema_version(task: str, config: dict[str, Any], found: str) -> int | None:
    """The schema version, if any but this one, by which the config has the identity `found`."""
    others = (version for version in range(_OTHER_VERSIONS) if version != SCHEMA_VERSION)
    return next((version for version in others if identity(task, config, version) == found), None)


def run_id(options: TaskOptions, task: str) -> str:
    """The name of the run's folder: its readable label and its identity."""
    return resolve(options, task)[0]


def resolve(options: TaskOptions, task: str) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """The run's id, its complete config, and the dotted keys of that config that are outside the id."""
    config = options.model_dump(mode="json")
    outside = tuple(".".join(path) for path in added_at_default(options))
    return f"{options.label()}-{identity(task, without(config, outside))}", config, outside


def without(config: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A copy of `config` that lacks the dotted `keys`; those that it does not have are ignored."""
    copy: dict[str, Any] = json.loads(json.dumps(config))
    for key in keys:
        *outer, last = key.split(".")
        level: Any = copy
        for part in outer:
            level = level.get(part) if isinstance(level, dict) else None
        if isinstance(level, dict):
            level.pop(last, None)
    return copy


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
