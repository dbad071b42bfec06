"""The mark `cancel` in a run's folder: nobody begins this run, and whoever is at it saves and stops at its next step.

It works for every executor, also where several runs share a job. It goes when a later sweep takes the run up again.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

CANCEL = "cancel"
SECONDS_BETWEEN_LOOKS = 1.0


def mark(folder: Path) -> None:
    """Cancels the run of `folder`, which may not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CANCEL).touch()


def is_cancelled(folder: Path) -> bool:
    """Whether the mark is there; where the file system fails, it is not seen."""
    return os.path.exists(folder / CANCEL)


def lift(folder: Path) -> None:
    """Removes the mark, if there is one."""
    (folder / CANCEL).unlink(missing_ok=True)


def watched(folder: Path) -> Callable[[], bool]:
    """`is_cancelled`, to be called at every step: looks once a second."""
    looked, found = time.monotonic(), False

    def look() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if not found and now - looked >= SECONDS_BETWEEN_LOOKS:
            looked, found = now, is_cancelled(folder)
        return found

    return look
