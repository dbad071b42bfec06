"""The first lines of a sweep: what is stored already, and where it comes from."""

from pathlib import Path
from typing import Any

import pytest

from nfrepro.runs import store
from nfrepro.runs.stored_results import stored_lines
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

REDO = "redo them: --force '*' (make: FORCE='*'); or in another folder: --results DIR"


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


def write(results: Path, run: Run, **changes: Any) -> None:
    record = store.description_of(run) | {
        "status": "completed",
        "finished": "2026-11-21T10:00:00+00:00",
        "final": {},
        "error": None,
        "provenance": {"git": {"sha": "0123456789", "dirty": False}, "processor": "a processor"},
    }
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    store.write_record(folder, record | changes)


def lines(results: Path, runs: list[Run], done: int, failed: int = 0) -> list[str]:
    return list(stored_lines(results, runs, runs[:done], len(runs) - done - failed, failed))


def test_nothing_or_a_part(results: Path, runs: list[Run]) -> None:
    assert lines(results, runs, 0) == ["0 of 4 runs are stored already, 4 to run"]
    write(results, runs[0])
    write(results, runs[1], experiment="figure_1")
    assert lines(results, runs, 2) == ["2 of 4 runs are stored already (figure_1: 1), 2 to run"]
    assert lines(results, runs, 2, failed=1) == [
        "2 of 4 runs are stored already (figure_1: 1), 1 to run, 1 failed before (again with --retry)"
    ]


def test_all_and_where_they_come_from(results: Path, runs: list[Run]) -> None:
    for run in runs[:3]:
        write(results, run)
    one = "3 of 3 runs are stored results of 21 Nov 2026 (commit 0123456, a processor); 0 to run"
    assert lines(results, runs[:3], 3) == [one, REDO]
    provenance = {"git": {"sha": "fedcba9876"}, "processor": "another"}
    write(results, runs[3], finished="2026-12-01T00:00:00+00:00", provenance=provenance, experiment="depth")
    assert lines(results, runs, 4) == [
        "4 of 4 runs are stored results of 21 Nov 2026 to 1 Dec 2026 "
        "(commits 0123456 and fedcba9, processors a processor and another, table_1: 1); 0 to run",
        REDO,
    ]


def test_a_record_that_knows_little(results: Path, runs: list[Run]) -> None:
    write(results, runs[0], finished=None, provenance={"git": None})
    assert lines(results, runs[:1], 1) == [
        "1 of 1 run is a stored result of an unknown day (no commit known); 0 to run",
        REDO.replace("them", "it"),
    ]
