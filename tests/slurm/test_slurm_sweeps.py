"""Sweeps on a real SLURM: submitted once, done once, and the same bits whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import submitit
from tiny_experiment import TINY, Call, command

import nfrepro as package
from nfrepro.evidence import claim

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Slurm = Callable[..., str]  # calls a command of SLURM

PROFILE = "partition: main\ntimeout_min: 60\n"
# Some seconds of training a run: long enough to be hit in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 4000").replace("epochs: 2", "epochs: 6")
TIMES = ("train_seconds", "data_seconds", "images_per_second")


@pytest.fixture(autouse=True)
def nothing_left_behind(slurm: Slurm) -> Iterator[None]:
    yield
    slurm("up")
    for job in set(slurm("squeue", "-h", "-o", "%A").split()):
        slurm("scancel", job)
    wait_until(lambda: not slurm("squeue", "-h"))


@pytest.fixture
def submit(nfrepro: Call, experiments: Path) -> Call:
    """`submit(*arguments, profile=…)`: `nfrepro sweep tiny --executor slurm`."""

    def call(*arguments: str, profile: str = PROFILE) -> "subprocess.CompletedProcess[str]":
        (experiments / "here.yaml").write_text(profile)
        return nfrepro(*submission_call(experiments), *arguments)

    return call


def submission_call(experiments: Path) -> list[str]:
    line = ["sweep", "tiny", "--scale", "smoke", "--executor", "slurm", "--checkpoint-seconds", "3600"]
    return [*line, "--cluster", str(experiments / "here.yaml")]


def wait_until(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)


def records(results: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in results.glob("tiny/smoke/*/run.json")]
    return {record["id"]: record for record in found}


def done(results: Path, runs: int = 4) -> bool:
    return [record["status"] for record in records(results).values()] == ["completed"] * runs


def job_of(record: dict[str, Any]) -> str:
    environment = record["provenance"]["environment"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return str(environment["SLURM_JOB_ID"])


def has_the_id_of_its_array(record: dict[str, Any]) -> bool:
    environment = record["provenance"]["environment"]
    return bool(environment["SLURM_JOB_ID"] == environment["SLURM_ARRAY_JOB_ID"])


def logs(results: Path) -> str:
    return "".join(path.read_text() for path in sorted(results.glob(".slurm/tiny/smoke/*/jobs/*_log.out")))


def what_was_found(results: Path) -> dict[str, Any]:
    """Everything that may not depend on when and where a run executed; the digest of its weights is part of it."""

    def lasting(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in TIMES}

    return {
        name: (
            lasting(record["final"]),
            [
                lasting(json.loads(line))
                for line in (results / "tiny" / "smoke" / name / "metrics.jsonl").read_text().splitlines()
            ],
        )
        for name, record in records(results).items()
    }


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
    assert submit(profile=profile).stderr == "4 runs: 4 done\n"
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
    (checkout / "nfrepro" / "launch" / "job.py").write_text("raise RuntimeError('edited later')\n")
    (tmp_path / "go").touch()
    wait_until(lambda: done(results))


def test_whatever_happens_results_are_those_of_an_undisturbed_sweep(
    slurm: Slurm, submit: Call, nfrepro: Call, experiments: Path, results: Path, tmp_path: Path
) -> None:
    (experiments / "tiny.yaml").write_text(LONG)
    assert submit(profile=PROFILE + "array_parallelism: 4\n").returncode == 0
    # The first evaluation is behind each of them, the last is not.
    wait_until(lambda: len(list(results.glob("tiny/smoke/*/metrics.jsonl"))) == 4)
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
    assert again.stderr == "4 runs: 2 done, 2 to submit\n"
    wait_until(lambda: done(results))
    line, environment = command(experiments, tmp_path / "undisturbed", ["sweep", "tiny", "--scale", "smoke"])
    subprocess.run([*line, "--threads", "1"], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert what_was_found(results) == what_was_found(tmp_path / "undisturbed")


def test_a_dead_node_and_a_more_important_job_cost_no_run(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("seed: [0, 1]", "seed: [0]"))
    # A job fills a node: one dies, the other is wanted by partition `high`.
    assert submit(profile=PROFILE + "cpus_per_run: 2\n").returncode == 0
    wait_until(lambda: len(list(results.glob("tiny/smoke/*/metrics.jsonl"))) == 2)
    record = next(iter(records(results).values()))
    job, old = job_of(record), claim.holder(results / "tiny" / "smoke" / record["id"])
    node = slurm("squeue", "-h", "-j", job, "-o", "%N").strip()
    (other,) = {"node1", "node2"} - {node}
    slurm("sbatch", "--partition=high", "--exclusive", f"--nodelist={other}", "--output=/dev/null", "--wrap=sleep 3")
    folder = Path(os.environ["SLURM_CONF"]).parent
    os.kill(int((folder / "run" / f"{node}.pid").read_text()), signal.SIGKILL)
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")
    # The process on the lost node lives on beside its successor, which waits for it.
    wait_until(lambda: "an earlier start of this job is still at it" in logs(results))
    assert old is not None
    os.kill(old.process, signal.SIGKILL)
    wait_until(lambda: done(results, runs=2))
    assert [record["executions"] for record in records(results).values()] == [2, 2]


def test_requeues_are_limited(slurm: Slurm, submit: Call, experiments: Path, results: Path) -> None:
    (experiments / "tiny.yaml").write_text(LONG.replace("seed: [0, 1]", "seed: [0]"))
    profile = PROFILE + "runs_per_job: 2\nmax_requeues: 0\n"
    assert submit(profile=profile).returncode == 0
    wait_until(lambda: list(results.glob("tiny/smoke/*/metrics.jsonl")))
    (record,) = records(results).values()
    slurm("scancel", f"--signal={submitit.JobEnvironment.USR_SIG}", job_of(record))
    wait_until(lambda: not slurm("squeue", "-h"))
    assert "not requeued: it was 0 times, and max_requeues is 0" in logs(results)
    assert submit().stderr == "2 runs: 2 to submit\n"
    wait_until(lambda: done(results, runs=2))


def test_what_sbatch_refuses_leaves_nothing_behind(slurm: Slurm, submit: Call, results: Path) -> None:
    for profile, reason in (
        (PROFILE.replace("main", "nowhere"), "invalid partition"),
        (PROFILE + "gpus_per_run: 1\ncpus_per_run: 100\n", "more processors requested than permitted"),
        (PROFILE.replace("60", "6000"), "time limit"),
    ):
        refused = submit(profile=profile)
        assert refused.returncode == 2, refused.stdout
        assert refused.stderr.splitlines()[1:] == [refused.stderr.splitlines()[-1]]
        assert refused.stderr.splitlines()[-1].startswith("nfrepro: sbatch refused: ")
        assert reason in refused.stderr.lower()
        assert slurm("squeue", "-h") == ""
    assert not list(results.glob(".slurm/tiny/smoke/*"))


def test_an_array_that_was_accepted_although_sbatch_failed_is_withdrawn(
    slurm: Slurm, submit: Call, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = shutil.which("sbatch"), os.environ["PATH"]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(f'#!/bin/sh\n{real} "$@" >/dev/null\necho timed out >&2\nexit 1\n')
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{path}")
    refused = submit()
    assert refused.returncode == 2
    assert "timed out; nothing was submitted" in refused.stderr
    monkeypatch.setenv("PATH", path)
    wait_until(lambda: not slurm("squeue", "-h"))
    assert submit().stderr == "4 runs: 4 to submit\n"
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
    assert submit(profile=PROFILE + "runs_per_job: 4\n").returncode == 0
    time.sleep(6)  # until it has stored what it was given
    folder = Path(os.environ["SLURM_CONF"]).parent
    os.kill(int((folder / "run" / "slurmctld.pid").read_text()), signal.SIGKILL)
    refused = submit()
    assert refused.returncode in (0, 2)
    assert "SLURM does not answer" in refused.stderr or "4 done" in refused.stderr
    slurm("up")
    wait_until(lambda: done(results))
