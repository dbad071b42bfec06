"""A worker of the local queue: `python -m nfrepro.launch.worker`.

Reads runs from standard input, one JSON line each, and executes them one after the other; writes events to standard
output, one JSON line each. torchrun's variables tell whether it does so together with other processes, which read the
same runs.

It stops at its next step when standard input is closed, and so also when the queue that started it is gone.
"""

import argparse
import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from nfrepro.errors import InputError
from nfrepro.launch.device_errors import device_works
from nfrepro.launch.execute import Placement, execute
from nfrepro.malloc import keep_freed_memory
from nfrepro.specs import Run
from nfrepro.training.distributed import ProcessLost, init_processes


def main() -> None:
    """Runs until standard input is closed or SIGTERM arrives."""
    keep_freed_memory()
    events = own_standard_output()
    stop = threading.Event()
    _stop_on_signal(stop)
    runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
    threading.Thread(target=_read_runs, args=(runs, stop), daemon=True).start()
    place = _place()
    try:
        with init_processes(place.device) as processes:
            while (run := runs.get()) is not None and not stop.is_set():
                _execute(run, replace(place, processes=processes), stop, events)
                if not device_works():
                    sys.exit(f"{place.device} works no more in this process: another worker takes over")
    except (InputError, ProcessLost) as error:
        sys.exit(f"process {os.environ.get('RANK')} of a worker: {error}")


def _execute(run: Run, place: Placement, stop: threading.Event, events: TextIO) -> None:
    def send(kind: str, **content: Any) -> None:
        try:
            events.write(json.dumps({"run": run.id, "kind": kind, **content}) + "\n")
            events.flush()
        except BrokenPipeError:  # nobody is listening any more: standard input is closed, too
            stop.set()

    send("started")
    ended = execute(
        run,
        place,
        report=lambda progress: send("progress", **asdict(progress)),
        complain=lambda text: send("complaint", text=text),
        should_stop=stop.is_set,
    )
    send("ended", **asdict(ended))


def own_standard_output() -> TextIO:
    """Returns the real standard output, for events; redirects whatever a library prints to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _stop_on_signal(stop: threading.Event) -> None:
    def request(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request)
    # Ctrl-C, and signals that a scheduler sends to all processes of a job, are handled by the queue.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _read_runs(runs: "queue.SimpleQueue[Run | None]", stop: threading.Event) -> None:
    # Not from sys.stdin: processes forked to read data close it when they start, and would wait for this thread.
    for line in os.fdopen(os.dup(0), encoding="utf-8"):
        runs.put(Run(**json.loads(line)))
    stop.set()
    runs.put(None)


def _place() -> Placement:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--checkpoint-seconds", type=float, required=True)
    arguments = parser.parse_args()
    return Placement(arguments.results, arguments.device, arguments.threads, arguments.checkpoint_seconds)


if __name__ == "__main__":
    main()
