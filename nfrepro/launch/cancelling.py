"""Stopping what is queued or running, from any shell.

A mark in the run's folder stops it at its next step, wherever it is being executed, and keeps it from being begun. A
job of SLURM is cancelled as well once no run of it is left to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.launch import scheduler, submitted
from nfrepro.launch import submission as kept
from nfrepro.launch.submission import Submission
from nfrepro.runs import cancellation, status, store
from nfrepro.specs import Run

OVER: set[status.State] = {"completed", "diverged", "cancelled", "failed"}


@dataclass(frozen=True)
class Cancelled:
    """What was cancelled."""

    runs: dict[str, status.State]  # by id: what they were
    jobs: tuple[str, ...]  # SLURM's ids
    complaint: str | None  # why no job was cancelled, where SLURM does not answer


def everything(results: Path, runs: Sequence[Run]) -> list[Run]:
    """`runs`, and those of their sweep that the experiment has no more but that are submitted or being executed."""
    found = {run.id: run for submission in kept.earlier(results, runs[0]) for run in submission.runs}
    sweep = runs[0].experiment, runs[0].scale
    for folder in sorted(path.parent for path in store.runs_folder(results).glob("*/claim")):
        record = store.read_record(folder)
        if record is not None and (record["experiment"], record["scale"]) == sweep:
            found[folder.name] = store.run_of(record)
    return list({**{run.id: run for run in runs}, **found}.values())


def cancel(results: Path, runs: Sequence[Run], chosen: Sequence[Run]) -> Cancelled:
    """Cancels those of the `chosen` that are queued or running, out of `everything` about `runs`; none that is over.

    Where a local sweep is at work on `runs`, all of them count as queued that are not over. Raises `InputError` where
    SLURM answers, but does not cancel.
    """
    observed = status.observe(everything(results, runs), results)
    undone = {one.run.id for one in observed if one.stored.state not in store.DONE}
    submissions = kept.earlier(results, runs[0])
    held, complaint = _ask(submissions, undone)
    states = {row.id: row.state for row in status.rows(observed, submitted.by_run(held))}
    may_begin = {run.id for run in runs} if _is_local_sweep_at_work(observed, held) else set()
    if complaint:
        may_begin |= {run.id for submission in submissions for run in submission.runs}
    names = {run.id for run in chosen}
    stopped = {run.id: states[run.id] for run in chosen if _is_to_be_stopped(states[run.id], run.id in may_begin)}
    for run in chosen:
        if run.id in stopped:
            cancellation.mark(store.run_folder(results, run))
    states |= dict.fromkeys(stopped, "cancelled")
    jobs = [one.job for one in held if _has_nothing_left(one, states) and not names.isdisjoint(one.runs)]
    scheduler.cancel(jobs)
    return Cancelled(stopped, tuple(job.id for job in jobs), complaint)


def _ask(submissions: Sequence[Submission], undone: set[str]) -> tuple[list[submitted.Held], str | None]:
    """The jobs in the queue, or why they are not known."""
    try:
        return submitted.held(submissions, undone), None
    except InputError as error:
        return [], str(error)


def _is_local_sweep_at_work(observed: Sequence[status.Observed], held: Sequence[submitted.Held]) -> bool:
    jobs = {one.job.id for one in held}
    claims = [one.claim for one in observed if one.claim is not None and one.claim.life == "alive"]
    return any(claim.holder is not None and claim.holder.job not in jobs for claim in claims)


def _is_to_be_stopped(state: status.State, may_begin: bool) -> bool:
    active = state in status.ACTIVE or state == "stalled"
    return active or (may_begin and state in ("waiting", "interrupted"))


def _has_nothing_left(held: submitted.Held, states: dict[str, status.State]) -> bool:
    found = {states[run] for run in held.runs}
    return "cancelled" in found and found <= OVER and held.job.state != "COMPLETING"
