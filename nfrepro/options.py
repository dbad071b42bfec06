"""Base classes for the options of all packages, and support for options that changed since the first schema. No torch.

Each package has an `options.py` next to the code that reads it: schema, defaults and manual in one place.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

KeyPath = tuple[str, ...]

_ADDED, _RARE, _OLD_NAME, _OLD_VALUES = "added", "rare", "old_name", "old_values"


class Options(BaseModel):
    """Options that reject unknown keys, wrong types and non-finite numbers, and are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: Any) -> Any:
        """Accepts configs stored before an option, or one of its values, was renamed."""
        if not isinstance(given, dict):
            return given
        current = dict(given)
        for name, extra in _extras(cls):
            old = extra.get(_OLD_NAME)
            if old in current:
                if name in current:
                    raise ValueError(f"{old} is the old name of {name}: give only one of them")
                current[name] = current.pop(old)
            if name in current and isinstance(current[name], str):
                current[name] = extra.get(_OLD_VALUES, {}).get(current[name], current[name])
        return current


def added(default: Any, **constraints: Any) -> Any:
    """A field added after runs were stored: at `default` it is not part of a run's id, so that those runs keep theirs.

    The default must be the behaviour from before the field existed, and must never change. `constraints` are those of
    `pydantic.Field`.
    """
    return Field(default=default, json_schema_extra={_ADDED: True}, **constraints)


def rare(default: Any, **constraints: Any) -> Any:
    """An added field that few runs set: at `default` it is also left out of a run's config and of tables."""
    return Field(default=default, json_schema_extra={_ADDED: True, _RARE: True}, **constraints)


def renamed(default: Any, *, old_name: str | None = None, old_values: dict[str, str] | None = None, **rest: Any) -> Any:
    """A field whose name, or some of whose values, changed after runs were stored; run ids keep the old ones.

    `old_values` maps old values to new ones. Old names and values are still accepted. `rest` are constraints of
    `pydantic.Field`.
    """
    extra: dict[str, Any] = {}
    if old_name is not None:
        extra[_OLD_NAME] = old_name
    if old_values is not None:
        extra[_OLD_VALUES] = old_values
    return Field(default=default, json_schema_extra=extra, **rest)


class TaskOptions(Options):
    """The complete config of one run: everything that may change its result, and nothing else."""

    # True if results do not depend on the seed; claims about them are then decided by value.
    deterministic: ClassVar[bool] = False

    # Seeds weights, data order and augmentation. 0 is a seed like any other.
    seed: int = Field(default=0, ge=0, lt=2**31)
    # State of the researcher's own code that this config names (docs/plugins.md); null: none. Filled in automatically.
    source: str | None = rare(None)

    def label(self) -> str:
        """Readable prefix of the run's folder name, from the config alone: letters, digits, `.`, `_`, `-`."""
        return f"seed{self.seed}"


def added_at_default(options: Options) -> list[KeyPath]:
    """Paths of the added fields of `options`, at any depth, that have their defaults, in the order of the schema.

    Rare fields are left out.
    """
    return [path for path, extra in _later_at_default(options) if not extra.get(_RARE)]


def rare_at_default(options: Options) -> list[KeyPath]:
    """Paths of the rare fields of `options`, at any depth, that have their defaults."""
    return [path for path, extra in _later_at_default(options) if extra.get(_RARE)]


def old_names(options: Options) -> dict[str, str]:
    """The former names of the renamed fields of `options`: current dotted key -> dotted key in the first schema.

    A renamed value has a separate entry, `data.mixing=new: data.mixing=old`.
    """
    found = {}
    for prefix, part in parts(options):
        for name, extra in _extras(type(part)):
            key, value = ".".join((*prefix, name)), getattr(part, name)
            if _OLD_NAME in extra:
                found[key] = ".".join((*prefix, extra[_OLD_NAME]))
            old_of = {new: old for old, new in extra.get(_OLD_VALUES, {}).items()}
            if isinstance(value, str) and value in old_of:
                found[f"{key}={value}"] = f"{key}={old_of[value]}"
    return found


def old_paths(schema: type[BaseModel]) -> dict[KeyPath, KeyPath]:
    """Old path -> new path of the renamed fields of `schema`, at any depth and in every variant of its unions."""
    return dict(_old_paths(schema, (), ()))


def parts(options: Options, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Options]]:
    """Yields `options` and all options nested in them, each with its path."""
    yield prefix, options
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            yield from parts(value, (*prefix, name))


def _old_paths(annotation: Any, prefix: KeyPath, parents: tuple[Any, ...]) -> Iterator[tuple[KeyPath, KeyPath]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in parents:
        for name, extra in _extras(annotation):
            if _OLD_NAME in extra:
                yield (*prefix, extra[_OLD_NAME]), (*prefix, name)
        for name, field in annotation.model_fields.items():
            yield from _old_paths(field.annotation, (*prefix, name), (*parents, annotation))
    for argument in get_args(annotation):
        yield from _old_paths(argument, prefix, parents)


def _later_at_default(options: Options) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    for prefix, part in parts(options):
        for name, extra in _extras(type(part)):
            if extra.get(_ADDED) and getattr(part, name) == type(part).model_fields[name].get_default():
                yield (*prefix, name), extra


def _extras(schema: type[BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the fields of `schema` that `added`, `rare` or `renamed` marked, each with its marks."""
    for name, field in schema.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra:
            yield name, field.json_schema_extra
