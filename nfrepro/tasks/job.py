"""The contract between a task and whatever executes it. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nfrepro.training.distributed import ALONE, Processes


@dataclass(frozen=True)
class Progress:
    """How far a run is: for people who watch, not for results."""

    done: int  # in units of the task, say optimiser steps
    total: int
    text: str  # one short line, say `epoch 2/3  loss 0.61  top1 81.2 %  1,520 images/s`
    milestone: bool = False  # worth a line of its own where output is no terminal


@dataclass(frozen=True)
class Surroundings:
    """Where a run executes and who watches: what its result may not depend on."""

    folder: Path  # the run's own; exists
    device: str  # torch's name: cpu, cuda:0
    checkpoint_seconds: float = 60.0
    report: Callable[[Progress], None] = lambda progress: None
    complain: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False
    workers: int = 0  # processes that may read data for it
    processes: Processes = ALONE  # that execute the run together; those of rank above 0 write nothing


def loader_workers(threads: int) -> int:
    """Processes that read data for a process of so many threads, where its data set does not lie in memory.

    On 16 cores with an H100, 15 processes were no faster than 8 (docs/gpu.md).
    """
    return min(8, threads)


@dataclass(frozen=True)
class Outcome:
    """What a task found. `final` are the numbers of the table: flat, JSON."""

    status: Literal["completed", "diverged"]
    final: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    # Removes what only served to continue. To be called once the outcome is stored: until then a crash may need it.
    discard_unfinished: Callable[[], None] = lambda: None


class Interrupted(Exception):
    """The task was asked to stop; what it needs to continue is in its folder."""
