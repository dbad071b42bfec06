"""Checks for harmful weight files before they are read: pickles, special files and oversized archives."""

import stat
import zipfile
from pathlib import Path

from nfrepro.errors import InputError

# Larger files are refused before reading: twenty times the weights of the largest network that the authors released.
MAX_BYTES = 32 * 2**30


def is_pickled(path: Path) -> bool:
    """Whether `path` is a bare pickle, with any suffix, or an archive with a pickle in place of an array."""
    with path.open("rb") as file:
        if file.read(1) == b"\x80":
            return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        # An array of objects has '|O' in its header, and is a pickle after the header.
        return any(b"'descr': '|O'" in _head(archive, name) for name in archive.namelist())


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        return member.read(256)


def require_regular_file(path: Path) -> None:
    """Raise InputError for a missing file, a named pipe (which never ends), or a file that would fill the memory."""
    try:
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is not a regular file")
    if found.st_size > MAX_BYTES:
        raise InputError(f"{path}: {found.st_size:,} bytes, too large for weights: the limit is {MAX_BYTES:,}")


def require_bounded_archive(path: Path) -> None:
    """Raise InputError for an archive whose unpacked content is too large."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes unpacked, too large for weights: the limit is {MAX_BYTES:,}")
