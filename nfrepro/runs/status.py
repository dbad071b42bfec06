"""State of every run, from its files and from the scheduler's answer about waiting or running jobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nfrepro.runs import progress, redo, store
from nfrepro.runs.final_numbers import headline
from nfrepro.runs.lock import LockInfo, read_lock, scheduler_job
from nfrepro.specs import Run
from nfrepro.specs.varied import varied_options

State = Literal[
    "completed",
    "diverged",
    "running",  # a living process holds its lock
    "cancelled",  # a later sweep takes it up again
    "requeued",  # its job was interrupted, and is in the scheduler's queue again
    "queued",  # in a job that waits, or that has other runs to do first
    "stalled",  # its process on another machine has had no heartbeat for two minutes: dead, or cut off
    "failed",
    "interrupted",  # started; no process is executing it, and nothing is queued
    "waiting",  # not started, and in no job of a scheduler
]
ACTIVE = ("running", "requeued", "queued")


@dataclass(frozen=True)
class QueuedJob:
    """A waiting or running job of the scheduler that contains a run."""

    id: str  # as in the locks and records of its runs
    restarts: int


class Row(NamedTuple):
    """The status of one run."""

    id: str
    state: State
    progress: float  # from 0 to 1
    metrics: dict[str, Any] | None  # the newest row of metrics.jsonl
    headline: tuple[str, float] | None  # top1, or the first number that its task reports
    host: str | None  # where it is being executed
    step: int | None  # in units of its task
    steps: int | None
    rate: float | None  # steps per second
    seconds_left: float | None
    requeues: int | None  # of its job; None if it was in none
    varied: str = ""  # options that distinguish it from runs of the same name in this sweep


@dataclass(frozen=True)
class Observed:
    """A snapshot of a run's folder."""

    run: Run
    stored: store.Stored
    lock: LockInfo | None
    progress: progress.StoredProgress | None
    metrics: dict[str, Any] | None


def observe(runs: Sequence[Run], results: Path) -> list[Observed]:
    """Reads the folder of each of `runs`."""
    return [_observe(run, results) for run in runs]


def rows(observed: Sequence[Observed], queue: Mapping[str, Sequence[QueuedJob]]) -> list[Row]:
    """A row for each run; `queue` has the jobs of each run id, as far as known."""
    varied = varied_options([one.run for one in observed])
    return [_row(one, queue.get(one.run.id, ()))._replace(varied=varied[one.run.id]) for one in observed]


def _observe(run: Run, results: Path) -> Observed:
    folder, stored = store.run_folder(results, run), redo.read_work(results, run)
    if stored.state == "missing":
        return Observed(run, stored, None, None, None)
    over = stored.state in store.DONE
    return Observed(
        run,
        stored,
        None if over else read_lock(folder),
        None if over else progress.read(folder),
        store.newest_metrics(stored.folder),
    )


def _row(observed: Observed, jobs: Sequence[QueuedJob]) -> Row:
    state, seen = _state(observed, jobs), observed.progress
    final = (observed.stored.record or {}).get("final") or {}
    holder = observed.lock.holder if observed.lock and state in ("running", "stalled") else None
    rate = seen.rate if seen and state == "running" else None
    return Row(
        id=observed.run.id,
        state=state,
        progress=1.0 if state in store.DONE else seen.step / max(1, seen.steps) if seen else 0.0,
        metrics=observed.metrics,
        headline=None if state == "diverged" else _headline(final) or _headline(observed.metrics or {}),
        host=holder.host if holder else None,
        step=seen.step if seen else final.get("steps"),
        steps=seen.steps if seen else final.get("steps") if state == "completed" else None,
        rate=rate,
        seconds_left=(seen.steps - seen.step) / rate if seen and rate else None,
        requeues=_requeues(observed, jobs),
    )


def _state(observed: Observed, jobs: Sequence[QueuedJob]) -> State:
    stored = observed.stored.state
    if stored == "missing" or stored == "interrupted" or stored == "failed":
        silent = observed.lock is not None and observed.lock.life == "silent"
        return _queued(observed, jobs) or ("stalled" if silent else "waiting" if stored == "missing" else stored)
    return stored


def _queued(observed: Observed, jobs: Sequence[QueuedJob]) -> State | None:
    """The queued state, if any. A job that started the run and was not requeued since will not start it again."""
    began_in, restarts = _job(observed)
    if any(job.id == began_in and job.restarts > restarts for job in jobs):
        return "requeued"
    return "queued" if any(job.id != began_in for job in jobs) else None


def _requeues(observed: Observed, jobs: Sequence[QueuedJob]) -> int | None:
    began_in, restarts = _job(observed)
    if began_in is None:
        return None
    return max([restarts, *(job.restarts for job in jobs if job.id == began_in)])


def _job(observed: Observed) -> tuple[str | None, int]:
    """The scheduler's job that last executed the run, and how often it had been requeued by then."""
    record = observed.stored.record or {}
    environment = (record.get("provenance") or {}).get("environment") or {}
    return scheduler_job(environment), int(environment.get("SLURM_RESTART_COUNT", "0"))


def _headline(numbers: Mapping[str, Any]) -> tuple[str, float] | None:
    name = headline(numbers)
    return None if name is None else (name.removeprefix("test_"), numbers[name])
