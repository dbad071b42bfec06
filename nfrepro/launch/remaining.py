"""Runs of a sweep that are left to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nfrepro.runs import old_layout, redo, store
from nfrepro.specs import Run


@dataclass(frozen=True)
class Remaining:
    """The runs of a sweep, by what will happen to them."""

    execute: tuple[Run, ...]
    done: tuple[Run, ...]
    failed: tuple[Run, ...]  # failed before, and not to be retried


def find_remaining(runs: Sequence[Run], results: Path, retry: bool) -> Remaining:
    """Sorts `runs`: skip finished ones, continue interrupted ones, repeat failed ones only with `retry`.

    Raises `InputError` if a stored record is damaged or belongs to another config: then nothing starts.
    """
    old_layout.refuse(results, runs[0])
    execute, done, failed = [], [], []
    for run in runs:
        stored = redo.read_work(results, run)
        store.check_config(stored.folder, run)
        state, is_redo = stored.state, stored.folder != store.run_folder(results, run)
        if state in store.DONE and not is_redo:  # a complete redo still has to be moved into place
            done.append(run)
        elif state == "failed" and not retry:
            failed.append(run)
        else:
            execute.append(run)
    return Remaining(tuple(execute), tuple(done), tuple(failed))
