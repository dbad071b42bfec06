"""Two experiments that have a run in common: it is executed once, for both, and one cancels nothing for the other."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call, command

pytestmark = pytest.mark.slow

# 750 steps of a few milliseconds: long enough to be met in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 4000").replace("epochs: 2", "epochs: 3")
ONE = LONG.replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]").replace("seed: [0, 1]", "seed: [0]")
TWO = LONG.replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]")
WAITING = re.compile(r"being executed by process \d+ on \S+ \(\S+/claim, last sign of life \d+ s ago\): waiting for it")
OPTIONS = ("--scale", "smoke", "--threads", "1", "--jobs", "1", "--checkpoint-seconds", "0.1")


def sweep(experiments: Path, results: Path, name: str, *more: str) -> "subprocess.Popen[str]":
    line, environment = command(experiments, results, ("sweep", name, *OPTIONS, *more))
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@contextmanager
def held(process: "subprocess.Popen[str]") -> Iterator[None]:
    """A sweep and its workers, stopped for a while, however slowly something else starts."""
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGCONT)


def waits(process: "subprocess.Popen[str]") -> bool:
    """Whether the next line of a sweep's output says that it waits for a run of another."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended and waited for nothing"
    return WAITING.search(line) is not None


def wait_until(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def record(results: Path) -> dict[str, Any]:
    (path,) = results.glob("runs/*/run.json")
    return dict(json.loads(path.read_text()))


def begun(folder: Path) -> int:
    """How often the run was begun or continued."""
    path = folder / "run.json"
    return int(json.loads(path.read_text())["executions"]) if path.exists() else 0


def trains(results: Path) -> bool:
    return bool(list(results.glob("runs/*/checkpoint-*.pt")))


@pytest.fixture
def other(experiments: Path) -> None:
    """A second experiment whose only run is the only one of `tiny`."""
    for name in ("tiny", "other"):
        (experiments / f"{name}.yaml").write_text(ONE)


def test_a_sweep_takes_what_another_experiment_has_trained_and_says_so(
    nfrepro: Call, experiments: Path, results: Path
) -> None:
    (experiments / "other.yaml").write_text(TINY.replace("seed: [0, 1]", "seed: [0]"))
    assert nfrepro("sweep", "other", *OPTIONS).returncode == 0
    before = {path: path.read_bytes() for path in results.glob("runs/*/*")}
    called = nfrepro("sweep", "tiny", *OPTIONS)
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines()[0] == "2 of 4 runs are stored already (other: 2), 2 to run"
    assert {path: path.read_bytes() for path in before} == before
    for name, rows in [("tiny", 4), ("other", 2)]:
        table = (results / name / "smoke" / "runs.csv").read_text().splitlines()
        assert (len(table) - 1, sum(",completed,True," in line for line in table)) == (rows, rows)
        assert not [path for path in (results / name / "smoke").iterdir() if path.is_dir()]


def test_tables_of_others_that_list_a_redone_run_are_named(
    other: None, nfrepro: Call, experiments: Path, results: Path
) -> None:
    for name in ("tiny", "other"):
        (experiments / f"{name}.yaml").write_text(TINY.replace("[0.2, 1.0]", "[0.2]").replace("[0, 1]", "[0]"))
        assert nfrepro("sweep", name, *OPTIONS).returncode == 0
    forced = nfrepro("sweep", "tiny", *OPTIONS, "--force", "*")
    assert forced.returncode == 0, forced.stderr
    table = results / "other" / "smoke" / "runs.csv"
    assert f"redone runs are in {table} too: nfrepro collect other --scale smoke" in forced.stdout.splitlines()
    assert record(results)["executions"] == 1  # of the redo


def test_at_the_same_time_one_executes_and_the_other_waits(other: None, experiments: Path, results: Path) -> None:
    first = sweep(experiments, results, "tiny")
    wait_until(lambda: trains(results))
    with held(first):
        second = sweep(experiments, results, "other")
        wait_until(lambda: waits(second))
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert (record(results)["executions"], record(results)["experiment"]) == (1, "tiny")


def test_a_cancelled_sweep_leaves_the_run_to_the_one_that_waits(
    other: None, nfrepro: Call, experiments: Path, results: Path
) -> None:
    first = sweep(experiments, results, "tiny")
    wait_until(lambda: trains(results))
    with held(first):
        second = sweep(experiments, results, "other")
        wait_until(lambda: waits(second))
        cancelled = nfrepro("cancel", "tiny", "--scale", "smoke").stdout
    assert "saves and stops at its next step" in cancelled
    assert first.wait(timeout=300) == 1
    assert second.wait(timeout=300) == 0
    assert (record(results)["status"], record(results)["executions"]) == ("completed", 2)
    assert not list(results.glob("runs/*/cancel*"))


def test_the_one_that_waits_is_cancelled_without_the_one_that_executes(
    other: None, nfrepro: Call, experiments: Path, results: Path
) -> None:
    first = sweep(experiments, results, "tiny")
    wait_until(lambda: trains(results))
    with held(first):
        second = sweep(experiments, results, "other")
        wait_until(lambda: waits(second))
        told = nfrepro("cancel", "other", "--scale", "smoke").stdout.splitlines()
        name = record(results)["id"]
        assert told == [f"cancelled  {name}  here", f"goes on    {name}  for tiny at scale smoke"]
        output, _ = second.communicate(timeout=300)
    assert second.returncode == 1
    assert "cancelled: the next sweep continues it" in output
    assert first.wait(timeout=300) == 0
    assert (record(results)["status"], record(results)["executions"]) == ("completed", 1)
    assert nfrepro("sweep", "other", *OPTIONS).returncode == 0


def test_a_sweep_that_is_cancelled_before_its_own_runs_begin_touches_no_other(
    nfrepro: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(ONE)
    (experiments / "other.yaml").write_text(TWO)
    first = sweep(experiments, results, "tiny")
    wait_until(lambda: trains(results))
    with held(first):
        told = nfrepro("cancel", "other", "--scale", "smoke").stdout
    assert told.count("cancelled  ") == 1  # the shared run: that of seed 1 is in no sweep
    assert "for tiny at scale smoke" in told
    assert first.wait(timeout=300) == 0


def test_a_forced_sweep_killed_at_any_moment_loses_nothing(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(ONE)
    assert nfrepro("sweep", "tiny", *OPTIONS).returncode == 0
    (folder,) = results.glob("runs/[!.]*")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    table = (results / "tiny" / "smoke" / "runs.csv").read_bytes()
    redo = results / "runs" / ".redo" / folder.name
    for number in range(2):  # the second continues what the first has left
        forced = sweep(experiments, results, "tiny", "--force", "*")
        wait_until(lambda number=number: begun(redo) == number + 1 and list(redo.glob("checkpoint-*.pt")))
        time.sleep(0.2 * number)
        workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(forced.pid)], capture_output=True, text=True)
        for pid in [*map(int, workers.stdout.split()), forced.pid]:
            os.kill(pid, signal.SIGKILL)
        forced.wait()
        here = {
            path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ("claim", "progress.json")
        }
        assert here == old
        assert nfrepro("collect", "tiny", "--scale", "smoke").returncode == 0
        assert (results / "tiny" / "smoke" / "runs.csv").read_bytes() == table
    assert "1 run: 1 interrupted" in nfrepro("status", "tiny", "--scale", "smoke").stdout
    last = nfrepro("sweep", "tiny", *OPTIONS)
    assert last.returncode == 0, last.stdout
    assert list((results / "runs" / ".redo").iterdir()) == []
    new = record(results)
    former = json.loads(old["run.json"])
    assert (new["executions"], former["executions"]) == (3, 1)
    assert new["final"]["top1"] == former["final"]["top1"]
    assert {path.name for path in folder.iterdir()} == set(old)


def test_a_redo_that_fails_leaves_the_result_and_says_so(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(TINY.replace("seed: [0, 1]", "seed: [0]").replace("[0.2, 1.0]", "[0.2]"))
    assert nfrepro("sweep", "tiny", *OPTIONS).returncode == 0
    (folder,) = results.glob("runs/[!.]*")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert nfrepro("cancel", "tiny", "--scale", "smoke").stdout == "nothing to cancel\n"
    redo = results / "runs" / ".redo" / folder.name
    redo.mkdir(parents=True)
    failed = json.loads(old["run.json"]) | {"status": "failed", "final": None, "error": "ValueError: no"}
    (redo / "run.json").write_text(json.dumps(failed))
    called = nfrepro("sweep", "tiny", *OPTIONS)
    assert called.returncode == 1
    assert f"failed  {folder.name}: ValueError: no" in called.stdout
    assert f"the stored result is kept; to do without the redo: rm -r {redo}*" in called.stdout
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    assert nfrepro("sweep", "tiny", *OPTIONS, "--retry").returncode == 0
    assert not redo.exists()
