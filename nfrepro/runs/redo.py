"""Redoing a run that is stored: the result stays where it is until the new one is complete.

The file `results/runs/.redo/<run id>.asked` asks for it. The run then executes in `results/runs/.redo/<run id>/`; its
lock, marks and progress stay in its own folder. The new result counts from the moment at which its record there says
that it is done. It is moved over by the process that executed the run, and if that was killed, by the next sweep.
"""

import fnmatch
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nfrepro.errors import InputError
from nfrepro.runs import progress, store
from nfrepro.runs.cancellation import CANCEL
from nfrepro.runs.files import REDO
from nfrepro.runs.lock import LOCK, RunLocked, hold_lock, is_locked
from nfrepro.specs import Run

ASKED = ".asked"


def redo_folder(folder: Path) -> Path:
    """The folder in which the run of `folder` is redone, if that was asked for."""
    return folder.parent / REDO / folder.name


def is_requested(folder: Path) -> bool:
    """Whether the run of `folder` is to be redone, or has been and is not moved over yet."""
    return _asked(folder).exists() or (redo_folder(folder) / store.RECORD).exists()


def work_folder(folder: Path) -> Path:
    """Where the run of `folder` executes: there, or where it is redone."""
    return redo_folder(folder) if is_requested(folder) else folder


def read_work(results: Path, run: Run) -> store.Stored:
    """The state of the execution that a sweep cares about: of the redo where one is asked for, else of the run."""
    folder = store.run_folder(results, run)
    return store.read(folder, run, work_folder(folder))


def find(results: Path, runs: Sequence[Run], pattern: str) -> list[Run]:
    """Those of `runs` that are stored and whose id matches the shell-style `pattern`.

    Raises `InputError` where the pattern matches no run, or one that is being executed.
    """
    matching = [run for run in runs if fnmatch.fnmatchcase(run.id, pattern)]
    if not matching:
        raise InputError(f"--force {pattern!r} matches none of the {len(runs)} runs")
    stored = [run for run in matching if store.run_folder(results, run).exists()]
    for run in stored:
        if is_locked(store.run_folder(results, run)):
            raise _in_use(run)
    return stored


def request(results: Path, run: Run) -> None:
    """Asks for a redo of `run`, which is stored; one that was interrupted goes on. Raises `InputError` as `find`."""
    folder = store.run_folder(results, run)
    try:
        with hold_lock(folder):
            _begin(folder)
    except RunLocked:
        raise _in_use(run) from None


def _in_use(run: Run) -> InputError:
    return InputError(f"--force: run {run.id} is being executed: stop it first")


def give_up(folder: Path) -> None:
    """Forgets that a redo was asked for, and what there is of it. For the holder of the lock."""
    _asked(folder).unlink(missing_ok=True)
    if redo_folder(folder).is_dir():
        store.remove(redo_folder(folder))


def finish(results: Path, runs: Sequence[Run]) -> None:
    """Moves over the complete redos of `runs` that a killed process left."""
    for run in runs:
        folder = store.run_folder(results, run)
        if is_requested(folder) and read_work(results, run).state in store.DONE:
            with suppress(RunLocked), hold_lock(folder):
                install(folder)


def install(folder: Path) -> None:
    """Replaces the stored result by its complete redo. For the holder of the lock; a kill leaves it to be repeated."""
    redo = redo_folder(folder)
    if not is_requested(folder):
        return
    _asked(folder).unlink(missing_ok=True)  # from here on the record in there says so
    if (folder / store.RECORD).exists():  # else the new files have begun to arrive
        for path in folder.iterdir():
            if not (redo / path.name).exists() and not _is_about_execution(path.name):
                _remove(path)
        (folder / store.RECORD).unlink()
    for path in sorted(redo.iterdir(), key=lambda path: path.name == store.RECORD):
        os.replace(path, folder / path.name)
    redo.rmdir()


def _begin(folder: Path) -> None:
    redo = redo_folder(folder)
    if is_requested(folder):
        state = _state(redo)
        if state in store.DONE:
            install(folder)
        elif state == "failed":
            store.remove(redo)
    redo.mkdir(parents=True, exist_ok=True)
    _asked(folder).touch()


def _asked(folder: Path) -> Path:
    return folder.parent / REDO / f"{folder.name}{ASKED}"


def _state(redo: Path) -> store.State:
    """One whose record is damaged has failed."""
    try:
        return store.read(redo).state
    except InputError:
        return "failed"


def _is_about_execution(name: str) -> bool:
    return name in (LOCK, progress.PROGRESS) or name.startswith((f".{LOCK}.", f"{CANCEL}-"))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
