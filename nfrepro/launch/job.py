"""One run, executed in this process: claim, run.json, task, run.json. The same for every executor."""

import errno
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nfrepro.errors import InputError
from nfrepro.evidence import store
from nfrepro.evidence.claim import Claim, Claimed, ClaimLost, claim
from nfrepro.evidence.provenance import provenance
from nfrepro.specs import Run
from nfrepro.tasks.job import Interrupted, Progress, Surroundings
from nfrepro.tasks.registry import TASKS

# The machine is at fault, not the run: it is not marked as failed, and the next sweep continues it.
MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM}
# Processes that read data for a run, where its data set does not lie in memory.
MAX_WORKERS = 8

Ending = Literal["completed", "diverged", "failed", "interrupted", "claimed"]


@dataclass(frozen=True)
class Place:
    """Where a run executes; its result may not depend on it (but for rounding)."""

    results: Path
    device: str
    threads: int
    checkpoint_seconds: float


@dataclass(frozen=True)
class Ended:
    """How an execution ended, in one line."""

    ending: Ending
    text: str


def execute(
    run: Run,
    place: Place,
    report: Callable[[Progress], None],
    complain: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Ended:
    """Executes `run` or continues it, unless it is done or somebody else is at it. Never raises for what a run does."""
    folder = store.run_folder(place.results, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with claim(folder) as held:
            stop = _stop_or_lost(should_stop, held)
            workers = min(MAX_WORKERS, place.threads)
            around = Surroundings(folder, place.device, place.checkpoint_seconds, report, complain, stop, workers)
            return _execute_claimed(run, held, place, around)
    except Claimed:
        return Ended("claimed", "another process is executing it")
    except ClaimLost:
        return Ended("claimed", "this process lost its claim, for want of a heartbeat; another may be executing it")
    except InputError as error:  # a damaged record: it stays as it is
        return Ended("failed", str(error))
    except OSError as error:
        return Ended("interrupted", f"{folder}: {error.strerror or error}: mend this and start the sweep again")


def _stop_or_lost(should_stop: Callable[[], bool], held: Claim) -> Callable[[], bool]:
    """Ends a task whose claim is lost at its next step, before it saves anything over what its successor writes."""

    def stop() -> bool:
        if held.lost:
            raise ClaimLost
        return should_stop()

    return stop


def _execute_claimed(run: Run, held: Claim, place: Place, around: Surroundings) -> Ended:
    folder = around.folder
    stored = store.read(folder)
    if stored.state in store.DONE:
        return Ended("completed" if stored.state == "completed" else "diverged", "was done before")
    store.check_config(folder, run)
    record = _begin(run, folder, stored.record)
    try:
        _set_threads(place.threads)
        task = TASKS[run.task]
        outcome = task.run(task.options.model_validate(run.config), around)
        finished = {
            "status": outcome.status,
            "finished": _now(),
            "final": outcome.final,
            "provenance": {**record["provenance"], **outcome.provenance},
        }
        held.check()
        store.write_record(folder, record | finished)
    except ClaimLost:
        raise
    except Interrupted:
        return Ended("interrupted", "stopped; the next sweep continues it")
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            raise
        held.check()
        return _failed(folder, record, error)
    outcome.discard_unfinished()
    (folder / store.ERROR).unlink(missing_ok=True)
    return Ended(outcome.status, _in_words(outcome.final))


def _begin(run: Run, folder: Path, earlier: dict[str, Any] | None) -> dict[str, Any]:
    earlier = earlier or {}
    record = {
        "version": store.RECORD_VERSION,
        "id": run.id,
        "experiment": run.experiment,
        "scale": run.scale,
        "task": run.task,
        "status": "running",
        "started": earlier.get("started", _now()),
        "finished": None,
        "executions": earlier.get("executions", 0) + 1,
        "config": run.config,
        "final": None,
        "error": None,
        "provenance": provenance(),
    }
    store.write_record(folder, record)
    return record


def _failed(folder: Path, record: dict[str, Any], error: Exception) -> Ended:
    reason = (str(error).splitlines() or [""])[0]
    text = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    log = store.write_error(folder, traceback.format_exc())
    store.write_record(folder, record | {"status": "failed", "finished": _now(), "error": text})
    return Ended("failed", f"{text} ({log})")


def _set_threads(threads: int) -> None:
    """A continued run may have set the number it began with; the next run of this process begins with its own."""
    import torch

    torch.set_num_threads(threads)


def _in_words(final: dict[str, Any]) -> str:
    if final.get("diverged_at_step") is not None:
        return f"diverged at step {final['diverged_at_step']}"
    numbers = [f"{name} {final[name]:.2f} %" for name in ("top1",) if isinstance(final.get(name), float)]
    seconds = final.get("train_seconds")
    return ", ".join(numbers + ([f"{seconds:.0f} s of training"] if seconds is not None else []))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
