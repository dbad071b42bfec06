"""A real SLURM of the caller's own, in a fresh folder; ended with its jobs, however the caller ends."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent

Slurm = Callable[..., str]  # calls a command of SLURM


@contextmanager
def own_cluster(*options: str) -> Iterator[Slurm]:
    """`slurm("squeue", "-h")`: calls a command of SLURM; `slurm("up")` brings back what was killed.

    `options` are those of slurm-up. Raises `CalledProcessError` where SLURM does not come up; slurm-up says why on
    standard error.
    """
    folder = tempfile.mkdtemp(prefix="nfrepro-slurm-", dir="/tmp")  # short, for unix sockets

    def call(*command: str) -> str:
        line = [str(HERE / "slurm-up"), "-c", "2", *options, folder] if command == ("up",) else list(command)
        answer = subprocess.run(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
        return answer.stdout

    another = os.environ.get("SLURM_CONF")
    try:
        os.environ["SLURM_CONF"] = call("up").strip().partition("=")[2]
        yield call
    finally:
        if another is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = another
        # A second Ctrl-C does not reach it.
        subprocess.run([str(HERE / "slurm-down"), folder], check=False, start_new_session=True)
