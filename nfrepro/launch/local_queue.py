"""The local queue: worker processes execute the runs of a sweep, several at once. A failing run stops no other."""

import queue
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nfrepro.errors import InputError
from nfrepro.launch.devices import Resources
from nfrepro.launch.execute import CANCELLED, Ended
from nfrepro.launch.local_workers import Inbox, Worker
from nfrepro.runs import cancellation, redo, store
from nfrepro.runs.tidying import tidy
from nfrepro.specs import Run

SECONDS_TO_STOP = 60.0
SECONDS_TO_HEAR = 10.0
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_LOOKS_AT_OTHERS = 1.0
# Worker deaths that a run survives, e.g. for lack of memory; after one more it counts as interrupted.
MOST_DEATHS = 2
ELSEWHERE = "executed by another sweep"


@dataclass(frozen=True)
class Event:
    """An event of a run: `started`, `progress`, `complaint`, `claimed` or `ended`."""

    run: Run
    kind: str
    content: dict[str, Any]


@dataclass
class Sweep:
    """The state of a sweep in this process."""

    waiting: deque[Run]
    waits_for: Callable[[Run], bool]
    elsewhere: list[Run] = field(default_factory=list)  # being executed by another sweep, which this one waits for
    ended: dict[str, Ended] = field(default_factory=dict)
    deaths: Counter[str] = field(default_factory=Counter)  # of workers, by run
    is_over: bool = False  # no more runs are started


def execute_all(
    runs: Sequence[Run],
    results: Path,
    resources: Resources,
    checkpoint_seconds: float,
    observe: Callable[[Event], None],
    on_stop: Callable[[], None] = lambda: None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    seconds_to_stop: float = SECONDS_TO_STOP,
    waits_for: Callable[[Run], bool] = lambda run: True,
) -> dict[str, Ended]:
    """Executes `runs`; returns how each ended, by id.

    If a worker or one of its processes dies, only time is lost: another worker continues its run from the last
    checkpoint, `MOST_DEATHS` times at most; then the run counts as interrupted. Runs that another sweep executes are
    waited for if `waits_for` is true for them. Once `should_stop` is true, all workers save and stop; runs that had not
    started are missing from the result. On KeyboardInterrupt `on_stop` is called, all workers save and stop, and the
    exception is re-raised; a second one kills them.
    """
    sweep = Sweep(deque(runs), waits_for)
    inbox: Inbox = queue.SimpleQueue()

    def start(number: int) -> Worker:
        return Worker(number, results, resources, checkpoint_seconds, inbox)

    workers = {number: start(number) for number in range(min(resources.workers, len(runs)))}
    looked = time.monotonic()
    try:
        while len(sweep.ended) < len(runs) and not should_stop():
            for worker in workers.values():
                worker.kill_stragglers()
                if worker.is_free and sweep.waiting:
                    worker.give(sweep.waiting.popleft())
            gone = _receive(inbox, sweep, observe)
            if gone is not None:
                workers[gone.number] = start(gone.number)
            if sweep.elsewhere and time.monotonic() - looked > SECONDS_BETWEEN_LOOKS_AT_OTHERS:
                _look_at_others(sweep, results, observe)
                looked = time.monotonic()
    except KeyboardInterrupt:
        on_stop()
        raise
    finally:
        sweep.is_over = True
        _stop(list(workers.values()), seconds_to_stop)
    _hear_out(list(workers.values()), inbox, sweep, observe)
    _tidy_after_others(runs, results, sweep.ended)
    return sweep.ended


def _receive(inbox: Inbox, sweep: Sweep, observe: Callable[[Event], None]) -> Worker | None:
    """Handles the next message, waiting briefly for one to arrive. Returns its worker if that is gone."""
    try:
        worker, rank, message = inbox.get(timeout=SECONDS_BETWEEN_LOOKS)
    except queue.Empty:
        return None
    run = worker.run
    if message is None or message["kind"] == "ended":
        ended = worker.hear(rank, message)
        if run is not None and ended is not None:
            if worker.died and not sweep.is_over and sweep.deaths[run.id] < MOST_DEATHS:
                sweep.deaths[run.id] += 1
                sweep.waiting.appendleft(run)
                observe(Event(run, "complaint", {"text": f"{ended.text}; another worker continues the run"}))
            else:
                _end_or_wait(sweep, run, ended, observe)
        return worker if worker.is_gone else None
    # Between two runs a worker only sends complaints. If it has several processes, the first one reports on the run.
    worker.has_begun = worker.has_begun or message["kind"] == "started"
    if run is not None and (rank == 0 or message["kind"] == "complaint"):
        observe(Event(run, message["kind"], message))
    return None


def _hear_out(workers: Sequence[Worker], inbox: Inbox, sweep: Sweep, observe: Callable[[Event], None]) -> None:
    """Handles the last messages of `workers` that have ended."""
    deadline = time.monotonic() + SECONDS_TO_HEAR
    while any(worker.run is not None for worker in workers) and time.monotonic() < deadline:
        _receive(inbox, sweep, observe)


def _end_or_wait(sweep: Sweep, run: Run, ended: Ended, observe: Callable[[Event], None]) -> None:
    if ended.ending == "claimed" and sweep.waits_for(run):
        sweep.elsewhere.append(run)
        observe(Event(run, "claimed", asdict(ended)))
    else:
        _end(sweep, run, ended, observe)


def _end(sweep: Sweep, run: Run, ended: Ended, observe: Callable[[Event], None]) -> None:
    sweep.ended[run.id] = ended
    observe(Event(run, "ended", asdict(ended)))


def _tidy_after_others(runs: Sequence[Run], results: Path, ended: Mapping[str, Ended]) -> None:
    """Removes files left by a process that was killed after its run was done, in this sweep or the one waited for."""
    for run in runs:
        told = ended.get(run.id)
        if told is None or told.ending == "interrupted" or told.text == ELSEWHERE:
            with suppress(InputError):  # a damaged record: reported when the results are read
                if redo.read_work(results, run).state in store.DONE:
                    tidy(store.run_folder(results, run))


def _look_at_others(sweep: Sweep, results: Path, observe: Callable[[Event], None]) -> None:
    """Takes over the runs that another sweep has abandoned, and records those that it has finished."""
    for run in list(sweep.elsewhere):
        state = redo.read_work(results, run).state
        if cancellation.is_cancelled(store.run_folder(results, run), run):
            state = "cancelled"
        elif state == "running":
            continue
        sweep.elsewhere.remove(run)
        if state == "completed" or state == "diverged" or state == "failed":
            _end(sweep, run, Ended(state, ELSEWHERE), observe)
        elif state == "cancelled":
            _end(sweep, run, Ended(state, CANCELLED), observe)
        else:
            sweep.waiting.append(run)


def _stop(workers: Sequence[Worker], seconds: float) -> None:
    """Lets every worker save and exit; kills those that take too long, or all of them on a second Ctrl-C."""
    for worker in workers:
        worker.ask_to_stop()
    deadline = time.monotonic() + seconds
    try:
        for worker in workers:
            worker.wait(deadline)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass
    finally:
        for worker in workers:
            worker.kill()
