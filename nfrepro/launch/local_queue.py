"""The local queue: worker processes that execute the runs of a sweep, some at once. One failing run stops no other."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import nfrepro
from nfrepro.evidence import store
from nfrepro.launch.job import Ended
from nfrepro.launch.machine import Share
from nfrepro.specs import Run

SECONDS_TO_STOP = 60.0
SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_LOOKS_AT_OTHERS = 1.0


@dataclass(frozen=True)
class Event:
    """Something a run did: `started`, `progress`, `complaint`, `claimed` or `ended`."""

    run: Run
    kind: str
    content: dict[str, Any]


@dataclass(eq=False)
class Worker:
    """A worker process and the run it is at."""

    number: int
    process: "subprocess.Popen[str]"
    run: Run | None = None


# What workers say, in the order it arrived; None: the worker has died.
Inbox: TypeAlias = "queue.SimpleQueue[tuple[Worker, dict[str, Any] | None]]"


@dataclass
class Sweep:
    """The state of a sweep in this process."""

    waiting: deque[Run]
    elsewhere: list[Run] = field(default_factory=list)  # another sweep is executing these
    ended: dict[str, Ended] = field(default_factory=dict)


def execute_all(
    runs: Sequence[Run],
    results: Path,
    share: Share,
    checkpoint_seconds: float,
    observe: Callable[[Event], None],
    on_stop: Callable[[], None] = lambda: None,
) -> dict[str, Ended]:
    """Executes `runs`; returns how each ended, by id. Runs that another sweep executes are waited for.

    A worker that dies costs the run it was at, nothing else. On KeyboardInterrupt `on_stop` is called, all workers save
    and stop, and the exception goes on; a second one kills them.
    """
    sweep = Sweep(deque(runs))
    inbox: Inbox = queue.SimpleQueue()
    workers = {
        number: _start_worker(number, results, share, checkpoint_seconds, inbox)
        for number in range(min(share.workers, len(runs)))
    }
    looked = time.monotonic()
    try:
        while len(sweep.ended) < len(runs):
            for worker in workers.values():
                if worker.run is None and sweep.waiting:
                    _give(worker, sweep.waiting.popleft())
            dead = _receive(inbox, sweep, observe)
            if dead is not None:
                workers[dead.number] = _start_worker(dead.number, results, share, checkpoint_seconds, inbox)
            if sweep.elsewhere and time.monotonic() - looked > SECONDS_BETWEEN_LOOKS_AT_OTHERS:
                _look_at_others(sweep, results, observe)
                looked = time.monotonic()
    except KeyboardInterrupt:
        on_stop()
        raise
    finally:
        _stop(list(workers.values()))
    return sweep.ended


def _start_worker(
    number: int,
    results: Path,
    share: Share,
    checkpoint_seconds: float,
    inbox: Inbox,
) -> Worker:
    command = [sys.executable, "-m", "nfrepro.launch.worker", "--results", str(results)]
    command += ["--device", share.devices[number], "--threads", str(share.threads)]
    command += ["--checkpoint-seconds", str(checkpoint_seconds)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=worker_environment(share.threads),
        start_new_session=True,  # Ctrl-C reaches this process only, which then stops the workers in order
    )
    worker = Worker(number, process)
    threading.Thread(target=_listen, args=(worker, inbox), daemon=True).start()
    threading.Thread(target=_listen_to_errors, args=(worker, inbox), daemon=True).start()
    return worker


def worker_environment(threads: int) -> dict[str, str]:
    """Of a process of this package with so many threads."""
    package_parent = str(Path(nfrepro.__file__).parents[1])
    path = os.pathsep.join(part for part in (package_parent, os.environ.get("PYTHONPATH")) if part)
    # Threads that wait spinning slow each other down more than tenfold as soon as anything else wants a core.
    patience = {"OMP_WAIT_POLICY": "PASSIVE"} if threads > 1 else {}
    return {**patience, **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}


def _listen(worker: Worker, inbox: Inbox) -> None:
    assert worker.process.stdout is not None
    for line in worker.process.stdout:
        inbox.put((worker, json.loads(line)))
    inbox.put((worker, None))


def _listen_to_errors(worker: Worker, inbox: Inbox) -> None:
    assert worker.process.stderr is not None
    for line in worker.process.stderr:
        inbox.put((worker, {"kind": "complaint", "text": line.rstrip()}))


def _give(worker: Worker, run: Run) -> None:
    assert worker.process.stdin is not None
    worker.run = run
    with contextlib.suppress(BrokenPipeError):  # it has died; its listener says so
        worker.process.stdin.write(json.dumps(asdict(run)) + "\n")
        worker.process.stdin.flush()


def _receive(inbox: Inbox, sweep: Sweep, observe: Callable[[Event], None]) -> Worker | None:
    """Handles what has arrived, waiting a moment where nothing has. Returns a worker that has died, if one has."""
    try:
        worker, message = inbox.get(timeout=SECONDS_BETWEEN_LOOKS)
    except queue.Empty:
        return None
    if message is None:
        if worker.run is not None:
            how = _how_it_died(worker.process.wait())
            _end(sweep, worker.run, Ended("interrupted", f"its worker process {how}"), observe)
        return worker
    run = worker.run
    if run is None:
        return None  # it is between two runs and only complains
    if message["kind"] != "ended":
        observe(Event(run, message["kind"], message))
        return None
    worker.run = None
    if message["ending"] == "claimed":
        sweep.elsewhere.append(run)
        observe(Event(run, "claimed", message))
    else:
        _end(sweep, run, Ended(message["ending"], message["text"]), observe)
    return None


def _end(sweep: Sweep, run: Run, ended: Ended, observe: Callable[[Event], None]) -> None:
    sweep.ended[run.id] = ended
    observe(Event(run, "ended", asdict(ended)))


def _look_at_others(sweep: Sweep, results: Path, observe: Callable[[Event], None]) -> None:
    """Takes over the runs that another sweep has left, and counts those that it has finished."""
    for run in list(sweep.elsewhere):
        state = store.read(store.run_folder(results, run)).state
        if state == "running":
            continue
        sweep.elsewhere.remove(run)
        if state == "completed" or state == "diverged" or state == "failed":
            _end(sweep, run, Ended(state, "executed by another sweep"), observe)
        else:
            sweep.waiting.append(run)


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _stop(workers: Sequence[Worker]) -> None:
    """Lets every worker save and end; kills those that take too long, or all on a second Ctrl-C."""
    for worker in workers:
        assert worker.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()
    deadline = time.monotonic() + SECONDS_TO_STOP
    try:
        for worker in workers:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        pass
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
