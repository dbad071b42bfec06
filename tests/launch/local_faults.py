"""What is done to the processes and files of a local sweep in the soak, and when, by the seed."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nfrepro.runs.lock import holder

SECONDS_TO_DIE = 30.0
DAMAGES = ("delete", "truncate", "flip a bit")


# A temporary file of a checkpoint is there; the record says that the run is done, and its process is not; it trains.
Moment = Literal["checkpoint", "end", "training"]
LONGEST_DELAY: Mapping[Moment, float] = {"checkpoint": 0.004, "end": 0.0, "training": 0.3}


@dataclass(frozen=True)
class Strike:
    kind: str
    moment: Moment
    delay: float  # seconds after it
    pick: float  # from 0 to 1: how long it lasts, or where a file is damaged


@dataclass(frozen=True)
class Victim:
    """A run that a worker of a sweep executes."""

    folder: Path
    worker: int  # process id
    sweep: int


def schedule(seed: int, runs: int) -> list[list[Strike]]:
    """One to four strikes for each run, half of them at a checkpoint's temporary file."""
    draws = random.Random(seed)
    counts = draws.choices((1, 2, 3, 4), weights=(8, 4, 2, 1), k=runs)
    drawn = [[_draw(draws) for _ in range(count)] for count in counts]
    return [sorted(strikes, key=lambda strike: strike.moment == "end") for strikes in drawn]


def strike(fault: Strike, victim: Victim) -> None:
    """Does it, unless the victim has just ended."""
    with suppress(ProcessLookupError):
        KINDS[fault.kind](fault, victim)


def worker_of(folder: Path) -> int | None:
    """The process that executes the run of `folder`; None where none does."""
    found = holder(folder)
    return None if found is None else found.process


def _draw(draws: random.Random) -> Strike:
    (moment,) = draws.choices(list(LONGEST_DELAY), weights=(5, 1, 4))
    return Strike(draws.choice(list(KINDS)), moment, draws.uniform(0.0, LONGEST_DELAY[moment]), draws.random())


def _kill_worker(fault: Strike, victim: Victim) -> None:
    _kill(victim.worker)


def _kill_sweep(fault: Strike, victim: Victim) -> None:
    _kill(victim.sweep)


def _kill_both(fault: Strike, victim: Victim) -> None:
    _kill(victim.sweep, victim.worker)


def _freeze_worker(fault: Strike, victim: Victim) -> None:
    _freeze(victim.worker, 2 * fault.pick)


def _freeze_sweep(fault: Strike, victim: Victim) -> None:
    _freeze(victim.sweep, 2 * fault.pick)


def _damaging(how: str) -> "Callable[[Strike, Victim], None]":
    """Kills the worker, and leaves its newest checkpoint as a failing disk would."""

    def damage(fault: Strike, victim: Victim) -> None:
        _kill(victim.worker)
        checkpoints = sorted(victim.folder.glob("checkpoint-*.pt"))
        if not checkpoints:
            return
        newest = checkpoints[-1]
        content = bytearray(newest.read_bytes())
        place = int(fault.pick * len(content))
        if how == "delete":
            newest.unlink()
        elif how == "truncate":
            newest.write_bytes(content[:place])
        else:
            content[place] ^= 1 << (place % 8)
            newest.write_bytes(content)

    return damage


def _kill(*processes: int) -> None:
    """SIGKILL, and returns once they are gone or defunct."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + SECONDS_TO_DIE
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {processes} outlive SIGKILL")
        time.sleep(0.001)


def _freeze(process: int, seconds: float) -> None:
    os.kill(process, signal.SIGSTOP)
    threading.Timer(seconds, _thaw, [process]).start()


def _thaw(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


KINDS: Mapping[str, Callable[[Strike, Victim], None]] = {
    "SIGKILL of the worker": _kill_worker,
    "SIGKILL of the sweep": _kill_sweep,
    "SIGKILL of both": _kill_both,
    "SIGSTOP and SIGCONT of the worker": _freeze_worker,
    "SIGSTOP and SIGCONT of the sweep": _freeze_sweep,
    **{f"SIGKILL of the worker, newest checkpoint: {how}": _damaging(how) for how in DAMAGES},
}
