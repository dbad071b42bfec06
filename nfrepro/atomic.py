"""Atomic file writes: a file is complete or not there. Every package may import this; no torch."""

import errno
import fcntl
import math
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Age after which a temporary file counts as abandoned, by the result of `_lock`. A live writer locks its file at once.
SECONDS_UNTIL_LEFT: dict[bool | None, float] = {True: 2.0, False: math.inf, None: 3600.0}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds `path` to an `OSError` of the block that names no file, as for an open file or a full disk."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | bytes):
            error.filename = str(path)
        raise


def open_to_read(path: Path) -> int:
    """Opens the regular file `path`; returns its descriptor. Raises `OSError` otherwise; never waits on a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path) -> bytes:
    """The content of the regular file `path`. Raises `OSError` like `open_to_read`."""
    with os.fdopen(open_to_read(path), "rb") as file, naming(path):
        return file.read()


def read_text(path: Path) -> str:
    """The UTF-8 text of the regular file `path`. Raises `OSError` like `open_to_read`, and `UnicodeDecodeError`."""
    return read_bytes(path).decode("utf-8")


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes `content` to `path` through a temporary file in the same folder, fsync and rename.

    Readers see the old file or the new one, never a partial one, even after a crash or on a full disk. On `OSError`
    the temporary file is removed and the old file is untouched. `durable=False` is faster, but not safe in a crash.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    _lock(descriptor)
    try:
        with os.fdopen(descriptor, "wb") as file, naming(path):
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)  # before the file is closed, which would unlock it
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Like `write_bytes`, for UTF-8 text; escapes what cannot be encoded, such as file names that are not UTF-8."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), durable)


def remove_half_written(path: Path) -> None:
    """Removes the temporary files of `path` whose writers were killed; those of live writers are locked, and stay.

    On a file system without locks, removes temporary files that are over an hour old.
    """
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            descriptor = open_to_read(temporary)
        except OSError:  # already gone
            continue
        if time.time() - os.fstat(descriptor).st_mtime > SECONDS_UNTIL_LEFT[_lock(descriptor)]:
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Tries to lock: True if locked, False if another process holds the lock, None if there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, if the file system allows syncing a folder."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
