"""Sweeps as a user starts them: failing runs, killed workers, two sweeps at once, Ctrl-C, a full disk."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call, command

TIMES = ("train_seconds", "data_seconds", "images_per_second")
pytestmark = pytest.mark.slow

# Long enough (750 steps of a few milliseconds) to be hit in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 4000").replace("epochs: 2", "epochs: 3")
# One thread each, as where there are as many runs as cores: two threads in one short run wait more than they work.
SWEEP = ("sweep", "tiny", "--scale", "smoke", "--threads", "1")
TWO_LONG = LONG.replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]")


def records(results: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    return {record["id"]: record for record in found}


def what_was_found(results: Path) -> dict[str, Any]:
    """Everything that may not depend on when and where a run executed."""
    return {
        name: (
            record["status"],
            {key: value for key, value in (record["final"] or {}).items() if key not in TIMES},
            [
                {key: value for key, value in json.loads(line).items() if key not in TIMES}
                for line in (results / "runs" / name / "metrics.jsonl").read_text().splitlines()
            ],
        )
        for name, record in records(results).items()
    }


def start(experiments: Path, results: Path, *arguments: str) -> "subprocess.Popen[str]":
    line, environment = command(experiments, results, arguments)
    return subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_until(condition: Any, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def worker_processes(of: int) -> list[int]:
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(of)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in children.stdout.split()]


def test_a_sweep_does_everything_once_and_nothing_twice(nfrepro: Call, results: Path) -> None:
    first = nfrepro(*SWEEP)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "4 runs: 4 completed"
    before = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")}
    assert {path.name for path in before} == {"run.json", "metrics.jsonl", ".gitignore"}
    second = nfrepro(*SWEEP)
    assert second.returncode == 0
    stored, redo, *rest = second.stdout.splitlines()
    assert re.fullmatch(r"4 of 4 runs are stored results of \d+ \w+ \d{4} \(.+\); 0 to run", stored)
    assert redo == "redo them: --force '*' (make: FORCE='*'); or in another folder: --results DIR"
    assert rest == [f"table: {results}/tiny/smoke/runs.csv", "4 runs: 4 completed"]
    assert {path: path.stat().st_mtime_ns for path in results.glob("runs/*/*")} == before
    assert all(record["executions"] == 1 for record in records(results).values())


def test_a_failing_run_stops_no_other_and_is_retried_on_request(
    nfrepro: Call, experiments: Path, results: Path
) -> None:
    # One arm asks for batches larger than its data set.
    text = TINY.replace("seed: [0, 1]", "train.batch_size: [16, 200]")
    (experiments / "tiny.yaml").write_text(text)
    first = nfrepro(*SWEEP, "--jobs", "1")
    assert first.returncode == 1
    assert "4 runs: 2 completed, 2 failed" in first.stdout
    assert first.stdout.count("batch size 200 is more than the 96 train images") == 4  # when it ends, and in the list
    assert "error.txt" in first.stdout
    again = nfrepro(*SWEEP, "--jobs", "1")
    assert again.returncode == 1
    assert {record["executions"] for record in records(results).values()} == {1}
    retried = nfrepro(*SWEEP, "--jobs", "1", "--retry")
    assert retried.returncode == 1
    assert sorted(record["executions"] for record in records(results).values()) == [1, 1, 2, 2]
    table = (results / "tiny" / "smoke" / "runs.csv").read_text()
    assert table.count(",failed,True,") == 2


def test_killed_at_random_moments_it_ends_as_undisturbed(experiments: Path, results: Path, tmp_path: Path) -> None:
    (experiments / "tiny.yaml").write_text(TWO_LONG)
    call = (*SWEEP, "--checkpoint-seconds", "0.1")
    undisturbed = start(experiments, tmp_path / "undisturbed", *call)
    assert undisturbed.wait(timeout=300) == 0
    moments = random.Random(0)
    for _ in range(3):
        before = checkpoints(results)
        sweep = start(experiments, results, *call)
        wait_until(lambda before=before: checkpoints(results) - before)
        time.sleep(0.5 * moments.random())
        workers = worker_processes(sweep.pid)
        for pid in [*workers, sweep.pid] if moments.random() < 0.5 else workers:
            kill_if_alive(pid)
        sweep.kill()
        sweep.wait()
        for pid in workers:
            wait_until(lambda pid=pid: not alive(pid))
    final = start(experiments, results, *call)
    assert final.wait(timeout=300) == 0
    assert what_was_found(results) == what_was_found(tmp_path / "undisturbed")
    assert max(record["executions"] for record in records(results).values()) > 2


def checkpoints(results: Path) -> set[tuple[str, int]]:
    """All that are stored, each with the time of its writing."""
    found = set()
    for path in results.glob("runs/*/checkpoint-*.pt"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def kill_if_alive(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_another_worker_continues_the_run_of_one_that_is_killed(
    experiments: Path, results: Path, tmp_path: Path
) -> None:
    (experiments / "tiny.yaml").write_text(TWO_LONG)
    call = (*SWEEP, "--jobs", "1", "--checkpoint-seconds", "0.1")
    sweep = start(experiments, results, *call)
    wait_until(lambda: checkpoints(results))
    (worker,) = worker_processes(sweep.pid)
    os.kill(worker, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    assert "its worker process was killed by SIGKILL (out of memory?); another worker continues the run" in output
    assert output.splitlines()[-1] == "2 runs: 2 completed"
    assert sorted(record["executions"] for record in records(results).values()) == [1, 2]
    undisturbed = start(experiments, tmp_path / "undisturbed", *call)
    assert undisturbed.wait(timeout=300) == 0
    assert what_was_found(results) == what_was_found(tmp_path / "undisturbed")


def test_a_run_whose_workers_always_die_is_interrupted_and_stops_no_other(experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(TWO_LONG)
    sweep = start(experiments, results, *SWEEP, "--jobs", "1", "--checkpoint-seconds", "0.1")
    victim = None
    for _ in range(3):
        wait_until(lambda: checkpoints(results) and worker_processes(sweep.pid))
        victim = victim or next(results.glob("runs/*/checkpoint-*.pt")).parent
        seen = set(victim.glob("checkpoint-*.pt"))
        wait_until(lambda victim=victim, seen=seen: set(victim.glob("checkpoint-*.pt")) - seen)
        os.kill(worker_processes(sweep.pid)[0], signal.SIGKILL)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, output
    assert output.splitlines()[-1] == "2 runs: 1 completed, 1 interrupted"
    again = start(experiments, results, *SWEEP)
    assert again.wait(timeout=300) == 0


def test_two_sweeps_at_once_execute_each_run_once(experiments: Path, results: Path) -> None:
    sweeps = [start(experiments, results, *SWEEP, "--jobs", "2") for _ in range(2)]
    outputs = [sweep.communicate(timeout=300)[0] for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
    assert all(output.splitlines()[-1] == "4 runs: 4 completed" for output in outputs)
    assert [record["executions"] for record in records(results).values()] == [1] * 4


def test_a_sweep_takes_over_what_a_dead_one_left(experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(LONG)
    first = start(experiments, results, *SWEEP)
    wait_until(lambda: records(results))
    second = start(experiments, results, *SWEEP)
    time.sleep(2)
    first.kill()  # its workers notice, save and stop
    assert second.wait(timeout=300) == 0
    assert len(records(results)) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_stops_and_the_next_call_continues(
    experiments: Path, results: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (experiments / "tiny.yaml").write_text(TWO_LONG)
    sweep = start(experiments, results, *SWEEP)
    wait_until(lambda: len(list(results.glob("runs/*/metrics.jsonl"))) >= 2)
    time.sleep(0.3)
    workers = worker_processes(sweep.pid)
    sweep.send_signal(number)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130
    assert "stopped: the same command continues where it stopped" in output
    assert "Traceback" not in output
    assert not any(alive(pid) for pid in workers)
    interrupted = [path for path in results.glob("runs/*") if path.is_dir() and list(path.glob("checkpoint-*.pt"))]
    assert len(interrupted) >= 1
    again = start(experiments, results, *SWEEP)
    assert again.wait(timeout=300) == 0
    undisturbed = start(experiments, tmp_path / "undisturbed", *SWEEP)
    assert undisturbed.wait(timeout=300) == 0
    assert what_was_found(results) == what_was_found(tmp_path / "undisturbed")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_cleanly_and_continues_with_room(experiments: Path, small_disk: Path) -> None:
    results = small_disk / "results"
    results.mkdir()
    (small_disk / "fill").write_bytes(b"x" * 200 * 1024)
    full = start(experiments, results, *SWEEP)
    output, _ = full.communicate(timeout=300)
    assert full.returncode == 1
    assert "No space left on device" in output
    assert "Traceback" not in output
    assert not [record for record in records(results).values() if record["status"] == "completed"]
    assert not list(results.rglob("*.tmp"))
    (small_disk / "fill").unlink()
    again = start(experiments, results, *SWEEP, "--jobs", "1")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
