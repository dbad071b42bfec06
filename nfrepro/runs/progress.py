"""Progress of a run, shared with other processes and machines in `progress.json` in its folder. Not a result."""

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from nfrepro import atomic

PROGRESS = "progress.json"
SECONDS_BETWEEN_WRITES = 2.0


@dataclass(frozen=True)
class StoredProgress:
    """The last progress that a run reported."""

    step: int  # in units of the task, e.g. optimiser steps
    steps: int
    rate: float | None  # steps per second of this execution, including everything between them; None: not known yet
    text: str


class Writer:
    """Writes the file of one execution; ignores a full or failing disk, which is no reason to stop a run here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: tuple[float, int] | None = None  # time and step
        self.written = 0.0

    def note(self, step: int, steps: int, text: str) -> None:
        """Writes the progress, unless it was written a moment ago."""
        now = time.monotonic()
        if self.first is None:
            self.first = (now, step)
        elif now - self.written < SECONDS_BETWEEN_WRITES:
            return
        started, first_step = self.first
        rate = (step - first_step) / (now - started) if step > first_step else None
        with contextlib.suppress(OSError):
            content = json.dumps(asdict(StoredProgress(step, steps, rate, text)))
            atomic.write_text(self.folder / PROGRESS, content + "\n", durable=False)
        self.written = now


def read(folder: Path) -> StoredProgress | None:
    """The stored progress in `folder`; None if there is none, or if it cannot be read."""
    try:
        found = StoredProgress(**json.loads(atomic.read_bytes(folder / PROGRESS)))
        valid = (
            0 <= found.step <= found.steps and (found.rate is None or found.rate > 0) and isinstance(found.text, str)
        )
    except (OSError, ValueError, TypeError):
        return None
    return found if valid else None


def remove(folder: Path) -> None:
    """Removes the progress of a finished run."""
    (folder / PROGRESS).unlink(missing_ok=True)
