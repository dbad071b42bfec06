"""The final numbers of a record: which of them are results, and which only tell how fast the machine was."""

from collections.abc import Mapping
from typing import Any

_SPEED = ("_seconds", "_per_second")
_COUNTS = ("epoch", "step")


def is_speed(name: str) -> bool:
    """Whether the number of that name measures speed, and so differs each time the same run is executed."""
    return name.endswith(_SPEED)


def without_speed(final: Mapping[str, Any]) -> dict[str, Any]:
    """The final values that another run of the same config reproduces, at least up to rounding."""
    return {name: value for name, value in final.items() if not is_speed(name)}


def result_numbers(final: Mapping[str, Any]) -> dict[str, float]:
    """The values of `without_speed` that are numbers."""
    return {name: value for name, value in without_speed(final).items() if type(value) in (int, float)}


def headline(numbers: Mapping[str, Any]) -> str | None:
    """The name of the number to show first: accuracy on the test images, or else the first that is not a count."""
    found = [name for name, value in numbers.items() if isinstance(value, int | float) and name not in _COUNTS]
    return next((name for name in ("top1", "test_top1") if name in found), next(iter(found), None))
