"""Files of weights that are not what they seem, told before they are read."""

import stat
import zipfile
from pathlib import Path

from nfrepro.errors import InputError

# Refused before reading: twenty times the weights of the largest network that the authors released.
MAX_BYTES = 32 * 2**30


def is_pickled(path: Path) -> bool:
    """Whether `path` is a pickle, bare (whatever its ending), or an archive with one in place of an array."""
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # An array of objects says so in its header, '|O', and is a pickle from there on.
        return any(b"'descr': '|O'" in _head(archive, name) for name in archive.namelist())


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        return member.read(256)


def require_regular_file(path: Path) -> None:
    """Raise InputError for a named pipe, which would never end, and for a file that would fill the memory."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is not a regular file")
    if found.st_size > MAX_BYTES:
        raise InputError(f"{path}: {found.st_size:,} bytes, more than any weights: the limit is {MAX_BYTES:,}")


def require_bounded_archive(path: Path) -> None:
    """Raise InputError for a small archive that unpacks to a huge one."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes unpacked, more than any weights: the limit is {MAX_BYTES:,}")
