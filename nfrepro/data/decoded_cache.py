"""Decoded images kept as one file, so that one process decodes a folder for all. No torch at import."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

FOLDER = ".nfrepro"  # in the folder of the images: hidden, and so no part of the data set
VERSION = 1  # of the decoding: another one makes other files


def decoded(folder: Path, paths: Sequence[Path], how: str, decode: Callable[[], Pixels]) -> Pixels:
    """The images `paths` below `folder` as `decode` returns them, uint8; from a cache file if they were decoded before.

    The file is memory-mapped: processes share it. It is named by the names, sizes and times of the images and by `how`
    they are decoded; one that is damaged is made again. Where it cannot be written, the images are decoded each time.
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
    """The cached images; None if there is no such file, or one with another number of images."""
    try:
        if not cache.is_file():
            return None
        # Copy on write: torch takes no read-only memory, and nothing is ever written.
        found: Pixels = np.load(cache, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == np.uint8 and found.ndim == 4 and len(found) == count else None


def _write(cache: Path, images: Pixels) -> None:
    """Atomically: of several processes that decode at once each writes a file of its own, and the last one stays."""
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
