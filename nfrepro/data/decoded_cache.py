"""Decoded images cached in one file, so that one process decodes a folder for all. No torch at import."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FOLDER = ".nfrepro"  # in the folder of the images: hidden, and so not part of the data set
VERSION = 1  # of the decoding: a new version uses new files


def decoded(folder: Path, paths: Sequence[Path], how: str, decode: Callable[[], Pixels]) -> Pixels:
    """The images `paths` below `folder` as `decode` returns them, uint8; from a cache file if they were decoded before.

    The file is memory-mapped, so processes share it. Its name is a hash of the names, sizes and times of the images and
    of `how` they are decoded. A damaged file is rewritten. If it cannot be written, images are decoded each time.
    """
    cache = folder / FOLDER / f"{_key(folder, paths, how)}.npy"
    found = _read(cache, len(paths))
    if found is not None:
        return found
    images = decode()
    with contextlib.suppress(OSError):
        _write(cache, images)
    return images


def _key(folder: Path, paths: Sequence[Path], how: str) -> str:
    digest = hashlib.sha256(f"{VERSION} {how}\n".encode())
    for path in paths:
        seen = path.stat()
        digest.update(os.fsencode(path.relative_to(folder)) + f"\0{seen.st_size} {seen.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _read(cache: Path, count: int) -> Pixels | None:
    """The cached images; None if there is no valid file with `count` images."""
    try:
        if not cache.is_file():
            return None
        # Copy on write: torch does not accept read-only memory, and nothing is ever written.
        found: Pixels = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.uint8 and found.ndim == 4 and len(found) == count else None


def _write(cache: Path, images: Pixels) -> None:
    """Writes atomically: processes that decode at the same time write separate files, and the last one is kept."""
    cache.parent.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=cache.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, images)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, cache)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
