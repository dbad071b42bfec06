"""Redoes a stored run: the old result stays in place until the new one is complete.

The file `results/runs/.redo/<run id>.asked` requests it. The run then executes in `results/runs/.redo/<run id>/`; its
lock, marks and progress stay in the run's folder. The new result counts as soon as its record there says that it is
done. The process that executed the run moves it into place; if that was killed, the next sweep does.
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
    """The folder in which the run of `folder` is redone, if that was requested."""
    return folder.parent / REDO / folder.name


def is_requested(folder: Path) -> bool:
    """Whether the run of `folder` is to be redone, or has been but is not yet moved into place."""
    return _asked(folder).exists() or (redo_folder(folder) / store.RECORD).exists()


def work_folder(folder: Path) -> Path:
    """The folder in which the run of `folder` executes: `folder` itself, or the one for its redo."""
    return redo_folder(folder) if is_requested(folder) else folder


def read_work(results: Path, run: Run) -> store.Stored:
    """The state of the execution that matters to a sweep: of the redo if one is requested, else of the run."""
    folder = store.run_folder(results, run)
    return store.read(folder, run, work_folder(folder))


def find(results: Path, runs: Sequence[Run], pattern: str) -> list[Run]:
    """The stored runs among `runs` whose ids match the shell-style `pattern`.

    Raises `InputError` if the pattern matches no run, or one that is being executed.
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
    """Requests a redo of the stored `run`; continues an interrupted one. Raises `InputError` if `run` is in use."""
    folder = store.run_folder(results, run)
    try:
        with hold_lock(folder):
            _begin(folder)
    except RunLocked:
        raise _in_use(run) from None


def _in_use(run: Run) -> InputError:
    return InputError(f"--force: run {run.id} is being executed: stop it first")


def give_up(folder: Path) -> None:
    """Withdraws the request for a redo, and removes its files. Call it with the lock held."""
    _asked(folder).unlink(missing_ok=True)
    if redo_folder(folder).is_dir():
        store.remove(redo_folder(folder))


def finish(results: Path, runs: Sequence[Run]) -> None:
    """Moves complete redos of `runs` into place, if the processes that executed them were killed."""
    for run in runs:
        folder = store.run_folder(results, run)
        if is_requested(folder) and read_work(results, run).state in store.DONE:
            with suppress(RunLocked), hold_lock(folder):
                install(folder)


def install(folder: Path) -> None:
    """Replaces the stored result by its complete redo. Call it with the lock held; after a kill it can be repeated."""
    redo = redo_folder(folder)
    if not is_requested(folder):
        return
    _asked(folder).unlink(missing_ok=True)  # from here on the record of the redo is the request
    if (folder / store.RECORD).exists():  # otherwise the new files have started to arrive
        for path in folder.iterdir():
            if not (redo / path.name).exists() and not _is_about_execution(path.name):
                _remove(path)
        (folder / store.RECORD).unlink()
    for path in sorted(redo.iterdir(), key=lambda path: path.name == store.RECORD):
        if path.is_dir() or (folder / path.name).is_dir():  # os.replace does not exchange folders
            _remove(folder / path.name)
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
    """The state of a redo; one with a damaged record has failed."""
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
