"""Counts of the runs of an arm with a result, and of the others by the reason why they have none."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class RunCounts:
    """Numbers of runs by how they ended."""

    completed: int
    diverged: int
    unfinished: int  # failed, interrupted, cancelled or running
    not_run: int  # nothing is stored: not asked for yet, or no longer needed to decide a claim

    @property
    def ended(self) -> int:
        """The number of runs that completed or diverged."""
        return self.completed + self.diverged

    @property
    def runs(self) -> int:
        return self.ended + self.unfinished + self.not_run

    def without_result(self) -> dict[str, str]:
        """Columns of a table: runs that neither completed nor diverged."""
        return {"failed or unfinished": str(self.unfinished), "not run": str(self.not_run)}


def count_runs(states: Iterable[str]) -> RunCounts:
    """The counts of runs with these states in runs.csv."""
    states = list(states)
    completed, diverged, not_run = (states.count(state) for state in ("completed", "diverged", "missing"))
    return RunCounts(completed, diverged, len(states) - completed - diverged - not_run, not_run)
