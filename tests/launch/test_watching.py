"""Watching, reading and stopping a local sweep from another shell."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call, command

from nfrepro.cli import watch
from nfrepro.cli.run_log import RunLog
from nfrepro.launch.local_queue import MOST_DEATHS
from nfrepro.launch.watching import Watching
from nfrepro.runs.status import Row
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

pytestmark = pytest.mark.slow

LONG = TINY.replace("train_images: 96", "train_images: 4000").replace("epochs: 2", "epochs: 400")
HERE = ("tiny", "--scale", "smoke")


@pytest.fixture
def sweep(experiments: Path, results: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts sweeps, of runs that take very long, and ends what is left of them."""
    (experiments / "tiny.yaml").write_text(LONG)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> "subprocess.Popen[str]":
        line, environment = command(experiments, results, ["sweep", *HERE, *arguments])
        kept = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(line, env=environment, **kept))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=300)


def wait_until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


@pytest.fixture
def rows(experiments: Path, results: Path) -> Callable[[], list[Row]]:
    """What `status` knows now."""
    return lambda: Watching(expand(load_experiment("tiny", experiments), "smoke", SCHEMAS), results).rows()


def states(rows: Callable[[], list[Row]]) -> list[str]:
    return [row.state for row in rows()]


def evaluated(results: Path, runs: int) -> bool:
    return len(list(results.glob("runs/*/metrics.jsonl"))) >= runs


def claim_of(results: Path, run_id: str) -> dict[str, Any]:
    """The claim on a run; empty where nobody holds one."""
    with contextlib.suppress(FileNotFoundError):
        return dict(json.loads((results / "runs" / run_id / "claim").read_text()))
    return {}


def kill_worker(results: Path, run_id: str) -> int:
    process = int(claim_of(results, run_id)["process"])
    os.kill(process, signal.SIGKILL)
    return process


def test_a_sweep_is_watched_in_a_terminal_loses_a_worker_and_is_cancelled(
    sweep: Any, nfrepro: Call, rows: Callable[[], list[Row]], experiments: Path, results: Path
) -> None:
    sweep("--jobs", "1")
    wait_until(lambda: rows()[0].rate)
    first = rows()[0]
    assert (first.state, first.host) == ("running", claim_of(results, first.id)["host"])
    assert first.step is not None
    assert 0 < first.step < 100_000 == first.steps
    assert first.rate is not None
    assert first.seconds_left == pytest.approx((first.steps - first.step) / first.rate)
    for columns in (80, 140):
        watch_in_a_terminal(experiments, results, columns)
    for _ in range(MOST_DEATHS):
        dead = kill_worker(results, first.id)
        wait_until(lambda dead=dead: claim_of(results, first.id).get("process") not in (None, dead))
    kill_worker(results, first.id)
    wait_until(lambda: states(rows) == ["interrupted", "running", "waiting", "waiting"])
    running = rows()[1].id
    # What the experiment has no more is cancelled as well, if it is being executed.
    (experiments / "tiny.yaml").write_text(TINY)
    cancelled = nfrepro("cancel", *HERE).stdout
    assert f"cancelled  {running}  saves and stops at its next step\n" in cancelled
    assert cancelled.count("will not begin") == 4
    wait_until(lambda: not (results / "runs" / running / "claim").exists())


def watch_in_a_terminal(experiments: Path, results: Path, columns: int) -> None:
    """Until the table was there twice; then Ctrl-C has to leave a clean terminal."""
    line, environment = command(experiments, results, ["status", *HERE, "--watch"])
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, line, {**environment, "TERM": "xterm", "COLUMNS": str(columns)})
    shown, stopped = b"", False
    with contextlib.suppress(OSError):  # the terminal is gone
        while piece := os.read(terminal, 65536):
            shown += piece
            if not stopped and shown.count(b"4 runs: 1 running, 3 waiting") >= 2:
                stopped = os.write(terminal, b"\x03") == 1
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert b"Traceback" not in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") > -1  # the cursor is back
    table = [line for line in shown.decode().splitlines() if "seed" in line and "\x1b" not in line]
    assert table
    assert max(map(len, table)) <= columns


