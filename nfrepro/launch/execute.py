"""Executes one run in this process: lock, run.json, task, run.json. The same for every executor.

If several processes execute a run together, the first of them does all of this; the others write nothing.
"""

import contextlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from nfrepro.errors import InputError
from nfrepro.launch import run_record
from nfrepro.launch.device_errors import free_device_memory, is_of_device
from nfrepro.launch.run_record import Failure, is_of_machine
from nfrepro.options import TaskOptions
from nfrepro.plugins.names import search_in
from nfrepro.plugins.sources import check_source, own_names
from nfrepro.runs import cancellation, progress, redo, store
from nfrepro.runs.live import LiveEvents
from nfrepro.runs.lock import LockLost, RunLock, RunLocked, hold_lock
from nfrepro.specs import Run
from nfrepro.tasks.base import Outcome, loader_workers
from nfrepro.tasks.registry import TASKS
from nfrepro.training.context import Interrupted, Progress, RunContext
from nfrepro.training.distributed import ALONE, KVStore, Processes, ProcessLost

Ending = Literal["completed", "diverged", "failed", "interrupted", "cancelled", "claimed"]

CANCELLED = "the next sweep continues it"

# Messages between the processes of a run.
BEGINS, FAILED, ENDED = "begins", "failed", "ended"
# A process that fails first breaks its connections, and then reports why.
TIME_TO_EXPLAIN = timedelta(seconds=5)


@dataclass(frozen=True)
class Placement:
    """Where a run executes. The result depends on it as little as on a `RunContext`."""

    results: Path
    device: str
    threads: int
    checkpoint_seconds: float
    processes: Processes = ALONE  # that execute the run together


@dataclass(frozen=True)
class Ended:
    """How an execution ended, in one line."""

    ending: Ending
    text: str


