"""A real SLURM for the tests of this folder, brought up by slurm-up; skipped where that cannot be."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from own_cluster import own_cluster
from submitted_sweep import LONG, PROFILE, Slurm, submission_call, wait_until, what_was_found
from tiny_experiment import Call, command


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """`slurm("squeue", "-h")`: calls a command of SLURM; `slurm("up")` brings back what a test has killed."""
    if shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None and (
        os.geteuid() != 0 or shutil.which("apt-get") is None
    ):
        pytest.skip("no SLURM here, and only root on Debian can install it: sudo make slurm-up")
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(own_cluster())
        except subprocess.CalledProcessError:
            pytest.skip("slurm-up could not bring up SLURM here; what it said is above")
        yield cluster


@pytest.fixture(autouse=True)
def nothing_left_behind(slurm: Slurm) -> Iterator[None]:
    yield
    slurm("up")
    for job in set(slurm("squeue", "-h", "-o", "%A").split()):
        for how in (["--full", "--signal=KILL"], []):  # at once, if it runs; or it has just ended
            subprocess.run(["scancel", *how, job], check=False, stderr=subprocess.DEVNULL)
    wait_until(lambda: not slurm("squeue", "-h"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a sweep of `LONG` finds on this machine, without SLURM."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.yaml").write_text(LONG)
    line, environment = command(folder, folder / "results", ["sweep", "tiny", "--scale", "smoke", "--threads", "1"])
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    return what_was_found(folder / "results")


@pytest.fixture
def submit(nfrepro: Call, experiments: Path) -> Call:
    """`submit(*arguments, profile=…)`: `nfrepro sweep tiny --executor slurm`."""

    def call(*arguments: str, profile: str = PROFILE) -> "subprocess.CompletedProcess[str]":
        (experiments / "here.yaml").write_text(profile)
        return nfrepro(*submission_call(experiments), *arguments)

    return call
