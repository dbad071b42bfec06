"""The origin of a value, and the one-line error if it is wrong."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.errors import InputError
from nfrepro.options import KeyPath
from nfrepro.terminal import one_line

__all__ = ["KeyPath", "Origin", "described", "display_path", "dotted", "problem", "written"]

_LONGEST_MESSAGE = 1000
_LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A line of a file; line 0 means the whole file, or a `--set` override, whose text is `name`."""

    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


def problem(origin: Origin | str, message: str) -> InputError:
    """The error to raise: one line, `origin: message`, whatever the file or the override contains."""
    line = one_line(f"{origin}: {message}")
    return InputError(line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…")


def display_path(path: Path) -> str:
    """The path, relative to the working directory if it lies below it."""
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else str(path)


def dotted(path: KeyPath) -> str:
    """The dotted key: `model.alpha` for ("model", "alpha")."""
    return ".".join(path)


def written(value: Any) -> str:
    """The value as one would write it in YAML, cut if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def described(value: Any) -> str:
    """The value and its type in words, for `expected …, found …`."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list {written(value)}"
    return f"text {written(value)}" if isinstance(value, str) else written(value)
