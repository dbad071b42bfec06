"""NumPy archives of trees of arrays, described by their headers before any array is unpacked."""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nfrepro.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class StoredArray:
    """An array in an archive, with shape and type as its header declares them; `numpy.asarray` unpacks it."""

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        with _one_line_errors(self.path), np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[self.key], dtype)


StoredTree = dict[str, dict[str, StoredArray]]


def stored_trees(path: str | Path) -> tuple[StoredTree, StoredTree]:
    """`params` and `state` of a NumPy archive with keys `param/<module>/<name>` and `state/<module>/<name>`.

    Other keys are ignored. Only headers are read. Raises `InputError` for a file that is not such an archive, for an
    array of objects, and for an array whose header declares more or fewer bytes than the archive holds.
    """
    path = Path(path)
    trees: dict[str, StoredTree] = {"param": {}, "state": {}}
    with _one_line_errors(path):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{path}: one array, not an npz archive")
        with archive:
            assert archive.zip is not None  # it is open
            for key in archive.files:
                kind, _, rest = key.partition("/")
                module, _, name = rest.rpartition("/")
                if kind in trees and module and name:
                    trees[kind].setdefault(module, {})[name] = _stored_array(path, archive.zip, key)
    if not trees["param"]:
        raise InputError(f"{path}: no keys of the form param/<module>/<name>")
    return trees["param"], trees["state"]


def _stored_array(path: Path, archive: zipfile.ZipFile, key: str) -> StoredArray:
    member = archive.getinfo(key if key in archive.NameToInfo else f"{key}.npy")
    with archive.open(member) as file:
        shape, dtype = _header(file)
        declared = math.prod(shape) * dtype.itemsize
        held = member.file_size - file.tell()
    if dtype.hasobject:
        raise InputError(f"{path}: {key}: an array of objects is a pickle, which is not read")
    if declared != held:
        raise InputError(f"{path}: {key}: its header declares {declared:,} bytes, the archive holds {held:,}")
    return StoredArray(path, key, shape, dtype)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that `file` contains. Raises `ValueError` if there is none in a known format."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"format {version[0]}.{version[1]} of arrays is not supported")
    shape, _, dtype = readers[version](file)
    return shape, dtype


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turns all errors of NumPy and zipfile, for a damaged file or one that is no archive, into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as an npz archive: {reason}") from None
