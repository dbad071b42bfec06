"""The current fingerprint of a data set, computed once per state of its files. No torch unless it is computed."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from nfrepro import atomic
from nfrepro.data.catalog import SOURCES, MadeSource, StreamedSource
from nfrepro.data.location import find, is_here
from nfrepro.data.options import AugmentationOptions, DataOptions
from nfrepro.errors import InputError

# Larger data sets take seconds to list, or to read.
MOST_FILES = 100_000
MOST_BYTES = 256 * 2**20
REMEMBERED = 100
# Folders of a data set that hold its files, if these are not directly in its folder.
PARTS = ("train", "test", "val", "cifar-10-batches-py")


class TooLarge(Exception):
    """The data set has too many files, or bytes, for a quick check."""


def todays_fingerprint(options: DataOptions, memory: Path) -> str | None:
    """The fingerprint that data loaded with `options` would have now; None for data without files, or not here.

    The file `memory` caches it while the names, sizes and times of the files stay the same. Raises `TooLarge`, and
    `InputError` if the data can no longer be loaded.
    """
    source = SOURCES[type(options)]
    if isinstance(source, MadeSource) or not is_here(options):
        return None
    key = _key(options, find(source.files(options)), None if isinstance(source, StreamedSource) else MOST_BYTES)
    known = _read(memory)
    if key not in known:
        from nfrepro.data.sources import load

        known[key] = load(options).fingerprint
        with contextlib.suppress(OSError):
            newest = dict(list(known.items())[-REMEMBERED:])
            atomic.write_text(memory, json.dumps(newest, indent=1) + "\n")
    return known[key]


def title(options: DataOptions) -> str:
    """The name of a data set as shown to users."""
    source = SOURCES[type(options)]
    return options.name if isinstance(source, MadeSource) else source.files(options).title


def _key(options: DataOptions, place: Path, most_bytes: int | None) -> str:
    """A hash of everything that the fingerprint may depend on, computed without opening a file."""
    chosen = options.model_dump(mode="json", exclude=set(AugmentationOptions.model_fields))
    digest = hashlib.sha256(json.dumps([chosen, str(place.resolve())], sort_keys=True).encode())
    total = 0
    for count, entry in enumerate(_files(place)):
        seen = entry.stat()
        total += seen.st_size
        if count >= MOST_FILES or (most_bytes is not None and total > most_bytes):
            raise TooLarge
        digest.update(os.fsencode(entry.path) + f"\0{seen.st_size} {seen.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _files(place: Path) -> Iterator[os.DirEntry[str]]:
    """The files in `place` itself, and all files in its `PARTS`; hidden ones are not part of a data set."""
    folders = [place, *(place / part for part in PARTS if (place / part).is_dir())]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder}: cannot be read ({error.strerror or error}): make it readable") from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_file():
                yield entry
            elif folder != place and entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))


def _read(memory: Path) -> dict[str, str]:
    """The fingerprints in the file `memory`; empty if it is missing or damaged."""
    try:
        known = json.loads(atomic.read_bytes(memory))
    except (OSError, ValueError):
        return {}
    valid = isinstance(known, dict) and all(isinstance(value, str) for value in known.values())
    return known if valid else {}
