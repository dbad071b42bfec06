"""Removal of files left behind by a process that was killed after its run had completed."""

from pathlib import Path

from nfrepro.runs.cancellation import CANCEL
from nfrepro.runs.files import ERROR
from nfrepro.runs.lock import LOCK, RunLocked, hold_lock, remove_unfinished
from nfrepro.runs.progress import PROGRESS

# Checkpoints, reports of progress, tracebacks of earlier executions, cancellation marks, and incomplete files.
LEFT_BEHIND = ("checkpoint-*.pt", PROGRESS, ERROR, f"{CANCEL}-*", ".*.tmp", ".*.old", ".*.csv")


def tidy(folder: Path) -> None:
    """Removes files left behind in the folder of a finished run, unless another process has locked it."""
    if not any(path for pattern in (LOCK, *LEFT_BEHIND) for path in folder.glob(pattern)):
        return
    try:
        with hold_lock(folder):
            remove_unfinished(folder)
            for pattern in LEFT_BEHIND:
                for path in folder.glob(pattern):
                    path.unlink(missing_ok=True)
    except RunLocked:
        return
