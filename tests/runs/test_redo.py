"""A result that is being redone stands until the new one is complete, whenever the process is killed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nfrepro.errors import InputError
from nfrepro.launch.run_record import begin
from nfrepro.runs import redo, store
from nfrepro.runs.lock import hold_lock
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

pytestmark = pytest.mark.slow

OLD = {"metrics.jsonl": b'{"test_top1": 1.0}', "old.csv": b"of a former version"}
NEW = {"metrics.jsonl": b'{"test_top1": 2.0}', "propagation.csv": b"new curves"}

# Dies at the call of that number of those that change the disk.
KILLED = """\
import os, signal, sys
from pathlib import Path
from nfrepro.runs import redo
from nfrepro.runs.lock import hold_lock

calls = int(sys.argv[2])
def counted(function):
    def call(*arguments, **options):
        global calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
folder = Path(sys.argv[1])
with hold_lock(folder):
    for name in ("replace", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    redo.install(folder)
"""


@pytest.fixture
def runs(experiments: Path) -> list[Run]:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)


def record(run: Run, top1: float, status: str = "completed") -> dict[str, Any]:
    return store.description_of(run) | {"status": status, "final": {"top1": top1}, "error": None}


def write(folder: Path, content: dict[str, bytes], of: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    store.write_record(folder, of)


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith((".claim", "claim"))}
    return {name: data for name, data in files.items() if name != store.RECORD}


def top1(folder: Path) -> float:
    found = store.read_record(folder)
    assert found is not None
    return float(found["final"]["top1"])


@pytest.fixture
def complete(results: Path, runs: list[Run]) -> Path:
    """The folder of a stored run whose redo is complete and not moved over."""
    folder = store.run_folder(results, runs[0])
    write(folder, OLD, record(runs[0], 1.0))
    redo.request(results, runs[0])
    write(redo.redo_folder(folder), NEW, record(runs[0], 2.0))
    return folder


def kill_installing(folder: Path, calls: int) -> bool:
    """Whether it was killed, not done before that."""
    called = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(calls)], check=False)
    assert called.returncode in (0, -signal.SIGKILL)
    return called.returncode != 0


def test_killed_at_any_moment_it_leaves_the_whole_old_or_the_whole_new_result(
    complete: Path, results: Path, runs: list[Run]
) -> None:
    moments = 0
    while kill_installing(complete, moments):
        moments += 1
        work = redo.read_work(results, runs[0])
        assert work.state == "completed"
        there = {**contents(complete), **contents(work.folder)}
        assert {name: there.get(name) for name in NEW} == NEW
        if (complete / store.RECORD).exists():  # what readers of the store see is of one execution
            if top1(complete) == 1.0:
                assert contents(complete)["metrics.jsonl"] == OLD["metrics.jsonl"]
                assert set(contents(complete)) <= set(OLD)
            else:
                assert contents(complete) == NEW
    assert moments > 4
    assert contents(complete) == NEW
    assert top1(complete) == 2.0
    assert not redo.is_requested(complete)


def test_folders_are_replaced_as_a_whole(complete: Path) -> None:
    (complete / "plots").mkdir()
    (complete / "plots" / "old.txt").touch()
    (complete / "text").mkdir()
    work = redo.redo_folder(complete)
    (work / "plots").mkdir()
    (work / "plots" / "new.txt").touch()
    (work / "text").touch()
    redo.install(complete)
    assert top1(complete) == 2.0
    assert [path.name for path in (complete / "plots").iterdir()] == ["new.txt"]
    assert (complete / "text").is_file()
    assert not work.exists()


@pytest.mark.parametrize("kept", [True, False])
def test_git_sees_of_a_redo_what_it_saw_before(results: Path, runs: list[Run], kept: bool) -> None:
    """A run of scale smoke that belongs to results of another scale, too, is kept."""
    folder = store.run_folder(results, runs[0])
    write(folder, OLD, record(runs[0], 1.0))
    if not kept:
        store.hide_from_git(folder)
    redo.request(results, runs[0])
    work = redo.redo_folder(folder)
    begin(runs[0], work, 1, None, store.is_kept(folder))
    write(work, NEW, record(runs[0], 2.0))
    redo.install(folder)
    assert store.is_kept(folder) is kept


def test_a_reader_that_comes_first_finishes_it(complete: Path, results: Path, runs: list[Run]) -> None:
    kill_installing(complete, 3)
    redo.finish(results, runs)
    assert contents(complete) == NEW
    assert top1(complete) == 2.0


def test_until_then_the_stored_result_is_the_old_one(results: Path, runs: list[Run]) -> None:
    folder = store.run_folder(results, runs[0])
    write(folder, OLD, record(runs[0], 1.0))
    redo.request(results, runs[0])
    assert redo.read_work(results, runs[0]).state == "missing"
    for status, state in [("running", "interrupted"), ("failed", "failed")]:
        write(redo.redo_folder(folder), NEW, record(runs[0], 2.0, status))
        redo.finish(results, runs)
        assert (redo.read_work(results, runs[0]).state, store.read(folder).state) == (state, "completed")
        assert (contents(folder), top1(folder)) == (OLD, 1.0)


@pytest.mark.parametrize(("status", "stays"), [("running", True), ("failed", False), ("damaged", False)])
def test_a_redo_asked_for_again_continues_unless_it_failed(
    results: Path, runs: list[Run], status: str, stays: bool
) -> None:
    folder = store.run_folder(results, runs[0])
    write(folder, OLD, record(runs[0], 1.0))
    redo.request(results, runs[0])
    work = redo.redo_folder(folder)
    write(work, NEW, record(runs[0], 2.0, status))
    if status == "damaged":
        (work / store.RECORD).write_text("{")
    redo.request(results, runs[0])
    assert any(work.iterdir()) == stays
    assert work.is_dir()


def test_a_complete_redo_is_moved_over_before_the_next_begins(complete: Path, results: Path, runs: list[Run]) -> None:
    redo.request(results, runs[0])
    assert top1(complete) == 2.0
    assert list(redo.redo_folder(complete).iterdir()) == []


def test_a_damaged_record_is_replaced_like_any_other(results: Path, runs: list[Run]) -> None:
    folder = store.run_folder(results, runs[0])
    write(folder, OLD, record(runs[0], 1.0))
    (folder / store.RECORD).write_text("{")
    redo.request(results, runs[0])
    write(redo.redo_folder(folder), NEW, record(runs[0], 2.0))
    redo.finish(results, runs)
    assert (contents(folder), top1(folder)) == (NEW, 2.0)


def test_only_what_matches_is_asked_for_and_never_what_runs(results: Path, runs: list[Run]) -> None:
    with pytest.raises(InputError, match=r"--force 'bn_\*' matches none of the 4 runs"):
        redo.find(results, runs, "bn_*")
    for run in runs[:3]:
        write(store.run_folder(results, run), OLD, record(run, 1.0))
    with hold_lock(store.run_folder(results, runs[1])):
        with pytest.raises(InputError, match="is being executed: stop it first"):
            redo.find(results, runs, "*")
        with pytest.raises(InputError, match="is being executed: stop it first"):
            redo.request(results, runs[1])
    assert redo.find(results, runs, "*alpha0.2*") == runs[:2]
    assert redo.find(results, runs, "*alpha1*") == [runs[2]]  # the other is not stored
