"""Sweeps on a real SLURM: submitted once, done once, and the same bits whatever happens on the way."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import submitit
from submitted_sweep import (
    LONG,
    PROFILE,
    TWO_RUNS,
    Slurm,
    done,
    evaluated,
    has_the_id_of_its_array,
    job_of,
    logs,
    records,
    submission_call,
    wait_until,
    what_was_found,
)
from tiny_experiment import Call, command

import nfrepro as package
from nfrepro.runs import lock as run_lock

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_sweep_is_submitted_once_and_done_once(slurm: Slurm, submit: Call, results: Path) -> None:
    profile = PROFILE + "gpus_per_run: 1\ndevice: cpu\nmax_array_size: 3\n"
    shown = submit("--dry-run", profile=profile).stdout
    first = submit(profile=profile)
    assert first.returncode == 0, first.stderr
    assert "submitted 4 runs: 4 queued in 4 jobs of up to 60 min" in first.stdout
    second = submit(profile=profile)
    assert second.returncode == 0, second.stderr
    assert second.stdout == "nothing to submit\n"
    given = [path for path in results.glob(".slurm/tiny/smoke/0001/jobs/*_submission.sh") if not path.is_symlink()]
    assert shown == "".join(path.read_text() + "\n" for path in sorted(given))
    wait_until(lambda: done(results))
    assert {record["executions"] for record in records(results).values()} == {1}
    environments = [record["provenance"]["environment"] for record in records(results).values()]
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment in environments} == {"0", "1"}
    assert submit(profile=profile).stderr.splitlines()[-1] == "4 runs: 4 done"
    assert len(list(results.glob(".slurm/tiny/smoke/[0-9]*"))) == 1


def test_jobs_run_the_code_of_their_submission(slurm: Slurm, experiments: Path, results: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(Path(package.__file__).parent, checkout / "nfrepro")
    (experiments / "here.yaml").write_text(
        PROFILE + f"runs_per_job: 4\nsetup:\n  - while [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n"
    )
    line, environment = command(experiments, results, submission_call(experiments))
    environment["PYTHONPATH"] = str(checkout)
    subprocess.run(line, env=environment, cwd=checkout, check=True)
    (checkout / "nfrepro" / "launch" / "execute.py").write_text("raise RuntimeError('edited later')\n")
    (tmp_path / "go").touch()
    wait_until(lambda: done(results))


def test_whatever_happens_results_are_those_of_an_undisturbed_sweep(
    slurm: Slurm, submit: Call, experiments: Path, results: Path, undisturbed: dict[str, Any]
) -> None:
    (experiments / "tiny.yaml").write_text(LONG)
    assert submit(profile=PROFILE + "array_parallelism: 4\n").returncode == 0
    # The first evaluation is behind each of them, the last is not.
    wait_until(lambda: evaluated(results) == 4)
    running = sorted(records(results).values(), key=has_the_id_of_its_array, reverse=True)
    signalled, requeued, killed, cancelled = map(job_of, running)
    chosen = submitit.JobEnvironment.USR_SIG
    slurm("scancel", f"--signal={chosen}", signalled)
    slurm("scontrol", "requeue", requeued)
    slurm("scancel", "--signal=KILL", killed)
    slurm("scancel", cancelled)
    wait_until(lambda: not slurm("squeue", "-h"))
    states = {job_of(record): record for record in records(results).values()}
    for job in (signalled, requeued):
        assert states[job]["status"] == "completed"
        assert states[job]["executions"] == 2
        assert states[job]["provenance"]["environment"]["SLURM_RESTART_COUNT"] == "1"
    for job in (killed, cancelled):  # neither came back by itself
        assert states[job]["status"] == "running"
    again = submit()
    assert again.stderr.splitlines()[-1] == "4 runs: 2 done, 2 to submit"
    wait_until(lambda: done(results))
    assert what_was_found(results) == undisturbed


def test_a_dead_node_and_a_more_important_job_cost_no_run(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(
        LONG.replace("seed: [0, 1]", "seed: [0]").replace("epochs: 40", "epochs: 80")
    )
    # A job has all GPUs of its node: one node dies, the other is wanted by partition `high`.
    assert submit(profile=PROFILE + "gpus_per_run: 2\nprocesses_per_run: 1\ndevice: cpu\n").returncode == 0
    wait_until(lambda: evaluated(results) == 2)
    record = next(iter(records(results).values()))
    job, old = job_of(record), run_lock.holder(results / "runs" / record["id"])
    node = slurm("squeue", "-h", "-j", job, "-o", "%N").strip()
    (other,) = {"node1", "node2"} - {node}
    slurm("sbatch", "--partition=high", "--exclusive", f"--nodelist={other}", "--output=/dev/null", "--wrap=sleep 3")
    folder = Path(os.environ["SLURM_CONF"]).parent
    assert old is not None
    os.kill(old.process, signal.SIGSTOP)  # or it may end before its successor begins
    os.kill(int((folder / "run" / f"{node}.pid").read_text()), signal.SIGKILL)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")
    # The process on the lost node lives on beside its successor, which waits for it.
    wait_until(lambda: "an earlier start of this job is still at it" in logs(results))
    os.kill(old.process, signal.SIGKILL)
    wait_until(lambda: done(results, runs=2))
    assert [record["executions"] for record in records(results).values()] == [2, 2]


def test_requeues_are_limited(slurm: Slurm, submit: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("seed: [0, 1]", "seed: [0]"))
    profile = PROFILE + "runs_per_job: 2\nmax_requeues: 0\n"
    assert submit(profile=profile).returncode == 0
    wait_until(lambda: evaluated(results) == 1)
    (record,) = records(results).values()
    slurm("scancel", f"--signal={submitit.JobEnvironment.USR_SIG}", job_of(record))
    wait_until(lambda: not slurm("squeue", "-h"))
    assert "not requeued: it was 0 times, and max_requeues is 0" in logs(results)
    assert submit().stderr == "2 runs: 2 to submit\n"
    wait_until(lambda: done(results, runs=2))


def test_an_array_that_was_accepted_although_sbatch_failed_is_withdrawn(
    slurm: Slurm, submit: Call, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = shutil.which("sbatch"), os.environ["PATH"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/sh\n{real} "$@" >/dev/null\necho timed out >&2\nexit 1\n')
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{path}")
    together = PROFILE + "runs_per_job: 4\n"
    refused = submit(profile=together)
    assert refused.returncode == 2
    assert "timed out; nothing was submitted" in refused.stderr
    monkeypatch.setenv("PATH", path)
    wait_until(lambda: not slurm("squeue", "-h"))
    assert submit(profile=together).stderr == "4 runs: 4 to submit\n"
    wait_until(lambda: done(results))
    assert {record["executions"] for record in records(results).values()} == {1}


def test_a_job_may_submit_a_sweep(slurm: Slurm, experiments: Path, results: Path, tmp_path: Path) -> None:
    (experiments / "here.yaml").write_text(PROFILE + "runs_per_job: 4\n")
    line, environment = command(experiments, results, submission_call(experiments))
    job = ["sbatch", "--ntasks=2", f"--output={tmp_path}/log", f"--wrap={' '.join(line)}"]
    subprocess.run(job, env=environment, check=True, stdout=subprocess.DEVNULL)
    wait_until(lambda: done(results))
    assert "submitted 4 runs" in (tmp_path / "log").read_text()
    assert {record["executions"] for record in records(results).values()} == {1}


def test_without_a_controller_nothing_is_submitted(slurm: Slurm, submit: Call, results: Path) -> None:
    nodes = ",".join(sorted(set(slurm("sinfo", "-h", "-N", "-o", "%N").split())))
    slurm("scontrol", "update", f"nodename={nodes}", "state=drain", "reason=test")  # so that no run ends before it
    try:
        assert submit(profile=PROFILE + "runs_per_job: 4\n").returncode == 0
        time.sleep(6)  # until it has stored what it was given
        folder = Path(os.environ["SLURM_CONF"]).parent
        os.kill(int((folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
        refused = submit()
        assert refused.returncode == 2
        assert "SLURM does not answer" in refused.stderr
    finally:
        slurm("up")
        resume = ["scontrol", "update", f"nodename={nodes}", "state=resume"]
        subprocess.run(resume, check=False, stderr=subprocess.DEVNULL)  # the killed controller may have forgotten it
    wait_until(lambda: done(results))
    assert len(list(results.glob(".slurm/tiny/smoke/[0-9]*"))) == 1


def test_a_submission_of_several_arrays_keeps_to_its_parallelism(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(TWO_RUNS)
    assert submit(profile=PROFILE + "max_array_size: 1\narray_parallelism: 1\n").returncode == 0
    waiting = slurm("squeue", "-h", "-o", "%E").split()
    assert any(dependency.startswith("afterany:") for dependency in waiting)
    at_once = []
    while states := slurm("squeue", "-h", "-r", "-o", "%T").split():
        at_once.append(states.count("RUNNING"))
        time.sleep(0.1)
    assert max(at_once) == 1
    assert done(results, runs=2)


def test_at_its_time_limit_a_job_saves_and_comes_back(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(TWO_RUNS.replace("epochs: 2", "epochs: 100000"))
    limited = PROFILE.replace("60", "1") + "seconds_to_save: 20\nruns_per_job: 2\n"
    assert submit(profile=limited).returncode == 0
    wait_until(lambda: "goes back to the queue, for the 1. time" in logs(results))
    (folder,) = results.glob("runs/*")
    saved = {path.name for path in folder.glob("checkpoint-*.pt")}
    rows = len((folder / "metrics.jsonl").read_text().splitlines())
    assert saved
    assert rows > 0
    wait_until(lambda: len((folder / "metrics.jsonl").read_text().splitlines()) > rows)
    (record,) = records(results).values()
    assert (record["executions"], record["provenance"]["environment"]["SLURM_RESTART_COUNT"]) == (2, "1")


@pytest.fixture
def small_disk(results: Path) -> Iterator[Path]:
    """The results on a file system of 16 MiB."""
    results.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(results)], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    yield results
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def test_a_full_disk_leaves_nothing_half_written(
    slurm: Slurm, submit: Call, experiments: Path, small_disk: Path, results: Path, tmp_path: Path
) -> None:
    (experiments / "tiny.yaml").write_text(TWO_RUNS)
    waits = f"setup:\n  - while [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n"
    assert submit(profile=PROFILE + waits).returncode == 0
    with contextlib.suppress(OSError), open(small_disk / "fill", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    (tmp_path / "go").touch()
    wait_until(lambda: not slurm("squeue", "-h"))
    assert not records(results)
    assert not list(results.rglob("*.tmp"))
    (small_disk / "fill").unlink()
    assert submit().stderr == "2 runs: 2 to submit\n"
    wait_until(lambda: done(results, runs=2))
