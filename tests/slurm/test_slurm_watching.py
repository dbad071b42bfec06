"""Sweeps on a real SLURM as they are seen, read and stopped from another shell."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import TINY, Call

from nfrepro.launch.watching import Watching
from nfrepro.runs import lock as run_lock
from nfrepro.runs.status import Row
from nfrepro.specs import expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Slurm = Callable[..., str]
Rows = Callable[[], list[Row]]

HERE = ("tiny", "--scale", "smoke")
# Some seconds of training a run: long enough to be hit in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 4000").replace("epochs: 2", "epochs: 6")


@pytest.fixture(autouse=True)
def nothing_left_behind(slurm: Slurm) -> Iterator[None]:
    yield
    for job in set(slurm("squeue", "-h", "-o", "%A").split()):
        slurm("scancel", job)
    wait_until(lambda: not slurm("squeue", "-h"))


@pytest.fixture
def submit(nfrepro: Call, experiments: Path) -> Call:
    def call(profile: str = "") -> Any:
        (experiments / "here.yaml").write_text("partition: main\ntimeout_min: 60\n" + profile)
        return nfrepro("sweep", *HERE, "--executor", "slurm", "--cluster", str(experiments / "here.yaml"))

    return call


@pytest.fixture
def rows(experiments: Path, results: Path) -> Rows:
    """What `status` knows now."""
    return lambda: Watching(expand(load_experiment("tiny", experiments), "smoke", SCHEMAS), results).rows()


def wait_until(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)


def job_of(results: Path, row: Row) -> str:
    found = run_lock.holder(results / "runs" / row.id)
    assert found is not None
    assert found.job is not None
    return found.job


def executions(results: Path, row: Row) -> int:
    return int(json.loads((results / "runs" / row.id / "run.json").read_text())["executions"])


def test_a_run_is_queued_running_requeued_and_completed(
    slurm: Slurm, submit: Call, nfrepro: Call, rows: Rows, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("seed: [0, 1]", "seed: [0]"))
    assert submit("array_parallelism: 1\n").returncode == 0
    assert [row.state for row in rows()] in (["queued", "queued"], ["running", "queued"])
    wait_until(lambda: rows()[0].rate)
    first, second = rows()
    assert (first.state, first.requeues, second.state, second.requeues) == ("running", 0, "queued", None)
    waiting = job_of(results, first).replace("_0", "_1")
    slurm("scontrol", "hold", waiting)
    told = nfrepro("status", *HERE).stderr
    assert told.startswith("SLURM holds 1 of the jobs back (JobHeld")
    slurm(*told.strip().partition("calls: ")[2].split())
    assert nfrepro("status", *HERE).stderr == ""
    slurm("scontrol", "requeue", job_of(results, first))
    wait_until(lambda: rows()[0].state == "requeued")
    assert rows()[0].requeues == 1
    # Watching goes on until all is done.
    watched = nfrepro("status", *HERE, "--watch")
    assert watched.returncode == 0
    assert watched.stdout.splitlines()[-1] == "2 runs: 2 completed"
    told = [line.split()[1] for line in watched.stdout.splitlines() if first.id in line]
    assert told[0] == "requeued"
    assert told[-1] == "completed"
    assert set(told) <= {"requeued", "running", "completed"}
    assert [(row.state, row.requeues) for row in rows()] == [("completed", 1), ("completed", 0)]
    log = nfrepro("logs", "tiny", first.id, "--scale", "smoke").stdout
    assert log.count("_log.out <==") == 1
    assert log.count("submitit INFO") > 1
    assert f"{first.id}: completed: top1" in log
    assert second.id not in log


def test_what_is_cancelled_stays_cancelled_until_the_next_sweep(
    slurm: Slurm, submit: Call, nfrepro: Call, rows: Rows, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("epochs: 6", "epochs: 40"))
    slurm("sbatch", "--job-name=tiny-smoke-0001", "--output=/dev/null", "--wrap=sleep 600")  # a stranger
    assert submit("runs_per_job: 2\n").returncode == 0
    wait_until(lambda: rows()[0].rate)
    one = nfrepro("cancel", "tiny", rows()[0].id, "--scale", "smoke")
    assert one.stdout == f"cancelled  {rows()[0].id}  saves and stops at its next step\n"
    # Its job goes on with the other run, also when it is requeued.
    wait_until(lambda: [row.state for row in rows()] == ["cancelled", "running", "running", "queued"])
    slurm("scontrol", "requeue", job_of(results, rows()[1]))
    wait_until(lambda: rows()[1].state == "requeued")
    wait_until(lambda: [row.state for row in rows()][:2] == ["cancelled", "running"])
    assert [executions(results, row) for row in rows()[:2]] == [1, 2]
    everything = nfrepro("cancel", *HERE)
    assert everything.stdout.count("cancelled  ") == 3
    assert "SLURM jobs cancelled: " in everything.stdout
    wait_until(lambda: len(slurm("squeue", "-h").splitlines()) == 1)
    assert "tiny-smo" in slurm("squeue", "-h")
    assert [row.state for row in rows()] == ["cancelled"] * 4
    assert nfrepro("cancel", *HERE).stdout == "nothing to cancel\n"
    again = submit("runs_per_job: 1\n")
    assert again.stderr == "4 runs: 4 to submit\n"
    wait_until(lambda: [row.state for row in rows()].count("running") >= 2)
    assert [executions(results, row) for row in rows()[:2]] == [2, 3]
