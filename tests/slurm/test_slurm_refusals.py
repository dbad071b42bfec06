"""What is refused before anything is submitted, by a real SLURM and by one that would accept it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from submitted_sweep import PROFILE, Slurm, done, records, wait_until
from tiny_experiment import Call

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def cluster_folder() -> Path:
    return Path(os.environ["SLURM_CONF"]).parent


@pytest.fixture
def accepts_anything(slurm: Slurm) -> Iterator[None]:
    """A SLURM as most are: what can never run waits for ever."""
    conf = Path(os.environ["SLURM_CONF"])
    strict = conf.read_text()
    conf.write_text(strict.replace("EnforcePartLimits=ALL", "EnforcePartLimits=NO"))
    slurm("scontrol", "reconfigure")
    yield
    conf.write_text(strict)
    slurm("scontrol", "reconfigure")


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (PROFILE.replace("main", "mian"), "partition mian: unknown, did you mean main?; there is: high, main"),
        (PROFILE.replace("60", "1441"), "timeout_min: 1441, but partition main ends every job after 1440 min"),
        (
            PROFILE + "gpus_per_run: 3\ncpus_per_run: 3\n",
            "gpus_per_run: a job wants 3 of a node, but no node of partition main has more than 2",
        ),
        (
            PROFILE + "runs_per_gpu: 3\n",
            "cpus_per_run: a job wants 3 of a node, but no node of partition main has more than 2",
        ),
        (
            PROFILE + "mem_gb: 16\n",
            "mem_gb: a job wants 16384 MB of a node, but no node of partition main has more than 16000",
        ),
        (
            PROFILE + "nodes_per_run: 3\nprocesses_per_run: 3\ncpus_per_run: 3\n",
            "nodes_per_run: 3, but partition main has fewer nodes for such a job",
        ),
    ],
)
@pytest.mark.usefixtures("accepts_anything")
def test_what_no_node_can_do_is_refused_with_its_key(
    slurm: Slurm, submit: Call, results: Path, profile: str, message: str
) -> None:
    refused = submit(profile=profile)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.startswith(f"nfrepro: {message}")
    assert refused.stderr.count("\n") == 1
    assert slurm("squeue", "-h") == ""
    assert not list(results.glob(".slurm/tiny/smoke/*"))


def test_what_only_sbatch_knows_leaves_nothing_behind(slurm: Slurm, submit: Call, results: Path) -> None:
    refused = submit(profile=PROFILE + "constraint: h100\n")
    assert refused.returncode == 2, refused.stdout
    counted, not_tried, last = refused.stderr.splitlines()
    assert counted == "4 runs: 4 to submit"
    assert not_tried.startswith(f"whether nodes see {results} was not tried (srun: error: ")
    assert last == (
        "nfrepro: sbatch refused: Batch job submission failed: Invalid feature specification; nothing was submitted"
    )
    assert slurm("squeue", "-h") == ""
    assert not list(results.glob(".slurm/tiny/smoke/*"))


@contextmanager
def hidden_from_nodes(slurm: Slurm, folder: Path) -> Iterator[None]:
    """Both nodes get a mount namespace of their own, in which `folder` is empty."""
    folder.mkdir(exist_ok=True)
    blind = f'mount -t tmpfs none {folder} && exec slurmd -f "$SLURM_CONF" -N "$0"'
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(folder)], check=False).returncode:
        pytest.skip("this user may not mount a file system")
    for node in ("node1", "node2"):
        end_node(node)
        path = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        subprocess.run(["unshare", "--mount", "sh", "-c", blind, node], env=path, check=True)
    wait_until(lambda: slurm("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").strip() == "2")
    try:
        yield
    finally:
        for node in ("node1", "node2"):
            end_node(node)
        slurm("up")


def end_node(node: str) -> None:
    """Ends its daemon."""
    process = int((cluster_folder() / "run" / f"{node}.pid").read_text())
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{process}").exists())


def test_a_results_folder_that_nodes_do_not_see(slurm: Slurm, submit: Call, results: Path) -> None:
    with hidden_from_nodes(slurm, results):
        refused = submit()
        assert refused.returncode == 2, refused.stdout
        assert refused.stderr.splitlines()[1:] == [refused.stderr.splitlines()[-1]]
        assert f"cannot read {results}/.slurm/tiny/smoke/0001: nodes must see results" in refused.stderr
        assert slurm("squeue", "-h") == ""
        assert not list(results.glob(".slurm/tiny/smoke/*"))
        # No node is free to be asked: the jobs end by themselves before they begin, and the next sweep says so.
        fillers = [
            slurm("sbatch", "--parsable", "--exclusive", "--output=/dev/null", "--wrap=sleep 600").strip()
            for node in ("node1", "node2")
        ]
        wait_until(lambda: slurm("squeue", "-h", "-t", "running", "-o", "%A").split() != [] and not idle(slurm))
        accepted = submit()
        assert accepted.returncode == 0, accepted.stderr
        assert f"whether nodes see {results} was not tried (srun: error: " in accepted.stderr
        slurm("scancel", "--full", "--signal=KILL", *fillers)
        wait_until(lambda: not slurm("squeue", "-h"))
        assert not records(results)
        refused = submit()
        assert refused.returncode == 2
        assert (
            f"4 earlier jobs ended before they began: cancelled, or their nodes do not see {results}" in refused.stderr
        )
    assert submit().returncode == 0
    wait_until(lambda: done(results))


def idle(slurm: Slurm) -> bool:
    return slurm("sinfo", "-h", "-p", "main", "-t", "idle", "-o", "%D").strip() not in ("", "0")
