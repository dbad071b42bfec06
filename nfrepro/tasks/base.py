"""The outcome of a task, and the loader processes it may use. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task. `final` has the numbers for the table: flat, JSON."""

    status: Literal["completed", "diverged"]
    final: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    # Removes files needed only to continue. To be called once the outcome is stored: until then a crash may need them.
    discard_unfinished: Callable[[], None] = lambda: None


def loader_workers(threads: int) -> int:
    """The number of processes that read data for a process of `threads` threads, if images are not in memory.

    On 16 cores with an H100, 15 processes were no faster than 8 (docs/gpu.md).
    """
    return min(8, threads)
