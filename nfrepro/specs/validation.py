"""Errors that pydantic finds in a config, each in one line with the place that set the key."""

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nfrepro.errors import InputError, did_you_mean
from nfrepro.specs.origins import KeyPath, Origin, described, dotted, problem

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
}
_PYDANTIC_EXPECTS = "Input should be "
_YAML_1_1_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}
_QUOTED = re.compile(r"'([^']*)'")
_ANY_KEY = "*"


def config_keys(schema: type[BaseModel]) -> frozenset[str]:
    """Every dotted key of a config, in any variant of its unions; `a.*` means anything that a free mapping holds."""
    return frozenset(_keys(schema, "", ()))


def has_key(keys: frozenset[str], path: KeyPath) -> bool:
    """Whether the path is one of the schema's keys, or lies below a free mapping."""
    outer = (dotted((*path[:length], _ANY_KEY)) for length in range(1, len(path)))
    return dotted(path) in keys or not keys.isdisjoint(outer)


def unknown_key(path: KeyPath, keys: frozenset[str]) -> str:
    """The message for a key the schema lacks, with the nearest one that it has: by the last part, else by the whole."""
    by_last_part: dict[str, list[str]] = {}
    for key in sorted(keys):
        by_last_part.setdefault(key.rpartition(".")[2], []).append(key)
    by_last_part.pop(_ANY_KEY, None)
    if near := difflib.get_close_matches(path[-1], by_last_part, n=1):
        nearest = difflib.get_close_matches(dotted(path), by_last_part[near[0]], n=1, cutoff=0)
        return f"{dotted(path)}: unknown key, did you mean {nearest[0]}?"
    return f"{dotted(path)}: unknown key{did_you_mean(dotted(path), chain.from_iterable(by_last_part.values()))}"


def explain(
    error: ValidationError, config: dict[str, Any], origins: Mapping[KeyPath, Origin], keys: frozenset[str]
) -> InputError:
    """The first error by its place in the files, and how many other keys have errors, too."""
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_path.setdefault(_path(details, config, keys), []).append(details)
    placed = [(_origin(path, origins), path) for path in by_path]
    # Written keys come before missing or derived ones, whose errors may be a consequence.
    origin, path = min(placed, key=lambda place: (place[1] not in origins, place[0].line == 0, place[0]))
    more = f" (and {len(placed) - 1} more)" if len(placed) > 1 else ""
    return problem(origin, _message(path, by_path[path], keys) + more)


def _keys(annotation: Any, prefix: str, parents: tuple[Any, ...]) -> Iterator[str]:
    if get_origin(annotation) is dict or annotation is dict:
        yield f"{prefix}{_ANY_KEY}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in parents:
        for name, field in annotation.model_fields.items():
            yield f"{prefix}{name}"
            yield from _keys(field.annotation, f"{prefix}{name}.", (*parents, annotation))
    for argument in get_args(annotation):
        yield from _keys(argument, prefix, parents)


def _path(details: ErrorDetails, config: dict[str, Any], keys: frozenset[str]) -> KeyPath:
    """The key that an error is about: pydantic's location without the tags of unions, which are not keys."""
    path: KeyPath = ()
    value: Any = config
    for number, part in enumerate(details["loc"], start=1):
        missing = details["type"] == "missing" and number == len(details["loc"])
        below = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
        if part in below or missing or has_key(keys, (*path, str(part))):
            value = below.get(part)
            path = (*path, str(part))
    if details["type"] in ("union_tag_invalid", "union_tag_not_found") and isinstance(value, dict):
        return (*path, details["ctx"]["discriminator"].strip("'"))
    return path


def _origin(path: KeyPath, origins: Mapping[KeyPath, Origin]) -> Origin:
    """The place that set the key or, for a missing key or one inside a list, the mapping or list that it belongs to."""
    return next(origins[path[:length]] for length in range(len(path), -1, -1) if path[:length] in origins)


def _message(path: KeyPath, errors: list[ErrorDetails], keys: frozenset[str]) -> str:
    first, kind = errors[0], errors[0]["type"]
    key = f"{dotted(path)}: " if path else ""
    if kind == "extra_forbidden":
        # A key of another variant of the union: the tag of the chosen one precedes the key.
        foreign = f"{key}unknown key for {dotted(path[:-1])} {first['loc'][-2:][0]}"
        return foreign if has_key(keys, path) else unknown_key(path, keys)
    if kind in ("missing", "union_tag_not_found"):
        return f"{key}missing required key"
    if kind in ("value_error", "assertion_error"):
        return f"{key}{first['ctx']['error']}"
    found = first["input"][path[-1]] if kind == "union_tag_invalid" else first["input"]
    # A key that may hold several types has an error for each.
    first_choice, *others = dict.fromkeys(map(_expectation, errors))
    expected = " or ".join([first_choice, *(other.removeprefix("expected ") for other in others)])
    return f"{key}{expected}, found {described(found)}{_hint(kind, found, first)}"


def _expectation(details: ErrorDetails) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "union_tag_invalid":
        return f"expected {_any_of(details['ctx']['expected_tags'])}"
    if kind in ("literal_error", "enum"):
        return f"expected {_any_of(details['ctx']['expected'])}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if message.startswith(_PYDANTIC_EXPECTS):
        return f"expected a value {message.removeprefix(_PYDANTIC_EXPECTS)}"
    return message[:1].lower() + message[1:]


def _any_of(choices: str) -> str:
    return choices if len(_QUOTED.findall(choices)) < 2 else f"one of {choices}"


def _hint(kind: str, found: Any, details: ErrorDetails) -> str:
    if not isinstance(found, str):
        return ""
    if kind == "bool_type":
        return "; write true or false" if found.lower() in _YAML_1_1_BOOLEANS else ""
    context = details.get("ctx", {})
    return did_you_mean(found, _QUOTED.findall(context.get("expected_tags") or str(context.get("expected", ""))))
