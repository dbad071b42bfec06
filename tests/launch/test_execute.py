"""One run in this process: what is stored, and what a failure in the middle leaves."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nfrepro.launch.execute import Ended, Placement, execute
from nfrepro.runs import cancellation, store
from nfrepro.runs import lock as run_lock
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.registry import SCHEMAS, Task
from nfrepro.training.context import Progress, RunContext


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def execute_here(run: Run, results: Path) -> Ended:
    place = Placement(results, "cpu", 1, 60.0)
    return execute(run, place, lambda progress: None, lambda text: None, lambda: False)


def test_checkpoints_outlive_a_failure_to_store_the_result(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.run_folder(results, run)
    write = store.write_record

    def full_disk(folder: Path, record: dict[str, Any]) -> None:
        if record["status"] == "completed":
            raise OSError(28, "No space left on device")
        write(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write_record", full_disk)
        ended = execute_here(run, results)
    assert ended.ending == "interrupted"
    assert "No space left on device" in ended.text
    assert list(folder.glob("checkpoint-*.pt"))
    assert store.read(folder).state == "interrupted"
    assert execute_here(run, results).ending == "completed"
    assert not list(folder.glob("checkpoint-*.pt"))
    assert json.loads((folder / "run.json").read_text())["executions"] == 2


def test_what_a_killed_process_has_half_written_is_removed(run: Run, results: Path) -> None:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    killed = (
        "import os, signal, sys; from pathlib import Path; from nfrepro import atomic; "
        "os.replace = os.rename = lambda *paths: os.kill(os.getpid(), signal.SIGKILL); "
        "atomic.write_bytes(Path(sys.argv[1]) / 'checkpoint-000000001-0123456789abcdef.pt', bytes(1000))"
    )
    called = subprocess.run([sys.executable, "-c", killed, str(folder)], check=False)
    assert called.returncode == -signal.SIGKILL
    assert [path.stat().st_size for path in folder.iterdir()] == [1000]
    (folder / ".claim.0123.tmp").touch()  # of one that was killed as it took the claim
    assert execute_here(run, results).ending == "completed"
    assert {path.name for path in folder.iterdir()} == {"run.json", "metrics.jsonl", ".gitignore"}


def test_a_cancelled_run_is_not_begun(run: Run, results: Path) -> None:
    folder = store.run_folder(results, run)
    cancellation.mark(folder, run)
    assert execute_here(run, results).ending == "cancelled"
    assert [path.name for path in folder.iterdir()] == ["cancel-tiny-smoke"]
    cancellation.lift(folder, run)
    assert execute_here(run, results).ending == "completed"
    assert {path.name for path in folder.iterdir()} == {"run.json", "metrics.jsonl", ".gitignore"}


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_run_that_is_cancelled_while_it_trains_says_so(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setattr(cancellation, "SECONDS_BETWEEN_LOOKS", 0.0)
    folder, reported = store.run_folder(results, run), []

    def report(progress: Progress) -> None:
        reported.append(progress)
        if cancelled:
            cancellation.mark(folder, run)

    ended = execute(run, Placement(results, "cpu", 1, 60.0), report, lambda text: None, lambda: not cancelled)
    assert ended.ending == ("cancelled" if cancelled else "interrupted")
    assert store.read(folder).state == ended.ending
    assert reported
    assert list(folder.glob("checkpoint-*.pt"))


def test_a_damaged_record_fails_the_run_and_stays_as_it_is(run: Run, results: Path) -> None:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    ended = execute_here(run, results)
    assert ended.ending == "failed"
    assert "not a valid record" in ended.text
    assert (folder / "run.json").read_text() == "{"


@pytest.mark.parametrize("ending", ["completes", "fails"])
def test_a_process_that_lost_its_claim_writes_no_record(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    folder = store.run_folder(results, run)
    successor = json.dumps({"written by": "the successor"})

    def lose_the_claim(task: Task, options: Any, ctx: RunContext) -> Outcome:
        (folder / "claim").unlink()
        (folder / "run.json").write_text(successor)
        if ending == "fails":
            raise ValueError("too late")
        return Outcome("completed", {})

    monkeypatch.setattr(Task, "run", lose_the_claim)
    assert execute_here(run, results).ending == "claimed"
    assert (folder / "run.json").read_text() == successor
    assert not (folder / "error.txt").exists()


def test_a_task_that_lost_its_claim_ends_at_its_next_step_without_saving(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "SECONDS_BETWEEN_BEATS", 0.01)

    def wait_to_be_stopped(task: Task, options: Any, ctx: RunContext) -> Outcome:
        (ctx.folder / "claim").unlink()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            ctx.should_stop()
        raise AssertionError("was never stopped")

    monkeypatch.setattr(Task, "run", wait_to_be_stopped)
    assert execute_here(run, results).ending == "claimed"
