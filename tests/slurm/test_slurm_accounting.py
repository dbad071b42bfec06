"""A SLURM that keeps accounts: jobs need one, and its books agree with the results."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from own_cluster import own_cluster
from submitted_sweep import PROFILE, Slurm, done, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def books(slurm: Slurm) -> Iterator[Slurm]:
    with own_cluster("-a") as cluster:
        yield cluster


@pytest.mark.parametrize("profile", ["account: nobody\n", "account: nfrepro\nqos: urgent\n"])
def test_an_account_or_qos_that_is_unknown_leaves_nothing_behind(
    books: Slurm, submit: Callable[..., Any], results: Path, profile: str
) -> None:
    refused = submit(profile=PROFILE + profile)
    assert refused.returncode == 2
    assert "nothing was submitted" in refused.stderr
    assert "Invalid account" in refused.stderr or "Invalid qos" in refused.stderr
    assert books("squeue", "-h") == ""
    assert not list(results.glob(".slurm/tiny/smoke/*"))


def test_jobs_are_on_the_books_of_their_account(books: Slurm, submit: Callable[..., Any], results: Path) -> None:
    assert submit(profile=PROFILE + "account: nfrepro\nqos: normal\nruns_per_job: 2\n").returncode == 0
    wait_until(lambda: done(results))
    wait_until(lambda: not books("squeue", "-h"))
    kept = books("sacct", "-X", "-n", "-P", "--format=jobname,account,qos,state").split()
    assert len(kept) == 3  # and the one that was asked whether its node sees the results
    assert {line.partition("|")[2] for line in kept} == {"nfrepro|normal|COMPLETED"}
