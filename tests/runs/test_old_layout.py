"""Runs of the layout from before, moved into the one store; and that the results that ship are in it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_experiment import Call

from nfrepro.errors import InputError
from nfrepro.runs import old_layout, store
from nfrepro.runs.lock import hold_lock
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


def stored(results: Path, experiment: str, run: Run, started: str, **changes: Any) -> Path:
    folder = results / experiment / "smoke" / run.id
    folder.mkdir(parents=True)
    record = {
        **store.description_of(run),
        "experiment": experiment,
        "status": "completed",
        "started": started,
        "final": {"top1": 80.0, "train_seconds": len(started)},
        "error": None,
    }
    store.write_record(folder, record | changes)
    (folder / "metrics.jsonl").write_text(f'{{"epoch": 1, "started": "{started}"}}\n')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_run_is_in_the_store_once_with_all_its_files(results: Path, runs: list[Run]) -> None:
    later = stored(results, "first", runs[0], "2026-02-02")
    earlier = stored(results, "second", runs[0], "2026-01-01", final={"top1": 80.0, "train_seconds": 7.0})
    alone = stored(results, "second", runs[1], "2026-03-03")
    unfinished = stored(results, "first", runs[2], "2026-01-01", status="running", final=None)
    (unfinished / "checkpoint-000000001-0123456789abcdef.pt").write_bytes(b"state")
    kept = {folder.name: contents(folder) for folder in (earlier, alone, unfinished)}
    found = old_layout.move(results)
    assert (set(found.moved), found.dropped, found.left) == ({earlier, alone, unfinished}, (later,), ())
    assert {folder.name: contents(folder) for folder in (results / "runs").iterdir()} == kept
    assert old_layout.find(results) == []
    again = old_layout.move(results)
    assert again == old_layout.Moved((), (), ())


def test_done_goes_before_begun_first(results: Path, runs: list[Run]) -> None:
    unfinished = stored(results, "first", runs[0], "2026-01-01", status="running", final=None)
    done = stored(results, "second", runs[0], "2026-02-02")
    found = old_layout.move(results)
    assert (found.moved, found.dropped) == ((done,), (unfinished,))


def test_another_result_of_the_same_run_is_never_removed(results: Path, runs: list[Run], nfrepro: Call) -> None:
    stored(results, "first", runs[0], "2026-01-01")
    other = stored(results, "second", runs[0], "2026-02-02", final={"top1": 80.1})
    before = contents(other)
    called = nfrepro("migrate")
    assert called.returncode == 1
    assert called.stdout.splitlines()[-1] == str(other)
    assert contents(other) == before


def test_nothing_moves_while_a_run_is_executed_or_damaged(results: Path, runs: list[Run]) -> None:
    stored(results, "first", runs[0], "2026-01-01")
    other = stored(results, "second", runs[1], "2026-02-02")
    with hold_lock(other), pytest.raises(InputError, match="is being executed: stop it first"):
        old_layout.move(results)
    (other / "run.json").write_text("{")
    with pytest.raises(InputError, match="not a valid record"):
        old_layout.move(results)
    assert len(old_layout.find(results)) == 2
    assert not (results / "runs").exists()


@pytest.mark.parametrize("verb", ["sweep", "collect", "plan"])
def test_runs_of_the_old_layout_are_not_overlooked(results: Path, runs: list[Run], nfrepro: Call, verb: str) -> None:
    stored(results, "tiny", runs[0], "2026-01-01")
    called = nfrepro(verb, "tiny", "--scale", "smoke")
    assert called.returncode == 2
    assert called.stderr == (
        f"nfrepro: {results}/tiny/smoke has a run, which belongs in {results}/runs: run `nfrepro migrate`\n"
    )
    shutil.rmtree(results / "tiny")
    assert nfrepro("plan", "tiny", "--scale", "smoke").returncode == 0


def test_the_results_that_ship_are_in_the_store() -> None:
    assert old_layout.find(RESULTS) == []
    folders = [path for path in (RESULTS / "runs").iterdir() if path.is_dir()]
    assert len(folders) > 1300
    listed = set()
    for path in RESULTS.glob("*/*/runs.csv"):
        table = pd.read_csv(path, usecols=["id", "state"])
        listed |= set(table.loc[table["state"] != "missing", "id"])  # a night of training may be under way
    for folder in folders:
        record = json.loads((folder / "run.json").read_text())
        assert record["id"] == folder.name
    assert listed == {folder.name for folder in folders}
