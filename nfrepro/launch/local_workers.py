"""Workers of the local queue: processes that execute one run at a time, alone or several together."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import nfrepro
from nfrepro.launch.devices import Resources
from nfrepro.launch.execute import Ended
from nfrepro.specs import Run

# Once one of the processes that execute a run together has finished or died, the others get this long to follow.
SECONDS_TO_FOLLOW = 60.0

# Messages of the workers' processes, with their ranks, in order of arrival; None: the process is gone.
Inbox: TypeAlias = "queue.SimpleQueue[tuple[Worker, int, dict[str, Any] | None]]"


class Worker:
    """A worker: its processes, and the run that they are executing."""

    def __init__(
        self, number: int, results: Path, resources: Resources, checkpoint_seconds: float, inbox: Inbox
    ) -> None:
        self.number = number
        self.run: Run | None = None
        self.has_begun = False  # whether the processes have found each other and started the run
        port = _free_port() if resources.processes > 1 else 0
        self.processes = []
        for rank, device in enumerate(resources.devices_of(number)):
            command = [sys.executable, "-m", "nfrepro.launch.worker", "--results", str(results)]
            command += ["--device", device, "--threads", str(resources.threads)]
            command += ["--checkpoint-seconds", str(checkpoint_seconds)]
            self.processes.append(_start(command, _environment(resources, rank, port)))
            for listen in (self._listen, self._listen_to_errors):
                threading.Thread(target=listen, args=(rank, self.processes[rank], inbox), daemon=True).start()
        self._busy: set[int] = set()  # ranks that are executing the run
        self._gone: set[int] = set()
        self._ended: Ended | None = None  # as reported by the first process
        self._fault: str | None = None  # how one of the processes died during the run
        self._deadline: float | None = None

    @property
    def is_free(self) -> bool:
        return self.run is None and not self._gone

    @property
    def is_gone(self) -> bool:
        return len(self._gone) == len(self.processes)

    @property
    def died(self) -> bool:
        """Whether the last run ended because a process died."""
        return self._fault is not None and (self._ended is None or self._ended.ending == "interrupted")

    def give(self, run: Run) -> None:
        """Makes all processes execute `run`."""
        self.run, self.has_begun, self._ended, self._fault = run, False, None, None
        self._busy = set(range(len(self.processes)))
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has died, which its listener reports
                process.stdin.write(json.dumps(asdict(run)) + "\n")
                process.stdin.flush()

    def hear(self, rank: int, message: dict[str, Any] | None) -> Ended | None:
        """Notes that a process finished its part of the run, or is gone. Returns how the run ended, once all have."""
        if message is None:
            self._gone.add(rank)
            if rank in self._busy:
                self._fault = self._fault or self._how_it_died(rank)
                if not self.has_begun:  # the others wait for this one, and have nothing to save
                    self.kill()
            self.ask_to_stop()
        elif rank == 0:
            self._ended = Ended(message["ending"], message["text"])
        self._busy.discard(rank)
        some_stay = 0 < len(self._gone) < len(self.processes)
        self._deadline = time.monotonic() + SECONDS_TO_FOLLOW if self._busy or some_stay else None
        if self.run is None or self._busy:
            return None
        self.run = None
        return Ended("interrupted", self._fault) if self.died and self._fault is not None else self._ended

    def kill_stragglers(self) -> None:
        """Kills all processes of the worker if some did not follow the others in time."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.kill()

    def ask_to_stop(self) -> None:
        """Asks every process to save and exit."""
        for process in self.processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    def wait(self, deadline: float) -> None:
        """Waits for all processes to exit. Raises `TimeoutExpired` at `deadline`, of the monotonic clock."""
        for process in self.processes:
            process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _listen(self, rank: int, process: "subprocess.Popen[str]", inbox: Inbox) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            inbox.put((self, rank, json.loads(line)))
        inbox.put((self, rank, None))

    def _listen_to_errors(self, rank: int, process: "subprocess.Popen[str]", inbox: Inbox) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            inbox.put((self, rank, {"kind": "complaint", "text": line.rstrip()}))

    def _how_it_died(self, rank: int) -> str:
        which = "its worker process" if len(self.processes) == 1 else f"process {rank} of its {len(self.processes)}"
        code = self.processes[rank].wait()
        if code >= 0:
            return f"{which} ended with exit status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"{which} was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _start(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",  # own code and libraries may write any bytes
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the queue only, which then stops the workers cleanly
    )


def worker_environment(threads: int) -> dict[str, str]:
    """The environment for a process of this package with `threads` threads."""
    package_parent = str(Path(nfrepro.__file__).parents[1])
    path = os.pathsep.join(part for part in (package_parent, os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, **thread_variables(threads), "PYTHONPATH": path}


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables that set the number of threads; OpenMP reads them once, when torch is loaded.

    Threads that spin while waiting slow each other down more than tenfold as soon as anything else needs a core. An
    existing value of OMP_WAIT_POLICY is kept.
    """
    patience = {} if threads == 1 else {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {"OMP_NUM_THREADS": str(threads), **patience}


def _environment(resources: Resources, rank: int, port: int) -> dict[str, str]:
    # torchrun's variables; they replace those of a torchrun that started this process.
    together = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(resources.processes)}
    together |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return worker_environment(resources.threads) | together


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
