"""Files whose checksum is known in advance. No torch."""

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from nfrepro import atomic
from nfrepro.errors import InputError

# No file with a known checksum is larger; keeps a forged .gz from filling the memory.
MAX_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Checksum:
    """Digest of a file's uncompressed content. `algorithm`: as in hashlib."""

    algorithm: str
    digest: str


def read_verified(path: Path, expected: Checksum) -> bytearray:
    """Reads `path`, decompressed if its name ends in `.gz`.

    Raises InputError, naming the file, if it cannot be read or its content is not as expected.
    """
    content = bytearray()
    digest = hashlib.new(expected.algorithm, usedforsecurity=False)
    try:
        with os.fdopen(atomic.open_to_read(path), "rb") as stored, _uncompressed(stored, path) as file:
            while len(content) <= MAX_BYTES and (chunk := file.read(CHUNK_BYTES)):
                digest.update(chunk)
                content += chunk
        found = digest.hexdigest()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        found = "damaged gzip"
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): make it readable or delete it") from None
    if found != expected.digest:
        raise InputError(
            f"{path}: truncated or altered (expected {expected.algorithm} {expected.digest}, found {found}): "
            "delete it and run again"
        )
    return content


def _uncompressed(stored: BinaryIO, path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile(fileobj=stored)) if path.suffix == ".gz" else stored
