"""Marks in a run's folder, one per cancelled sweep: such a sweep neither starts nor continues the run.

A mark works for every executor, even if several runs share a job. It does not affect other experiments that have the
same run. It is removed when a later sweep takes the run up again, and when the run is done.
"""

import time
from collections.abc import Callable
from pathlib import Path

from nfrepro.specs import Run

CANCEL = "cancel"
SECONDS_BETWEEN_LOOKS = 1.0


def mark(folder: Path, run: Run) -> None:
    """Cancels `run` for its sweep; its `folder` may not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    _mark(folder, run).touch()


def is_cancelled(folder: Path, run: Run | None = None) -> bool:
    """Whether the sweep of `run`, or any sweep without `run`, was cancelled; False if the file system fails."""
    try:
        return any(folder.glob(f"{CANCEL}-*")) if run is None else _mark(folder, run).exists()
    except OSError:
        return False


def lift(folder: Path, run: Run | None = None) -> None:
    """Removes the mark of the sweep of `run`, or all marks without `run`."""
    for path in folder.glob(f"{CANCEL}-*") if run is None else [_mark(folder, run)]:
        path.unlink(missing_ok=True)


def watched(folder: Path, run: Run) -> Callable[[], bool]:
    """A cheap `is_cancelled` to call at every step: it looks at the disk at most once a second."""
    looked, found = time.monotonic(), False

    def look() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if not found and now - looked >= SECONDS_BETWEEN_LOOKS:
            looked, found = now, is_cancelled(folder, run)
        return found

    return look


def _mark(folder: Path, run: Run) -> Path:
    return folder / f"{CANCEL}-{run.experiment}-{run.scale}"
