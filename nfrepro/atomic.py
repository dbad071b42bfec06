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

# By what `_lock` says of a temporary file. A living writer locks its own at once after making it.
SECONDS_UNTIL_LEFT: dict[bool | None, float] = {True: 2.0, False: math.inf, None: 3600.0}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Makes an `OSError` of the block name `path` where it names no file: of an open one, or of a full disk."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | bytes):
            error.filename = str(path)
        raise


def open_to_read(path: Path) -> int:
    """A descriptor of the regular file `path`. Raises `OSError` for anything else; a named pipe is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path) -> bytes:
    """The content of the regular file `path`. Raises `OSError` as `open_to_read`."""
    with os.fdopen(open_to_read(path), "rb") as file, naming(path):
        return file.read()


def read_text(path: Path) -> str:
    """The UTF-8 text of the regular file `path`. Raises `OSError` as `open_to_read`, and `UnicodeDecodeError`."""
    return read_bytes(path).decode("utf-8")


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes `content` to `path` through a temporary file in the same folder, fsync and rename.

    A reader, a crash or a full disk sees the old file or the new one, never a part. Raises `OSError` with the
    temporary file removed; the old file is untouched. Not `durable`, and so quick, is for what a crash may cost.
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
    """`write_bytes` for UTF-8 text; what cannot be encoded, as of file names that are not UTF-8, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), durable)


def remove_half_written(path: Path) -> None:
    """Removes the temporary files of `path` whose writers were killed; those of living ones are locked, and stay.

    Where there are no locks, the temporary files of an hour ago.
    """
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            descriptor = open_to_read(temporary)
        except OSError:  # gone by now
            continue
        if time.time() - os.fstat(descriptor).st_mtime > SECONDS_UNTIL_LEFT[_lock(descriptor)]:
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """True: locked; False: somebody else has it locked; None: there are no locks here."""
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
    """Makes the rename itself durable, where the file system lets a folder be synced."""
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
