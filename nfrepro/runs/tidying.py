"""Removal of what a process left behind that was killed after its run had completed."""

from pathlib import Path

from nfrepro.runs.lock import LOCK, RunLocked, hold_lock
from nfrepro.runs.progress import PROGRESS

# Checkpoints, reports of progress, and files that were not written to the end.
LEFT_BEHIND = ("checkpoint-*.pt", PROGRESS, ".*.tmp", ".*.csv")


def tidy(folder: Path) -> None:
    """Removes what is left behind in the folder of a run that is done, unless somebody is at it."""
    if not any(path for pattern in LEFT_BEHIND for path in folder.glob(pattern)) and not (folder / LOCK).exists():
        return
    try:
        with hold_lock(folder):
            for pattern in LEFT_BEHIND:
                for path in folder.glob(pattern):
                    if not path.name.startswith(f".{LOCK}."):
                        path.unlink(missing_ok=True)
    except RunLocked:
        return
