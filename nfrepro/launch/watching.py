"""State of a sweep being watched: its folders are read every time, SLURM's queue only now and then."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.launch import submission as kept
from nfrepro.launch import submitted
from nfrepro.launch.scheduler import Job
from nfrepro.runs import status, store
from nfrepro.specs import Run

SECONDS_BETWEEN_QUESTIONS = 30.0
# A sweep that has just started, or is between two runs, has nothing queued or running.
SECONDS_BETWEEN_RUNS = 10.0


class Watching:
    """Watches `runs` of one sweep. Asks SLURM only about runs that are neither done, nor running, nor cancelled."""

    def __init__(self, runs: Sequence[Run], results: Path) -> None:
        self.runs, self.results = runs, results
        self.remarks: list[str] = []  # things worth knowing that the rows do not show
        self._queue: Mapping[str, Sequence[status.QueuedJob]] = {}
        self._asked: float | None = None

    def rows(self) -> list[status.Row]:
        """The current states of all runs."""
        observed = status.observe(self.runs, self.results)
        undone = {one.run.id for one in observed if one.stored.state not in (*store.DONE, "running", "cancelled")}
        if undone and (self._asked is None or time.monotonic() - self._asked >= SECONDS_BETWEEN_QUESTIONS):
            self._ask(undone)
        return status.rows(observed, self._queue)

    @property
    def seconds_of_rest(self) -> float:
        """Seconds without queued or running runs after which the sweep counts as finished."""
        return SECONDS_BETWEEN_RUNS + (SECONDS_BETWEEN_QUESTIONS if self._queue else 0.0)

    def _ask(self, undone: set[str]) -> None:
        try:
            jobs = submitted.held(kept.holding(self.results, undone), undone)
            self._queue, self.remarks = submitted.by_run(jobs), held_back([one.job for one in jobs])
        except InputError as error:
            self.remarks = [f"what is queued is not known: {error}"]
        self._asked = time.monotonic()


def held_back(jobs: Sequence[Job]) -> list[str]:
    """A line for each reason for which SLURM holds some of `jobs` back for ever, as after failing to start one."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for job in jobs:
        if job.held_back:
            reasons[job.reason].append(job.id)
    return [
        f"SLURM holds {len(ids)} of the jobs back ({reason}) until somebody calls: scontrol release {','.join(ids)}"
        for reason, ids in reasons.items()
    ]
