"""An exclusive claim on a run's folder: of two sweeps started at once, one executes the run and the other leaves it.

The claim is a lock on the file `claim`, held by the process that executes the run. The system drops it when that
process ends, however it ends, so that no claim is ever stale. What is written in the file is for people.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLAIM = "claim"


class Claimed(Exception):
    """Somebody else is executing this run."""


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Holds the claim on `folder`, which exists, for the time of the block. Raises `Claimed` at once if it is taken."""
    path = folder / CLAIM
    descriptor = _lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"process": os.getpid(), "since": time.time()}).encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def is_claimed(folder: Path) -> bool:
    """Whether a living process holds the claim on `folder`."""
    try:
        descriptor = os.open(folder / CLAIM, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Claimed(str(path)) from None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # its former holder removed it meanwhile: lock the file that is there now


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
