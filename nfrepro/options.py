"""Base classes of every package's options, and options that came after the first schema. No torch.

Each package keeps its own `options.py` with the code that reads it: schema, defaults and manual in one place.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_ADDED = "added"


class Options(BaseModel):
    """Options that refuse unknown keys, wrong types and non-finite numbers, and do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TaskOptions(Options):
    """The complete config of one run: everything that may change its result, and nothing else."""

    # Seeds weights, data order and augmentation. 0 is a seed like any other.
    seed: int = Field(default=0, ge=0, lt=2**31)

    def label(self) -> str:
        """Readable front of the run's folder name: a function of the config alone; letters, digits, `.`, `_`, `-`."""
        return f"seed{self.seed}"


def added(default: Any, **constraints: Any) -> Any:
    """A field that came after runs were stored: at `default` it is no part of a run's id, so those runs keep theirs.

    The default has to be the behaviour from before the field existed, and never changes. `constraints` are those of
    `pydantic.Field`.
    """
    return Field(default=default, json_schema_extra={_ADDED: True}, **constraints)


def added_at_default(options: Options) -> list[tuple[str, ...]]:
    """Paths of the added fields of `options`, at any depth, that stand at their defaults, in the schema's order."""
    return list(_added_at_default(options, ()))


def _added_at_default(options: Options, prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in type(options).model_fields.items():
        value, extra = getattr(options, name), field.json_schema_extra
        if isinstance(extra, dict) and extra.get(_ADDED) and value == field.get_default():
            yield (*prefix, name)
        elif isinstance(value, Options):
            yield from _added_at_default(value, (*prefix, name))
