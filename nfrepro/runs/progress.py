"""How far a run is, told to other processes and machines by `progress.json` in its folder. Not a result."""

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
    """Progress as a run reported it last."""

    step: int  # in units of the task, say optimiser steps
    steps: int
    rate: float | None  # steps a second of this execution, all that is between them included; None: not known yet
    text: str


class Writer:
    """Keeps the file of one execution; a disk that is full, or fails, is no reason to stop a run for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: tuple[float, int] | None = None  # time and step
        self.written = 0.0

    def note(self, step: int, steps: int, text: str) -> None:
        """Writes, unless it has just written."""
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
    """None where there is none, or none that can be read."""
    try:
        found = StoredProgress(**json.loads(atomic.read_bytes(folder / PROGRESS)))
        valid = (
            0 <= found.step <= found.steps and (found.rate is None or found.rate > 0) and isinstance(found.text, str)
        )
    except (OSError, ValueError, TypeError):
        return None
    return found if valid else None


def remove(folder: Path) -> None:
    """For a run that is done."""
    (folder / PROGRESS).unlink(missing_ok=True)
