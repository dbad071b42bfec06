"""Calls to SLURM that list or cancel jobs: one call for any number of jobs to list, one per array to cancel."""

import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nfrepro.errors import InputError

SECONDS_FOR_AN_ANSWER = 60.0
# Wider than any name; text after a width is printed after the field.
FIELDS = "Name:400|,ArrayJobID:|,ArrayTaskID:|,State:|,RestartCnt:|,Reason:200"


@dataclass(frozen=True)
class Job:
    """A job in the queue: waiting, running or about to end."""

    name: str
    number: str  # the scheduler's job number; that of the array, if the job belongs to one
    index: int | None  # place in the array
    state: str  # PENDING, RUNNING, COMPLETING, …
    restarts: int
    reason: str = ""  # why it waits: Priority, Resources, JobHeldUser, launch failed requeued held, …

    @property
    def held_back(self) -> bool:
        """Whether the job waits only for someone to release it."""
        return self.state == "PENDING" and "held" in self.reason.lower()

    @property
    def id(self) -> str:
        """The id that the job itself sees: `runs.lock.scheduler_job`."""
        return self.number if self.index is None else f"{self.number}_{self.index}"


def jobs(names: Sequence[str]) -> list[Job]:
    """The jobs with these names that are in the queue. Raises `InputError` if SLURM does not answer."""
    lines = ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", f"--Format={FIELDS}").splitlines()
    fields = [[field.strip() for field in line.split("|")] for line in lines if line.count("|") == 5]
    return [
        Job(name, number, int(index) if index.isdigit() else None, state, int(restarts or 0), reason)
        for name, number, index, state, restarts, reason in fields
    ]


def in_queue(names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Name, job id and place in the array of the jobs with these names that are in the queue."""
    return [(job.name, job.number, job.index or 0) for job in jobs(names)]


def cancel(chosen: Sequence[Job]) -> None:
    """Cancels these jobs and no others. Raises `InputError` if some that were not about to end remain.

    SLURM also compares the names, since a new cluster may use the same numbers for other jobs.
    """
    arrays: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    for job in chosen:
        arrays[job.name, job.number].append(job.index)
    problem = None
    for (name, number), indices in arrays.items():
        which = number if indices == [None] else f"{number}_[{','.join(map(str, indices))}]"
        try:
            ask("scancel", "--quiet", f"--name={name}", which)
        except InputError as error:  # also if one of them has just ended
            problem = error
    if problem is not None:
        left = {job.id for job in jobs([job.name for job in chosen]) if job.state in ("PENDING", "RUNNING")}
        if left & {job.id for job in chosen}:
            raise problem


def ask(*command: str) -> str:
    """The output of a SLURM command. Raises `InputError` with SLURM's reason if it fails."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_AN_ANSWER,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"SLURM does not answer: {command[0]}: {error}") from None
    if answer.returncode != 0:
        raise InputError(f"SLURM does not answer: {(answer.stderr.strip().splitlines() or [command[0]])[-1]}")
    return answer.stdout
