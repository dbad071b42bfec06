"""Moves runs of the old layout, `results/<experiment>/<scale>/<run id>/`, into the one store of runs."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nfrepro.errors import InputError
from nfrepro.runs import store
from nfrepro.runs.final_numbers import without_speed
from nfrepro.runs.lock import is_locked
from nfrepro.specs import Run


@dataclass(frozen=True)
class Moved:
    """The outcome for each of the folders."""

    moved: tuple[Path, ...]  # their old paths
    dropped: tuple[Path, ...]  # the same run with the same result is in the store
    left: tuple[Path, ...]  # the same run with another result is in the store: the user has to choose


def find(results: Path) -> list[Path]:
    """The folders of runs in the old layout, below an experiment and a scale."""
    folders = (path.parent for path in results.glob(f"*/*/*/{store.RECORD}"))
    return sorted(folder for folder in folders if folder.parents[1].name != store.RUNS)


def refuse(results: Path, run: Run) -> None:
    """Raises `InputError` if runs of the sweep of `run` are in the old layout, where they would not be found."""
    folder = store.scale_folder(results, run.experiment, run.scale)
    if count := sum(1 for _ in folder.glob(f"*/{store.RECORD}")):
        runs = "a run, which belongs" if count == 1 else f"{count} runs, which belong"
        raise InputError(f"{folder} has {runs} in {store.runs_folder(results)}: run `nfrepro migrate`")


def move(results: Path) -> Moved:
    """Moves all runs. If a run has several copies, the finished one that started first is kept, or else the first.

    A copy is removed only if the one that is kept makes it redundant. Raises `InputError`, before anything is moved,
    for a damaged record and for a run that is being executed.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for folder in find(results):
        if is_locked(folder):
            raise InputError(f"{folder}: is being executed: stop it first")
        found[folder.name].append(folder)
    records = {folder: _record(folder) for folders in found.values() for folder in folders}
    store.runs_folder(results).mkdir(parents=True, exist_ok=True)
    moved, dropped, left = [], [], []
    for name, folders in found.items():
        target = store.runs_folder(results) / name
        for folder in sorted(folders, key=lambda folder: _rank(records[folder])):
            if not target.exists():
                folder.rename(target)
                moved.append(folder)
            elif _says_the_same(_record(target), records[folder]):
                store.remove(folder)
                dropped.append(folder)
            else:
                left.append(folder)
    return Moved(tuple(moved), tuple(dropped), tuple(left))


def _record(folder: Path) -> dict[str, Any]:
    record = store.read_record(folder)
    if record is None:
        raise InputError(f"{folder}: no {store.RECORD}: move it away")
    return record


def _rank(record: dict[str, Any]) -> tuple[bool, str]:
    return record["status"] not in store.DONE, str(record.get("started"))


def _says_the_same(kept: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether `kept` makes `other` redundant: it has the same result, or is done while `other` is unfinished."""
    if other["status"] not in store.DONE:
        return kept["status"] in store.DONE
    same = kept["status"] == other["status"]
    return same and without_speed(kept["final"] or {}) == without_speed(other["final"] or {})
