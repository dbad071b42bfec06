"""An exclusive lock on a run's folder: if two sweeps start at once, one executes the run and the other leaves it alone.

The lock is the file `claim`, created whole by a hard link, which on every shared file system only one process can do.
It names its holder. Two signs tell whether the holder is alive:

- flock on the file. The system drops it when the process ends, however it ends, so within one machine no lock is ever
  stale. But on some shared file systems flock is local to each machine, and on some it does not exist.
- the heartbeat: the holder touches the file every few seconds. From another machine a lock counts as dead after two
  minutes without a heartbeat, by the clock of the file system. A heartbeat two minutes in the future also counts as
  none: that clock has been set back since.

A holder that was frozen or cut off for that long may find its lock taken when it wakes up. `RunLock.check` detects
this, and must precede every write that counts.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from nfrepro import atomic

LOCK = "claim"
SECONDS_BETWEEN_BEATS = 10.0
SECONDS_UNTIL_DEAD = 120.0
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class RunLocked(Exception):
    """Another process is executing this run."""


class LockLost(Exception):
    """This process was taken for dead, and another may be executing its run."""


@dataclass(frozen=True)
class Holder:
    """The holder of a lock; fields other than `machine` and `job` are only for display."""

    machine: str  # id of one boot, within which flock is reliable
    host: str
    process: int
    job: str | None  # the scheduler's id, if there is a scheduler
    since: float


# dead: flock shows that its process has ended; silent: flock shows nothing, and no heartbeat came for two minutes.
Liveness = Literal["alive", "silent", "dead"]


@dataclass(frozen=True)
class LockInfo:
    """A lock as other processes see it."""

    life: Liveness
    holder: Holder | None  # None if it cannot be read


class RunLock:
    """A lock held by this process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._lost = threading.Event()
        self._released = threading.Event()
        threading.Thread(target=self._beat_on, daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken the lock, as of the last heartbeat."""
        return self._lost.is_set()

    def check(self) -> None:
        """Return if the lock is still held. Raises `LockLost` if not, and `OSError` if that cannot be determined."""
        try:
            with atomic.naming(self._path):
                os.utime(self._descriptor)  # first: a process about to take it sees that this one is alive
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            self._lost.set()
        if not _is_still(self._path, self._descriptor):
            self._lost.set()
        if self.lost:
            raise LockLost(str(self._path))

    def release(self) -> None:
        """Release the lock, if it is still held."""
        self._released.set()
        try:
            if _is_still(self._path, self._descriptor):
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _beat_on(self) -> None:
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            # A file system that fails now may be back at the next beat.
            with contextlib.suppress(OSError):
                try:
                    self.check()
                except LockLost:
                    return


@contextmanager
def hold_lock(folder: Path) -> Iterator[RunLock]:
    """Hold the lock on the existing `folder` for the duration of the block.

    Raises `RunLocked` at once if it is taken, naming the holder.
    """
    path = folder / LOCK
    with atomic.naming(path):
        held = RunLock(path, _take(path))
    try:
        yield held
    finally:
        held.release()


def is_locked(folder: Path) -> bool:
    """Whether a living process holds the lock on `folder`. Writes nothing."""
    seen = read_lock(folder)
    return seen is not None and seen.life == "alive"


def read_lock(folder: Path) -> LockInfo | None:
    """The lock on `folder` as seen from here; None if there is none. Writes nothing."""
    path = folder / LOCK
    try:
        descriptor = atomic.open_to_read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with atomic.naming(path):
            return LockInfo(_life(descriptor, fcntl.LOCK_SH, time.time()), _parse(os.pread(descriptor, 4096, 0)))
    finally:
        os.close(descriptor)


def holder(folder: Path) -> Holder | None:
    """The present or last holder of the lock on `folder`; None if there is no readable lock."""
    try:
        return _parse(atomic.read_bytes(folder / LOCK))
    except OSError:
        return None


def scheduler_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """The scheduler's id of the job that a process with this environment belongs to; requeueing does not change it."""
    array = environment.get("SLURM_ARRAY_JOB_ID")
    # Not SLURM_JOB_ID: in one of an array's jobs, that is the id of the whole array.
    return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment.get("SLURM_JOB_ID")


def remove_unfinished(folder: Path) -> None:
    """Remove files of processes that were killed while taking the lock. Call it with the lock held.

    A live process that is just taking the lock starts again, and finds it taken.
    """
    for pattern in (f".{LOCK}.*.tmp", f".{LOCK}.*.old"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def _take(path: Path) -> int:
    """Takes the lock; returns its descriptor once it is written, locked and in place. Raises `RunLocked`."""
    while (descriptor := _try_to_take(path)) is None:
        pass
    return descriptor


def _try_to_take(path: Path) -> int | None:
    """Like `_take`, but returns None if the holder of the lock removed the new file before it was in place."""
    _clear(path)
    temporary = path.with_name(f".{LOCK}.{uuid.uuid4().hex}.tmp")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, json.dumps(asdict(_this_process())).encode())
        os.fsync(descriptor)
        _lock(descriptor, fcntl.LOCK_EX)
        while True:
            try:
                os.link(temporary, path)
                return descriptor
            except FileExistsError:
                if _is_still(path, descriptor):  # linked, but the server's answer was lost on the way
                    return descriptor
                _clear(path)
            except FileNotFoundError:
                os.close(descriptor)
                return None
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove a dead lock, if there is one. Raises `RunLocked` if it is alive."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        beaten, now = os.fstat(descriptor).st_mtime_ns, _file_system_time(path.parent)
        if _life(descriptor, fcntl.LOCK_EX, now) == "alive":
            raise RunLocked(_who(path, _parse(os.pread(descriptor, 4096, 0)), now - beaten / 1e9))
        if _is_still(path, descriptor):
            _remove(path, descriptor, beaten)
    finally:
        os.close(descriptor)


def _remove(path: Path, descriptor: int, beaten: int) -> None:
    """Remove the dead lock at `path`, unless it has come to life or been replaced from another machine."""
    aside = path.with_name(f".{LOCK}.{uuid.uuid4().hex}.old")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        moved = os.stat(aside)
    except FileNotFoundError:  # another process has taken the lock since, and tidied up
        raise RunLocked(f"another process ({path})") from None
    try:
        if not os.path.samestat(moved, os.fstat(descriptor)) or moved.st_mtime_ns != beaten:
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)  # put it back
            raise RunLocked(f"another process ({path})")
    finally:
        aside.unlink(missing_ok=True)


