"""Runs that several processes execute together: they end together, whatever happens to one of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pair
import pytest
from test_local_queue import alive, records, start, wait_until, what_was_found, worker_processes
from tiny_experiment import TINY, Call

from nfrepro.launch import local_workers
from nfrepro.launch.devices import Resources
from nfrepro.launch.execute import Placement, execute
from nfrepro.launch.local_queue import execute_all
from nfrepro.runs import lock as run_lock
from nfrepro.runs import store
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.training.distributed import TIMEOUT

pytestmark = pytest.mark.slow

# 120 steps, at each of which processes wait for one another: long enough to be hit in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 960").replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]")


@pytest.fixture(scope="module")
def two() -> Iterator[pair.Pair]:
    processes = pair.Pair()
    yield processes
    processes.close()


@pytest.fixture
def run(experiments: Path) -> Run:
    return expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)[0]


def execute_together(processes: Any, run: Run, results: Path, accident: str | None = None, rank: int = 0) -> Any:
    """Executes `run`; in the process of that rank the accident happens at step 5. What was said, and in what time."""
    from nfrepro.training import step

    original, lost, steps = step.Trainer.step, False, 0

    def broken(trainer: Any, *arguments: Any) -> Any:
        nonlocal lost, steps
        steps += 1
        if steps == 5 and accident == "raises":
            raise ValueError(f"accident in process {processes.rank}")
        if steps == 5 and accident == "raises in the backward pass":

            def fail(gradient: Any) -> None:
                raise ValueError(f"accident in process {processes.rank}")

            next(trainer.state.model.parameters()).register_hook(fail)
        if steps == 5 and accident == "loses its claim":
            (store.run_folder(results, run) / "claim").unlink()
            time.sleep(0.5)
        return original(trainer, *arguments)

    begun = time.monotonic()
    place = Placement(results, "cpu", 1, 60.0, processes)
    run_lock.SECONDS_BETWEEN_BEATS = 0.05
    step.Trainer.step = broken if processes.rank == rank else original  # type: ignore[method-assign]
    try:
        ended = execute(run, place, lambda progress: None, lambda text: None, lambda: False)
    finally:
        step.Trainer.step = original  # type: ignore[method-assign]
    return ended, time.monotonic() - begun


def test_both_get_the_same_answer(two: pair.Pair, run: Run, results: Path) -> None:
    answers = [ended for ended, _ in two(execute_together, run, results)]
    assert answers[0] == answers[1]
    assert answers[0].ending == "completed"
    record = json.loads((store.run_folder(results, run) / "run.json").read_text())
    assert record["provenance"]["processes"] == 2
    assert record["executions"] == 1
    again = [ended for ended, _ in two(execute_together, run, results)]
    assert [ended.text for ended in again] == ["was done before"] * 2


@pytest.mark.parametrize("accident", ["raises", "raises in the backward pass"])
@pytest.mark.parametrize("rank", [0, 1])
def test_what_one_cannot_do_fails_the_run(two: pair.Pair, run: Run, results: Path, accident: str, rank: int) -> None:
    (first, seconds), (second, _) = two(execute_together, run, results, accident, rank)
    assert first == second
    assert first.ending == "failed"
    assert first.text.startswith(f"ValueError: accident in process {rank}")
    assert f"accident in process {rank}" in (store.run_folder(results, run) / "error.txt").read_text()
    assert seconds < TIMEOUT.total_seconds() / 2  # nobody waited for the other in vain
    (after, _), _ = two(execute_together, run, results)  # the same processes, with new connections
    assert after.ending == "completed"


def test_a_lost_claim_ends_both(two: pair.Pair, run: Run, results: Path) -> None:
    answers = [ended for ended, _ in two(execute_together, run, results, "loses its claim")]
    assert [ended.ending for ended in answers] == ["claimed"] * 2
    assert not list(store.run_folder(results, run).glob("checkpoint-*.pt"))


def test_what_somebody_else_executes_neither_does(two: pair.Pair, run: Run, results: Path) -> None:
    folder = store.run_folder(results, run)
    folder.mkdir(parents=True)
    with run_lock.hold_lock(folder):
        answers = [ended for ended, _ in two(execute_together, run, results)]
    assert [ended.ending for ended in answers] == ["claimed"] * 2


def test_runs_that_do_not_divide_are_refused_before_anything_starts(
    nfrepro: Call, experiments: Path, results: Path
) -> None:
    refused = nfrepro("sweep", "tiny", "--scale", "smoke", "--processes", "3")
    assert refused.returncode == 2
    assert "batch_size: 16 is not a multiple of the 3 processes" in refused.stderr
    text = TINY.replace("name: nf_resnet", "name: bn_resnet").replace("  model.alpha: [0.2, 1.0]\n", "")
    (experiments / "tiny.yaml").write_text(text)
    normalised = nfrepro("sweep", "tiny", "--scale", "smoke", "--processes", "2")
    assert normalised.returncode == 2
    assert "set train.grad_accum_steps to a multiple of 2" in normalised.stderr
    assert not results.exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_costs_no_run(experiments: Path, results: Path, rank: int) -> None:
    (experiments / "tiny.yaml").write_text(LONG)
    call = ("sweep", "tiny", "--scale", "smoke", "--jobs", "1", "--checkpoint-seconds", "0.1")
    sweep = start(experiments, results, *call, "--processes", "2")
    wait_until(lambda: list(results.glob("runs/*/checkpoint-*.pt")), 300)
    os.kill(worker_processes(sweep.pid)[rank], signal.SIGKILL)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    assert f"process {rank} of its 2 was killed by SIGKILL" in output
    assert output.splitlines()[-1] == "2 runs: 2 completed"
    assert sorted(record["executions"] for record in records(results).values()) == [1, 2]


@pytest.mark.slow
def test_ctrl_c_saves_and_the_next_call_continues_with_the_same_bits(
    experiments: Path, results: Path, tmp_path: Path
) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("seed: [0, 1]", "seed: [0]"))
    call = ("sweep", "tiny", "--scale", "smoke", "--processes", "2", "--threads", "2", "--checkpoint-seconds", "0.1")
    sweep = start(experiments, results, *call)
    wait_until(lambda: list(results.glob("runs/*/checkpoint-*.pt")), 300)
    workers = worker_processes(sweep.pid)
    assert len(workers) == 2
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130, output
    assert not any(alive(pid) for pid in workers)
    for folder in (results, tmp_path / "undisturbed"):
        finished = start(experiments, folder, *call)
        output, _ = finished.communicate(timeout=300)
        assert finished.returncode == 0, output
    assert what_was_found(results) == what_was_found(tmp_path / "undisturbed")
    assert [record["executions"] for record in records(results).values()] == [2]


def test_a_port_that_is_taken_costs_no_run(run: Run, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_port, said = local_workers._free_port, []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(local_workers, "_free_port", lambda: ports.pop() if ports else free_port())
        ended = execute_all([run], results, Resources(("cpu", "cpu"), 1, processes=2), 60.0, said.append)
    assert ended[run.id].ending == "completed", said
    assert [event.kind for event in said].count("started") == 1
    assert any("address already in use" in event.content.get("text", "").lower() for event in said)
    assert next(iter(records(results).values()))["executions"] == 1


def test_workers_that_never_begin_are_not_started_for_ever(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def die(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
        started.append(command)
        return start_process([sys.executable, "-c", "import sys; sys.exit(3)"], environment)

    start_process = local_workers._start
    monkeypatch.setattr(local_workers, "_start", die)
    ended = execute_all([run], results, Resources(("cpu",), 1), 60.0, lambda event: None)
    assert (ended[run.id].ending, ended[run.id].text) == ("interrupted", "its worker process ended with exit status 3")
    assert len(started) >= 3
    assert not store.run_folder(results, run).exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_before_the_others_have_found_it_costs_no_run(
    run: Run, results: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    start_process, victims = local_workers._start, [rank]

    def start_or_die(command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
        if victims and environment["RANK"] == str(victims[0]):
            victims.pop()
            command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
        return start_process(command, environment)

    monkeypatch.setattr(local_workers, "_start", start_or_die)
    ended = execute_all([run], results, Resources(("cpu", "cpu"), 1, processes=2), 60.0, lambda event: None)
    assert ended[run.id].ending == "completed"


def test_an_uneven_last_batch_is_that_of_one_process(experiments: Path, results: Path) -> None:
    text = TINY.replace("train_images: 96", "train_images: 101").replace("test_images: 32", "test_images: 33")
    (experiments / "tiny.yaml").write_text(text.replace("seed: [0, 1]", "seed: [0]").replace("[0.2, 1.0]", "[0.2]"))
    (run,) = expand(load_experiment("tiny", experiments), "smoke", SCHEMAS)
    found = []
    for processes in (1, 2):
        folder = results / str(processes)
        ended = execute_all([run], folder, Resources(("cpu",) * processes, 1, processes), 60.0, lambda event: None)
        assert ended[run.id].ending == "completed", ended
        found.append(next(iter(records(folder).values()))["final"])
    one, two = found
    assert two["steps"] == one["steps"]
    assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)
    assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
    assert two["test_top1"] == pytest.approx(one["test_top1"], abs=100 / 33 + 1e-6)  # an image at the border
