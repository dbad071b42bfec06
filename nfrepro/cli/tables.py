"""The table of a sweep, runs.csv."""

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path

from nfrepro.specs import Run


def write_table(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None) -> Path:
    """Writes the table of `runs` and returns its path; with overrides, a separate table that replaces no other."""
    path, left_over = collect_table(runs, results, overrides)
    if left_over and not overrides:
        print(f"{left_over} stored runs are not part of the experiment as it is now: marked in_experiment = False")
    print(f"table: {path}")
    return path


def collect_table(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None = None) -> tuple[Path, int]:
    """Writes the table silently; returns its path, and how many stored runs are no longer in the experiment."""
    from nfrepro.runs import old_layout, redo, store
    from nfrepro.runs import table as collection

    old_layout.refuse(results, runs[0])
    redo.finish(results, runs)
    if runs[0].scale != store.UNKEPT_SCALE:
        for run in runs:
            store.show_to_git(store.run_folder(results, run))
    experiment, scale = runs[0].experiment, runs[0].scale
    table = collection.collect(results, experiment, scale, runs, overrides or ())
    path = collection.write_table(collection.table_path(results, experiment, scale, overrides or ()), table)
    return path, int((~table["in_experiment"]).sum())


def tables_to_collect(runs: Sequence[Run], results: Path, pattern: str, own: Path) -> Iterator[str]:
    """Lines on other tables with runs that were redone, which still show their old numbers."""
    from nfrepro.runs.pruning import tables_by_run

    listed = tables_by_run(results)
    redone = [run.id for run in runs if fnmatch.fnmatchcase(run.id, pattern)]
    for path in sorted({path for name in redone for path in listed.get(name, ())} - {own}):
        yield f"redone runs are in {path} too: nfrepro collect {path.parts[-3]} --scale {path.parts[-2]}"
