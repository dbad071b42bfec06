"""Where a run executes and who watches it. No torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nfrepro.training.distributed import ALONE, Processes


class Interrupted(Exception):
    """A run was asked to stop; its folder has everything it needs to continue."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run: for people who watch, not for results."""

    done: int  # in units of the task, for example optimiser steps
    total: int
    text: str  # one short line: `epoch 2/3  loss 0.61  top1 81.2 %  1,520 images/s`
    milestone: bool = False  # worth a separate line if the output is not a terminal


@dataclass(frozen=True)
class RunContext:
    """Where a run executes and who watches it.

    Its result depends on none of this, except for rounding and, between CPU and GPU, for the draws of dropout,
    stochastic depth and noise.
    """

    folder: Path  # the run's own; exists
    device: str  # torch's name: cpu, cuda:0
    checkpoint_seconds: float = 60.0
    report: Callable[[Progress], None] = lambda progress: None
    complain: Callable[[str], None] = lambda text: None
    should_stop: Callable[[], bool] = lambda: False
    workers: int = 0  # processes that may read data for it
    processes: Processes = ALONE  # that execute the run together; those of rank above 0 write nothing
