"""Questions to SLURM: what is in its queue. Each is one call of a command, whatever the number of jobs."""

import subprocess
from collections.abc import Sequence

from nfrepro.errors import InputError

SECONDS_FOR_AN_ANSWER = 60.0


def in_queue(names: Sequence[str]) -> list[tuple[str, str, int]]:
    """Name, job id and place in the array of the jobs with these names that wait or run."""
    lines = ask("squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%j|%F|%K").splitlines()
    fields = [line.strip().split("|") for line in lines if line.count("|") == 2]
    return [(name, job_id, int(index) if index.isdigit() else 0) for name, job_id, index in fields]


def ask(*command: str) -> str:
    """What a command of SLURM says. Raises `InputError` with SLURM's reason where it says nothing."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS_FOR_AN_ANSWER,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"SLURM does not answer: {command[0]}: {error}") from None
    if answer.returncode != 0:
        raise InputError(f"SLURM does not answer: {(answer.stderr.strip().splitlines() or [command[0]])[-1]}")
    return answer.stdout
