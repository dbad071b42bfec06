"""Jobs in which runs were submitted: those that are in SLURM's queue, and the paths of their logs."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro.launch import scheduler
from nfrepro.launch import submission as kept
from nfrepro.launch.submission import Array, Submission
from nfrepro.runs.status import QueuedJob
from nfrepro.specs import Run

# submitit names a log by the job's id, the number of the process, and this suffix.
LOG = "_log.out"


@dataclass(frozen=True)
class Held:
    """A job in the queue, and the runs it was submitted for."""

    job: scheduler.Job
    runs: tuple[str, ...]


def held(submissions: Sequence[Submission], wanted: Collection[str]) -> list[Held]:
    """The jobs in the queue that hold any of the `wanted` run ids. Asks SLURM once, and only if there may be any.

    Raises `InputError` if SLURM does not answer.
    """
    arrays = {
        array.name: array
        for submission in submissions
        for array in submission.arrays
        if not set(wanted).isdisjoint(run for runs in array.jobs for run in runs)
    }
    if not arrays:
        return []
    found = [Held(job, _runs(arrays[job.name], job)) for job in scheduler.jobs(list(arrays)) if job.name in arrays]
    return [one for one in found if not set(wanted).isdisjoint(one.runs)]


def by_run(held: Sequence[Held]) -> dict[str, list[QueuedJob]]:
    """The jobs of each run id."""
    jobs: dict[str, list[QueuedJob]] = defaultdict(list)
    for one in held:
        for name in one.runs:
            jobs[name].append(QueuedJob(one.job.id, one.job.restarts))
    return jobs


def logs(results: Path, run: Run) -> list[Path]:
    """The logs of the jobs of `run`, sweep by sweep, the oldest submission of each first.

    A requeued job continues in the same file.
    """
    return [
        path
        for submission in kept.holding(results, {run.id})
        for array in submission.arrays
        for index, runs in enumerate(array.jobs)
        if run.id in runs and array.job_id is not None
        for path in sorted(submission.jobs.glob(f"{_job_id(array, index)}_*{LOG}"))
    ]


def ended_silently(submissions: Sequence[Submission], left: Collection[str]) -> int:
    """The number of jobs without a log whose runs are all `left` to do: neither queued nor being executed."""
    wanted = set(left)
    silent = 0
    for submission in submissions:
        wrote = {path.name.removesuffix(LOG).rpartition("_")[0] for path in submission.jobs.glob(f"*{LOG}")}
        for array in submission.arrays:
            if array.job_id is not None:
                jobs = ((_job_id(array, index), runs) for index, runs in enumerate(array.jobs))
                silent += sum(wanted.issuperset(runs) and job not in wrote for job, runs in jobs)
    return silent


def _runs(array: Array, job: scheduler.Job) -> tuple[str, ...]:
    """The runs of the job; none if it is an unrelated job with the same name."""
    index = job.index or 0
    # No job id means that sbatch failed, but SLURM may have accepted the array all the same.
    mine = array.job_id in (None, job.number) and index < len(array.jobs)
    return array.jobs[index] if mine else ()


def _job_id(array: Array, index: int) -> str:
    return str(array.job_id) if len(array.jobs) == 1 else f"{array.job_id}_{index}"