def test_runs_are_cancelled_one_by_one_or_all_and_the_next_sweep_goes_on(
    sweep: Any, nfrepro: Call, rows: Callable[[], list[Row]], experiments: Path, results: Path
) -> None:
    process = sweep("--jobs", "1")
    wait_until(lambda: evaluated(results, 1))
    line, environment = command(experiments, results, ["status", *HERE, "--watch"])
    watching = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    assert "  running      nf_resnet" in watching.stdout.readline()
    assert watching.stdout.readline() == "4 runs: 1 running, 3 waiting\n"
    names = [row.id for row in rows()]
    one = nfrepro("cancel", "tiny", names[0].rpartition("-")[2], "--scale", "smoke")
    assert (one.returncode, one.stderr) == (0, "")
    assert one.stdout == f"cancelled  {names[0]}  saves and stops at its next step\n"
    wait_until(lambda: states(rows) == ["cancelled", "running", "waiting", "waiting"])
    assert list((results / "runs" / names[0]).glob("checkpoint-*.pt"))
    wait_until(lambda: evaluated(results, 2))
    everything = nfrepro("cancel", *HERE).stdout.splitlines()
    assert [line.split()[1] for line in everything] == names[1:]
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "4 runs: 4 cancelled"
    told, _ = watching.communicate(timeout=300)
    assert watching.returncode == 0
    assert told.splitlines()[-1] == "4 runs: 4 cancelled"
    assert told.count("  cancelled    ") == 4
    assert nfrepro("cancel", *HERE).stdout == "nothing to cancel\n"
    assert states(rows) == ["cancelled"] * 4
    sweep("--jobs", "1")
    wait_until(lambda: states(rows) == ["running", "interrupted", "waiting", "waiting"])
    wait_until(lambda: json.loads((results / "runs" / names[0] / "run.json").read_text())["executions"] == 2)


def test_logs_tell_what_there_is_and_follow_until_the_end(nfrepro: Call, experiments: Path, results: Path) -> None:
    names = nfrepro("expand", *HERE).stdout.splitlines()
    nothing = nfrepro("logs", "tiny", names[0], "--scale", "smoke")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", f"{names[0]}: waiting\n")
    line, environment = command(experiments, results, ["logs", "tiny", names[0], "--scale", "smoke", "-f"])
    kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    follower = subprocess.Popen(line, env=environment, **kept)
    nfrepro("run", "tiny", names[0], "--scale", "smoke")
    output, ending = follower.communicate(timeout=300)
    assert ending == f"{names[0]}: completed\n"
    assert [line.split()[:2] for line in output.splitlines() if line.startswith("epoch")] == [
        ["epoch", "1"],
        ["epoch", "2"],
    ]


def test_what_is_followed_comes_once_and_in_whole_lines(experiments: Path, results: Path) -> None:
    run = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]
    folder = results / "runs" / run.id
    folder.mkdir(parents=True)
    log = RunLog(run, results)
    assert list(log.news()) == []
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "test_top1": 50.0}\n')
    (folder / "progress.json").write_text('{"step": 3, "steps": 9, "rate": null, "text": "epoch 1/3"}')
    expected = [f"==> {folder}/metrics.jsonl <==", "epoch 1  test_top1 50", f"==> {folder}/progress.json <=="]
    assert list(log.news()) == [*expected, "3/9  epoch 1/3"]
    assert list(log.news()) == []
    (folder / "progress.json").write_text('{"step": 4, "steps": 9, "rate": null, "text": "epoch 2/3"}')
    assert list(log.news()) == ["4/9  epoch 2/3"]
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "test_top1": 50.0}\n{"epoch": 2, "test_top1": 60.0}\n')
    (folder / "error.txt").write_text("Traceback\nValueError: no\n")
    told = [expected[0], "epoch 2  test_top1 60", f"==> {folder}/error.txt <==", "Traceback\nValueError: no"]
    assert list(log.news()) == told
    assert list(RunLog(run, results).news())[-1] == told[-1]


def test_it_ends_when_nothing_has_happened_for_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def row(state: Any) -> Row:
        return Row("a", state, 0.0, None, None, None, None, None, None, None, None)

    clock = 0.0
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock)
    seen = iter(["waiting", "running", "interrupted", "requeued", *["interrupted"] * 100])

    def look() -> watch.View:
        return watch.View([row(next(seen))], [], seconds_of_rest=5.0)

    def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds

    monkeypatch.setattr(watch.time, "sleep", sleep)
    assert [view.rows[0].state for view in watch.views(look)] == [
        *["waiting", "running", "interrupted", "requeued"],
        *["interrupted"] * 3,
    ]
    seen = iter(["running", "completed"])
    assert len(list(watch.views(look))) == 2
