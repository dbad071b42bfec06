"""Base classes of every package's options, and options that changed after the first schema. No torch.

Each package keeps its own `options.py` with the code that reads it: schema, defaults and manual in one place.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

KeyPath = tuple[str, ...]

_ADDED, _RARE, _OLD_NAME, _OLD_VALUES = "added", "rare", "old_name", "old_values"


class Options(BaseModel):
    """Options that refuse unknown keys, wrong types and non-finite numbers, and do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, given: Any) -> Any:
        """Configs that were stored before an option, or a value of it, was renamed."""
        if not isinstance(given, dict):
            return given
        current = dict(given)
        for name, extra in _extras(cls):
            old = extra.get(_OLD_NAME)
            if old in current:
                if name in current:
                    raise ValueError(f"{old} is the old name of {name}: give one of them")
                current[name] = current.pop(old)
            if name in current and isinstance(current[name], str):
                current[name] = extra.get(_OLD_VALUES, {}).get(current[name], current[name])
        return current


def added(default: Any, **constraints: Any) -> Any:
    """A field that came after runs were stored: at `default` it is no part of a run's id, so those runs keep theirs.

    The default has to be the behaviour from before the field existed, and never changes. `constraints` are those of
    `pydantic.Field`.
    """
    return Field(default=default, json_schema_extra={_ADDED: True}, **constraints)


def rare(default: Any, **constraints: Any) -> Any:
    """An added field that few runs set: at `default` it is no part of a run's config either, nor a column of tables."""
    return Field(default=default, json_schema_extra={_ADDED: True, _RARE: True}, **constraints)


def renamed(default: Any, *, old_name: str | None = None, old_values: dict[str, str] | None = None, **rest: Any) -> Any:
    """A field whose name, or some of whose values, changed after runs were stored: their ids keep the old ones.

    `old_values` has the new value for each old one. Old names and values are still taken. `rest` are constraints of
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

    # Whether results do not depend on the seed, so that claims about them are decided by value.
    deterministic: ClassVar[bool] = False

    # Seeds weights, data order and augmentation. 0 is a seed like any other.
    seed: int = Field(default=0, ge=0, lt=2**31)
    # State of the researcher's own code that this config names (docs/plugins.md). Filled in, never written; null: none.
    source: str | None = rare(None)

    def label(self) -> str:
        """Readable front of the run's folder name: a function of the config alone; letters, digits, `.`, `_`, `-`."""
        return f"seed{self.seed}"


def added_at_default(options: Options) -> list[KeyPath]:
    """Paths of the added fields of `options`, at any depth, that stand at their defaults; in the schema's order.

    Not the rare ones.
    """
    return [path for path, extra in _later_at_default(options) if not extra.get(_RARE)]


def rare_at_default(options: Options) -> list[KeyPath]:
    """Paths of the rare fields of `options`, at any depth, that stand at their defaults."""
    return [path for path, extra in _later_at_default(options) if extra.get(_RARE)]


def old_names(options: Options) -> dict[str, str]:
    """The former names of the renamed fields of `options`: the first schema's dotted key for each of ours.

    A renamed value has an entry of its own, `data.mixing=new: data.mixing=old`.
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
    """The new path for each old one of the fields of `schema`, at any depth and in every variant of its unions."""
    return dict(_old_paths(schema, (), ()))


def parts(options: Options, prefix: KeyPath = ()) -> Iterator[tuple[KeyPath, Options]]:
    """`options` and all options in them, each with its path."""
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
    """The notes that `added` and `renamed` have made on the fields of `schema`."""
    for name, field in schema.model_fields.items():
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra:
            yield name, field.json_schema_extra
