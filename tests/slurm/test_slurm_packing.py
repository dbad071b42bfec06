"""Runs that share a job's GPU or CPUs, on a real SLURM: each is on its own, and all come back together."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import submitit
from submitted_sweep import LONG, PROFILE, Slurm, done, evaluated, job_of, logs, records, wait_until, what_was_found
from tiny_experiment import TINY, Call

from nfrepro.runs import lock as run_lock

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def of_job(results: Path, job: str) -> list[dict[str, Any]]:
    return [record for record in records(results).values() if job_of(record) == job]


def test_packed_runs_are_on_their_own_and_requeued_together(
    slurm: Slurm, submit: Call, experiments: Path, results: Path, undisturbed: dict[str, Any]
) -> None:
    (experiments / "tiny.yaml").write_text(LONG)
    packed = PROFILE + "gpus_per_run: 1\ndevice: cpu\nruns_per_gpu: 2\n"
    submitted = submit(profile=packed)
    assert "4 queued in 2 jobs" in submitted.stdout, submitted.stderr
    # All four are at it at once: the first evaluation is behind each of them, the last is not.
    wait_until(lambda: evaluated(results) == 4)
    first, second = sorted({job_of(record) for record in records(results).values()})
    assert slurm("squeue", "-h", "-j", first, "-o", "%C").strip() == "2"
    slurm("scancel", f"--signal={submitit.JobEnvironment.USR_SIG}", first)
    killed, kept = (record["id"] for record in of_job(results, second))
    worker = run_lock.holder(results / "runs" / killed)
    assert worker is not None
    os.kill(worker.process, signal.SIGKILL)
    wait_until(lambda: not slurm("squeue", "-h"))
    assert [(record["status"], record["executions"]) for record in of_job(results, first)] == [("completed", 2)] * 2
    assert logs(results).count("goes back to the queue") == 1
    assert [records(results)[run]["executions"] for run in (killed, kept)] == [2, 1]
    assert "its worker process was killed by SIGKILL (out of memory?); another worker continues the run" in logs(
        results
    )
    assert done(results)
    assert what_was_found(results) == undisturbed


def test_a_run_that_fails_is_recorded_once_and_stops_no_other(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    # One arm asks for batches larger than its data set.
    (experiments / "tiny.yaml").write_text(TINY.replace("seed: [0, 1]", "train.batch_size: [16, 200]"))
    profile = PROFILE + "runs_per_job: 4\nruns_per_gpu: 2\n"
    assert submit(profile=profile).returncode == 0
    wait_until(lambda: not slurm("squeue", "-h"))
    ended = sorted((record["status"], record["executions"]) for record in records(results).values())
    assert ended == [("completed", 1)] * 2 + [("failed", 1)] * 2
    assert logs(results).count("failed: InputError: batch size 200 is more than the 96 train images") == 2
    assert "goes back to the queue" not in logs(results)
    again = submit(profile=profile)
    assert again.stderr.splitlines()[-1] == "4 runs: 2 done, 2 failed"
    assert again.stdout == "nothing to submit\n"
