"""One run by several processes on several nodes of a real SLURM."""

import json
import math
import os
import signal
import subprocess
from pathlib import Path

import pytest
import submitit
from submitted_sweep import PROFILE, Slurm, done, evaluated, job_of, logs, records, wait_until
from tiny_experiment import TINY, Call, command

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

TWO_NODES = "nodes_per_run: 2\nprocesses_per_run: 2\ncpus_per_run: 2\n"
# Processes wait for each other at every step: few steps.
ONE_RUN = TINY.replace("seed: [0, 1]", "seed: [0]").replace("model.alpha: [0.2, 1.0]", "model.alpha: [0.2]")
ONE_RUN = ONE_RUN.replace("train_images: 96", "train_images: 160").replace("epochs: 2", "epochs: 30")


def rows(results: Path, name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (results / "runs" / name / "metrics.jsonl").read_text().splitlines()]


def test_two_nodes_find_what_one_machine_finds(
    slurm: Slurm, submit: Call, experiments: Path, results: Path, tmp_path: Path
) -> None:
    (experiments / "tiny.yaml").write_text(ONE_RUN)
    # As docs/cluster.md says: something copied to every node first, and an address where names mean nothing.
    stage = (
        f"srun --ntasks-per-node=1 --ntasks=$SLURM_JOB_NUM_NODES sh -c 'touch {tmp_path}/$SLURMD_NODENAME' || exit 1"
    )
    setup = f"setup:\n  - export MASTER_ADDR=127.0.0.1\n  - {stage}\n"
    submitted = submit(profile=PROFILE + TWO_NODES + setup)
    assert "1 queued in 1 jobs" in submitted.stdout, submitted.stderr
    wait_until(lambda: evaluated(results) == 1)
    assert {path.name for path in tmp_path.glob("node*")} == {"node1", "node2"}
    (first,) = records(results).values()
    assert first["provenance"]["processes"] == 2
    slurm("scancel", f"--signal={submitit.JobEnvironment.USR_SIG}", job_of(first))
    wait_until(lambda: done(results, runs=1))
    assert logs(results).count("goes back to the queue") == 1
    assert records(results)[first["id"]]["executions"] == 2
    line, environment = command(experiments, tmp_path / "alone", ["sweep", "tiny", "--scale", "smoke"])
    subprocess.run([*line, "--threads", "1"], env=environment, check=True, stdout=subprocess.DEVNULL)
    (name,) = records(tmp_path / "alone")
    for divided, alone in zip(rows(results, name), rows(tmp_path / "alone", name), strict=True):
        # Rounding grows from step to step.
        tolerance = 1e-5 if alone["epoch"] == 1 else 0.1
        assert math.isclose(divided["train_loss"], alone["train_loss"], rel_tol=tolerance)


def test_a_process_that_dies_ends_the_job_and_the_next_sweep_continues(
    slurm: Slurm, submit: Call, experiments: Path, results: Path
) -> None:
    (experiments / "tiny.yaml").write_text(ONE_RUN)
    profile = PROFILE + TWO_NODES + "setup: [export MASTER_ADDR=127.0.0.1]\n"
    assert submit(profile=profile).returncode == 0
    wait_until(lambda: evaluated(results) == 1)
    (record,) = records(results).values()
    (second,) = [process for process in task_processes() if process[1] == "1"]
    os.kill(second[0], signal.SIGKILL)
    wait_until(lambda: not slurm("squeue", "-h"))
    assert records(results)[record["id"]]["status"] == "running"
    assert submit(profile=profile).stderr == "1 run: 1 to submit\n"
    wait_until(lambda: done(results, runs=1))


def task_processes() -> list[tuple[int, str]]:
    """Processes of jobs of this cluster that train, with their ranks."""
    cluster = next(
        line.partition("=")[2]
        for line in Path(os.environ["SLURM_CONF"]).read_text().splitlines()
        if line.startswith("ClusterName=")
    )
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (line.partition("=") for line in (folder / "environ").read_text().split("\0"))
            environment = {name: value for name, _, value in pairs}
            training = "submitit.core._submit" in (folder / "cmdline").read_text()
        except OSError:
            continue
        if training and environment.get("SLURM_CLUSTER_NAME") == cluster and "SLURM_PROCID" in environment:
            found.append((int(folder.name), environment["SLURM_PROCID"]))
    return found
