"""Stored runs that no experiment has: found, and removed."""

import csv
import io
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nfrepro import atomic
from nfrepro.errors import InputError
from nfrepro.runs import redo, store
from nfrepro.runs.lock import RunLocked, hold_lock, is_locked


@dataclass(frozen=True)
class Unused:
    """A stored run that no experiment has."""

    folder: Path
    size: int  # bytes
    tables: tuple[Path, ...]  # that list it: of sweeps with overrides, or of a former version of an experiment
    is_locked: bool  # it is being executed


def find(results: Path, ids: Collection[str]) -> list[Unused]:
    """The stored runs that are not among `ids`. Raises `InputError` if a run's folder is a link."""
    store_folder = store.runs_folder(results)
    folders = sorted(path for path in store_folder.glob("*") if path.is_dir() and not path.name.startswith("."))
    for folder in folders:
        store.refuse_link(folder)  # before anything behind it is read or locked
    listed = tables_by_run(results)
    return [
        Unused(folder, _size(folder), tuple(listed.get(folder.name, ())), is_locked(folder))
        for folder in folders
        if folder.name not in ids
    ]


def remove(unused: Unused) -> bool:
    """Removes the run and the remains of its redo. Returns False if it is being executed by now."""
    with suppress(RunLocked), hold_lock(unused.folder):
        redo.give_up(unused.folder)
        store.remove(unused.folder)
        return True
    return False


def tables_by_run(results: Path) -> dict[str, list[Path]]:
    """The tables of all experiments, scales and overrides, by run id. Raises `InputError` if one cannot be read."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(results.glob("*/*/runs*.csv")):
        try:
            text = atomic.read_bytes(path).decode("utf-8", errors="replace")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error}): move it away") from None
        for row in csv.DictReader(io.StringIO(text, newline="")):
            found[row.get("id") or ""].append(path)
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
