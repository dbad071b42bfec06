"""Cancels queued or running runs, from any shell.

A mark in the run's folder keeps its sweep from starting it and stops it at its next step, wherever it executes. A SLURM
job is cancelled as well once none of its runs is left to do. A run that another sweep executes continues there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.launch import scheduler, submitted
from nfrepro.launch import submission as kept
from nfrepro.launch.submission import Submission
from nfrepro.runs import cancellation, redo, status, store
from nfrepro.specs import Run

OVER: set[status.State] = {"completed", "diverged", "cancelled", "failed"}


@dataclass(frozen=True)
class Cancelled:
    """The runs and jobs that were cancelled."""

    runs: dict[str, status.State]  # id -> state before
    shared: dict[str, str]  # id -> the other sweep that continues the run: `figure_1 at scale smoke`
    jobs: tuple[str, ...]  # SLURM's ids
    complaint: str | None  # why no job was cancelled, if SLURM does not answer


def everything(results: Path, runs: Sequence[Run]) -> list[Run]:
    """`runs`, and runs of their sweep that left the experiment but are still submitted or being executed."""
    found = {run.id: run for submission in kept.earlier(results, runs[0]) for run in submission.runs}
    for folder in sorted(path.parent for path in store.runs_folder(results).glob("*/claim")):
        record = store.read_record(redo.work_folder(folder))
        if record is not None and sweep_of(store.run_of(record)) == sweep_of(runs[0]):
            found[folder.name] = store.run_of(record)
    return list({**{run.id: run for run in runs}, **found}.values())


def sweep_of(run: Run) -> str:
    """The sweep that the run belongs to, in words."""
    return f"{run.experiment} at scale {run.scale}"


def cancel(results: Path, runs: Sequence[Run], chosen: Sequence[Run]) -> Cancelled:
    """Cancels the queued or running runs among `chosen`, a part of `everything` of `runs`; none that is over.

    Only their own sweep gives them up: another sweep that has one of them continues it. If a local sweep is executing
    `runs`, all of them that are not over count as queued. Raises `InputError` if SLURM answers, but does not cancel.
    """
    observed = status.observe(everything(results, runs), results)
    undone = {one.run.id for one in observed if one.stored.state not in store.DONE}
    submissions = kept.earlier(results, runs[0])
    arrays = {array.name for submission in submissions for array in submission.arrays}
    everywhere = kept.holding(results, undone)
    held, complaint = _ask(everywhere, undone)
    own = [one for one in held if one.job.name in arrays]
    shared = _executed_by_others(observed) | _queued_by_others(everywhere, [one for one in held if one not in own])
    states = {row.id: row.state for row in status.rows(observed, submitted.by_run(held))}
    is_at_work = _is_local_sweep_at_work([one for one in observed if one.run.id not in shared], held)
    may_begin = {run.id for run in runs} if is_at_work else set()
    if complaint:
        may_begin |= {run.id for submission in submissions for run in submission.runs}
    names = {run.id for run in chosen}
    stopped = {run.id: states[run.id] for run in chosen if _is_to_be_stopped(states[run.id], run.id in may_begin)}
    for run in chosen:
        if run.id in stopped:
            cancellation.mark(store.run_folder(results, run), run)
    states |= dict.fromkeys(stopped, "cancelled")
    jobs = [one.job for one in own if _has_nothing_left(one, states) and not names.isdisjoint(one.runs)]
    scheduler.cancel(jobs)
    shared = {name: sweep for name, sweep in shared.items() if name in stopped}
    return Cancelled(stopped, shared, tuple(job.id for job in jobs), complaint)


def _executed_by_others(observed: Sequence[status.Observed]) -> dict[str, str]:
    """Run id -> the other sweep that is executing the run now, according to its record."""
    sweeps = {}
    for one in observed:
        record = one.stored.record
        if record is not None and one.stored.state == "running" and record["status"] == "running":
            sweep = sweep_of(store.run_of(record))
            if sweep != sweep_of(one.run):
                sweeps[one.run.id] = sweep
    return sweeps


def _queued_by_others(submissions: Sequence[Submission], held: Sequence[submitted.Held]) -> dict[str, str]:
    """Run id -> the other sweep that has the run in one of its jobs, which are `held`."""
    owners = {array.name: sweep_of(one.runs[0]) for one in submissions for array in one.arrays}
    return {name: owners[one.job.name] for one in held for name in one.runs}


def _ask(submissions: Sequence[Submission], undone: set[str]) -> tuple[list[submitted.Held], str | None]:
    """The jobs in the queue, or the reason why they are unknown."""
    try:
        return submitted.held(submissions, undone), None
    except InputError as error:
        return [], str(error)


def _is_local_sweep_at_work(observed: Sequence[status.Observed], held: Sequence[submitted.Held]) -> bool:
    jobs = {one.job.id for one in held}
    locks = [one.lock for one in observed if one.lock is not None and one.lock.life == "alive"]
    return any(lock.holder is not None and lock.holder.job not in jobs for lock in locks)


def _is_to_be_stopped(state: status.State, may_begin: bool) -> bool:
    active = state in status.ACTIVE or state == "stalled"
    return active or (may_begin and state in ("waiting", "interrupted"))


def _has_nothing_left(held: submitted.Held, states: dict[str, status.State]) -> bool:
    found = {states[run] for run in held.runs}
    return "cancelled" in found and found <= OVER and held.job.state != "COMPLETING"