def _life(descriptor: int, operation: int, now: float) -> Liveness:
    """Whether the holder of an open lock is alive: by flock if that is conclusive, otherwise by the heartbeat."""
    locked = _lock(descriptor, operation)
    if locked is False:
        return "alive"
    found = _parse(os.pread(descriptor, 4096, 0))
    if locked and found is not None and found.machine == _machine():
        return "dead"
    return "alive" if abs(now - os.fstat(descriptor).st_mtime) < SECONDS_UNTIL_DEAD else "silent"


def _who(path: Path, found: Holder | None, age: float) -> str:
    """`process 12 on host-3 (results/runs/…/claim, last sign of life 4 s ago)`"""
    name = "unknown" if found is None else f"process {found.process} on {found.host}"
    return f"{name} ({path}, last sign of life {max(0.0, age):.0f} s ago)"


def _lock(descriptor: int, operation: int) -> bool | None:
    """Tries to lock: True if locked, False if another process holds the lock, None if there is no flock here."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether `path` is still that open file. Opens it, since a network file system may cache an old answer to stat."""
    try:
        there = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return os.path.samestat(os.fstat(there), os.fstat(descriptor))
    finally:
        os.close(there)


def _file_system_time(folder: Path) -> float:
    """The current time of the clock that dates the heartbeats."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _this_process() -> Holder:
    return Holder(_machine(), socket.gethostname(), os.getpid(), scheduler_job(), time.time())


@lru_cache(maxsize=1)
def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def _parse(content: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None
