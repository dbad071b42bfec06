"""What the tests of sweeps on a real SLURM share: how they submit, wait and look."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from own_cluster import Slurm as Slurm
from tiny_experiment import TINY

PROFILE = "partition: main\ntimeout_min: 60\n"
# Some seconds of training a run, with its first evaluation soon: to be hit in the middle.
LONG = TINY.replace("train_images: 96", "train_images: 400").replace("epochs: 2", "epochs: 40")
TWO_RUNS = TINY.replace("seed: [0, 1]", "seed: [0]")
TIMES = ("train_seconds", "data_seconds", "images_per_second")


def submission_call(
    experiments: Path, name: str = "tiny", profile: str = "here", checkpoint_seconds: float = 3600
) -> list[str]:
    line = ["sweep", name, "--scale", "smoke", "--executor", "slurm"]
    line += ["--checkpoint-seconds", str(checkpoint_seconds)]
    return [*line, "--cluster", str(experiments / f"{profile}.yaml")]


def wait_until(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.2)


def records(results: Path, name: str = "tiny") -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in results.glob("runs/*/run.json")]
    return {record["id"]: record for record in found if record["experiment"] == name}


def done(results: Path, runs: int = 4) -> bool:
    return [record["status"] for record in records(results).values()] == ["completed"] * runs


def evaluated(results: Path) -> int:
    """How many runs have their first evaluation behind them."""
    return sum(path.stat().st_size > 0 for path in results.glob("runs/*/metrics.jsonl"))


def job_of(record: dict[str, Any]) -> str:
    environment = record["provenance"]["environment"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return str(environment["SLURM_JOB_ID"])


def has_the_id_of_its_array(record: dict[str, Any]) -> bool:
    environment = record["provenance"]["environment"]
    return bool(environment["SLURM_JOB_ID"] == environment["SLURM_ARRAY_JOB_ID"])


def logs(results: Path, name: str = "tiny") -> str:
    return "".join(path.read_text() for path in sorted(results.glob(f".slurm/{name}/smoke/*/jobs/*_log.out")))


def what_was_found(results: Path, name: str = "tiny") -> dict[str, Any]:
    """Of each run with a result: what may not depend on when and where it executed; the digest of its weights too."""

    def lasting(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in TIMES}

    return {
        run: (
            lasting(record["final"]),
            [lasting(json.loads(line)) for line in (results / "runs" / run / "metrics.jsonl").read_text().splitlines()],
        )
        for run, record in records(results, name).items()
        if record["final"] is not None
    }
