"""Executor `debug`: the same runs and records, in one process; and the other name of the local queue."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tiny_experiment import TINY, Call, command

from nfrepro.launch.devices import Resources
from nfrepro.launch.local_queue import Event
from nfrepro.launch.this_process import execute_in_turn
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.registry import SCHEMAS, Task
from nfrepro.training.context import RunContext


def digests(results: Path) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    return {record["id"]: record["final"]["weights_sha256"] for record in found}


@pytest.mark.slow
def test_debug_and_the_local_queue_find_the_same(nfrepro: Call, experiments: Path, tmp_path: Path) -> None:
    found = []
    for executor in ("debug", "local-queue"):
        call = ["sweep", "tiny", "--scale", "smoke", "--threads", "1", "--executor", executor]
        swept = nfrepro(*call, "--results", str(tmp_path / executor))
        assert swept.returncode == 0, swept.stderr
        assert swept.stdout.splitlines()[-1] == "4 runs: 4 completed"
        found.append(digests(tmp_path / executor))
    assert len(found[0]) == 4
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 4])
def test_debug_gives_a_run_the_threads_of_a_worker(
    experiments: Path, nfrepro: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: int
) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "TRUE")  # OpenMP says how it was told to wait, as it is loaded
    (experiments / "tiny.yaml").write_text(
        TINY if runs == 4 else TINY.replace("[0, 1]", "[0]").replace("[0.2, 1.0]", "[1.0]")
    )
    threads, waits = [], []
    for executor in ("debug", "local"):
        swept = nfrepro(
            "sweep", "tiny", "--scale", "smoke", "--executor", executor, "--results", str(tmp_path / executor)
        )
        assert swept.returncode == 0, swept.stderr
        said = swept.stdout + swept.stderr
        waits.append(set(re.findall(r"OMP_WAIT_POLICY = '(\w+)'", said)))
        records = [json.loads(path.read_text()) for path in (tmp_path / executor).glob("runs/*/run.json")]
        assert len(records) == runs
        threads.append({record["provenance"]["threads"] for record in records})
    assert threads[0] == threads[1]
    assert len(waits[0]) == 1
    assert waits[0] == waits[1]


def test_runs_execute_one_after_the_other_in_this_process(
    experiments: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)
    executed: list[tuple[int, int]] = []

    def fail_once(task: Task, options: TrainTask, ctx: RunContext) -> Outcome:
        executed.append((os.getpid(), options.seed))
        if len(executed) == 2:
            raise ValueError("here is the mistake")
        return Outcome("completed", {})

    monkeypatch.setattr(Task, "run", fail_once)
    events: list[Event] = []
    ended = execute_in_turn(runs, results, Resources(("cpu",), 1), 60.0, events.append)
    assert executed == [(os.getpid(), run.config["seed"]) for run in runs]
    assert [ended[run.id].ending for run in runs] == ["completed", "failed", "completed", "completed"]
    (complaint,) = [event for event in events if event.kind == "complaint"]
    assert complaint.run == runs[1]
    assert "in fail_once" in complaint.content["text"]
    assert complaint.content["text"].splitlines()[-1] == "ValueError: here is the mistake"


@pytest.mark.slow
def test_a_failing_run_shows_its_traceback_and_is_recorded(nfrepro: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(TINY.replace("seed: [0, 1]", "train.batch_size: [16, 200]"))
    swept = nfrepro("sweep", "tiny", "--scale", "smoke", "--executor", "debug")
    assert swept.returncode == 1
    assert swept.stdout.count("Traceback (most recent call last)") == 2
    assert "4 runs: 2 completed, 2 failed" in swept.stdout
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    assert sorted(record["status"] for record in records) == ["completed", "completed", "failed", "failed"]


@pytest.mark.slow
def test_ctrl_c_shows_where_it_was(experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(TINY.replace("epochs: 2", "epochs: 5000"))
    line, environment = command(experiments, results, ["sweep", "tiny", "--scale", "smoke", "--executor", "debug"])
    sweep = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while not list(results.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130
    assert "training/loop.py" in output
    assert output.splitlines()[-1] == "nfrepro: stopped: the same command continues where it stopped"
    assert not list(results.glob("runs/*/claim"))


def test_debug_takes_no_number_of_jobs(nfrepro: Call, results: Path) -> None:
    refused = nfrepro("sweep", "tiny", "--scale", "smoke", "--executor", "debug", "--jobs", "2")
    assert refused.returncode == 2
    assert refused.stderr == "nfrepro: --jobs is not for debug, which executes one run after the other\n"
    assert not results.exists()
