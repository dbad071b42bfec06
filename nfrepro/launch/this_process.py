"""Executor `debug`: executes the runs of a sweep one after the other in this process, where breakpoints work."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from nfrepro import atomic
from nfrepro.launch.devices import Resources
from nfrepro.launch.execute import Ended, Placement, execute
from nfrepro.launch.local_queue import Event
from nfrepro.launch.local_workers import thread_variables
from nfrepro.malloc import keep_freed_memory
from nfrepro.runs import redo, store
from nfrepro.specs import Run


def execute_in_turn(
    runs: Sequence[Run],
    results: Path,
    resources: Resources,
    checkpoint_seconds: float,
    observe: Callable[[Event], None],
) -> dict[str, Ended]:
    """Executes `runs`; returns how each ended, by id. The traceback of a failed run is reported as a complaint.

    On KeyboardInterrupt the run stops at once, leaving its last checkpoint.
    """
    place = Placement(results, resources.devices[0], resources.threads, checkpoint_seconds)
    return {run.id: _execute(run, place, observe) for run in runs}


def become_like_a_worker(resources: Resources) -> None:
    """Give this process the thread and memory settings of a worker. Call it before torch is loaded."""
    os.environ.update(thread_variables(resources.threads))
    keep_freed_memory()


def _execute(run: Run, place: Placement, observe: Callable[[Event], None]) -> Ended:
    def complain(text: str) -> None:
        observe(Event(run, "complaint", {"text": text}))

    observe(Event(run, "started", {}))
    try:
        ended = execute(
            run,
            place,
            report=lambda progress: observe(Event(run, "progress", asdict(progress))),
            complain=complain,
            should_stop=lambda: False,
        )
    except KeyboardInterrupt:
        complain("".join(traceback.format_exception(*sys.exc_info())))
        raise
    error = redo.work_folder(store.run_folder(place.results, run)) / store.ERROR
    if ended.ending == "failed" and str(error) in ended.text:
        complain(atomic.read_text(error))
    observe(Event(run, "ended", asdict(ended)))
    return ended