def execute(
    run: Run,
    place: Placement,
    report: Callable[[Progress], None],
    complain: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Ended:
    """Executes or continues `run`, unless it is done or being executed elsewhere. Never raises for errors of the run.

    Call it in all processes of `place`: they get the same answer; only the first one reports and complains.
    """
    search_in(run.code_folders)
    try:
        messages = place.processes.kv_store()
        if place.processes.rank > 0:
            return _assist(run, place, messages, should_stop)
    except ProcessLost as error:
        complain(str(error))
        return Ended("interrupted", "its first process died, or cannot be reached")
    ended = _lead(run, place, messages, report, complain, should_stop)
    with suppress(ProcessLost):
        messages.set(ENDED, json.dumps(asdict(ended)))
        messages.set(BEGINS, "no")
    return ended


def _lead(
    run: Run,
    place: Placement,
    messages: KVStore,
    report: Callable[[Progress], None],
    complain: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> Ended:
    """Execute a run as its first or only process."""
    folder = store.run_folder(place.results, run)
    try:
        store.refuse_link(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder) as held:
            stop = _stop_or_lost(should_stop, cancellation.watched(folder, run), held)
            events = LiveEvents(run, redo.work_folder(folder))
            told = _also_to_others(report, folder, events)
            ctx = replace(_context(run, place, stop), report=told, complain=complain)
            with contextlib.closing(events):
                return _execute_locked(run, held, place, messages, ctx)
    except RunLocked as taken:
        return Ended("claimed", f"being executed by {taken}")
    except LockLost:
        return Ended("claimed", "this process lost its lock, for want of a heartbeat; another may be executing it")
    except InputError as error:  # a damaged record, which is left as it is
        return Ended("failed", str(error))
    except OSError as error:
        where, what = error.filename or folder, error.strerror or error
        return Ended("interrupted", f"{where}: {what}: mend this and start the sweep again")
    except RuntimeError as error:
        if not is_of_device(error):
            raise
        return Ended("interrupted", f"{Failure.of(error).text}: the GPU is at fault; the next sweep continues the run")


def _assist(run: Run, place: Placement, messages: KVStore, should_stop: Callable[[], bool]) -> Ended:
    """Execute a run as one of its other processes. Raises `ProcessLost`."""
    if messages.wait(BEGINS) == "yes":
        try:
            _run_task(run, _options(run), place, _context(run, place, should_stop))
        except (Interrupted, ProcessLost):
            pass  # the first process reports why
        except Exception as error:
            messages.set(FAILED, json.dumps(asdict(Failure.of(error))))
    return Ended(**json.loads(messages.wait(ENDED)))


def _context(run: Run, place: Placement, should_stop: Callable[[], bool]) -> RunContext:
    return RunContext(
        redo.work_folder(store.run_folder(place.results, run)),
        place.device,
        place.checkpoint_seconds,
        should_stop=should_stop,
        workers=loader_workers(place.threads),
        processes=place.processes,
    )


def _also_to_others(report: Callable[[Progress], None], folder: Path, events: LiveEvents) -> Callable[[Progress], None]:
    """Extends `report` to store progress for other processes and machines, and for TensorBoard if requested."""
    writer = progress.Writer(folder)

    def tell(reported: Progress) -> None:
        writer.note(reported.done, reported.total, reported.text)
        if reported.milestone:
            events.update()
        report(reported)

    return tell


def _stop_or_lost(should_stop: Callable[[], bool], cancelled: Callable[[], bool], held: RunLock) -> Callable[[], bool]:
    """Extends `should_stop` to end a task that lost its lock at its next step, before it overwrites its successor."""

    def stop() -> bool:
        if held.lost:
            raise LockLost
        return should_stop() or cancelled()

    return stop


def _execute_locked(run: Run, held: RunLock, place: Placement, messages: KVStore, ctx: RunContext) -> Ended:
    home, folder = store.run_folder(place.results, run), ctx.folder
    stored = store.read(folder)
    if stored.state in store.DONE:
        redo.install(home)
        return Ended("completed" if stored.state == "completed" else "diverged", "was done before")
    store.check_config(folder, run)
    if cancellation.is_cancelled(home, run):
        return Ended("cancelled", CANCELLED)
    options = _options(run)
    _check_own_code(run, options)
    TASKS[run.task].check_processes(options, place.processes.count)
    store.remove_half_written(folder)
    record = run_record.begin(run, folder, place.processes.count, stored.record, store.is_kept(home))
    messages.set(BEGINS, "yes")
    try:
        outcome = _run_task(run, options, place, ctx)
        held.check()
        run_record.complete(folder, record, outcome)
    except LockLost:
        raise
    except Interrupted:
        if cancellation.is_cancelled(home, run):
            return Ended("cancelled", CANCELLED)
        return Ended("interrupted", "stopped; the next sweep continues it")
    except ProcessLost as error:
        ctx.complain(str(error))
        failure = _failure_of_another(messages)
        if failure is None:
            return Ended("interrupted", "another of its processes died, or cannot be reached")
        if failure.of_machine:
            return Ended("interrupted", failure.text)
        held.check()
        return Ended("failed", run_record.fail(folder, record, failure))
    except Exception as error:
        if is_of_machine(error):
            raise
        held.check()
        return Ended("failed", run_record.fail(folder, record, Failure.of(error)))
    outcome.discard_unfinished()
    (folder / store.ERROR).unlink(missing_ok=True)
    redo.install(home)
    progress.remove(home)
    cancellation.lift(home)
    return Ended(outcome.status, _in_words(outcome.final))


def _options(run: Run) -> TaskOptions:
    """The typed config of a run. Raises `InputError` if it names code that no longer exists."""
    try:
        return TASKS[run.task].options.model_validate(run.config)
    except ValidationError as error:  # it was valid when the run was planned
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"{reason} (it was there when this run was planned: start the sweep again)") from None


def _check_own_code(run: Run, options: TaskOptions) -> None:
    """Raises `InputError` if the researcher's own code that a run names has changed since the run got its id."""
    if run.config.get("source") is not None:
        check_source(own_names(options, run.task), run.config["source"])


def _run_task(run: Run, options: TaskOptions, place: Placement, ctx: RunContext) -> Outcome:
    _set_threads(place.threads)
    try:
        return TASKS[run.task].run(options, ctx)
    finally:
        free_device_memory()


def _failure_of_another(messages: KVStore) -> Failure | None:
    """The failure for which another process broke the connections; None if it reported none because it is dead."""
    try:
        return Failure(**json.loads(messages.wait(FAILED, TIME_TO_EXPLAIN)))
    except ProcessLost:
        return None


def _set_threads(threads: int) -> None:
    """Sets torch's number of threads for the next run; a continued run before it may have restored another number."""
    import torch

    torch.set_num_threads(threads)


def _in_words(final: dict[str, Any]) -> str:
    if final.get("diverged_at_step") is not None:
        return f"diverged at step {final['diverged_at_step']}"
    numbers = [f"{name} {final[name]:.2f} %" for name in ("top1",) if isinstance(final.get(name), float)]
    seconds = final.get("train_seconds")
    return ", ".join(numbers + ([f"{seconds:.0f} s of training"] if seconds is not None else []))
