"""What the soak must find in the end, each check a list of what is wrong; and its report."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How a job tells that it has trained a run to the end itself.
TRAINED = re.compile(
    r"^\d\d:\d\d:\d\d (\S+): completed: (?!was done before|executed by another sweep)", flags=re.MULTILINE
)
STARTED = re.compile(r"Starting with JobEnvironment\(job_id=(\w+)")

INTRODUCTION = """\
# A soak of sweeps on SLURM

Written by `make soak`: two sweeps of small runs, packed into jobs (in one of them two at a time), are disturbed at
random moments and submitted again until all is done. Then every run must be there, have been trained to the end once,
equal that of an undisturbed sweep by the local queue to the last bit (weights and metrics; times are left out), be
`completed` by `nfrepro status`, and leave no claim, checkpoint, progress or temporary file.
"""


def differences(undisturbed: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Runs that are missing, that nobody asked for, or that found something else, be it one bit."""
    missing = [f"{run}: has no result" for run in undisturbed if run not in found]
    strange = [f"{run}: is no run of these sweeps" for run in found if run not in undisturbed]
    other = [f"{run}: its result differs" for run in found if run in undisturbed and found[run] != undisturbed[run]]
    return missing + strange + other


def trained_twice(logs: Mapping[str, str]) -> list[str]:
    """Runs that were trained to the end more than once, by the logs of all jobs of each sweep."""
    ends = Counter(f"{name}/{run}" for name, text in logs.items() for run in TRAINED.findall(text))
    return [f"{run}: trained to the end {count} times" for run, count in ends.items() if count > 1]


def begun_too_often(executions: Mapping[str, int], faults: int) -> list[str]:
    """Runs that were begun more often than faults can explain, or never."""
    wrong = {run: count for run, count in executions.items() if not 1 <= count <= 1 + faults}
    return [f"{run}: begun {count} times, with {faults} faults" for run, count in wrong.items()]


def left_behind(undisturbed: Path, results: Path) -> list[str]:
    """What an undisturbed sweep does not leave: claims, checkpoints, progress, temporary files."""
    expected = {path.relative_to(undisturbed) for path in undisturbed.glob("runs/*/*")}
    there = {path.relative_to(results) for path in results.glob("runs/*/*")}
    locks = {path.relative_to(results) for path in results.glob(".slurm/*/*/*claim*")}
    return [f"{path}: left behind" for path in sorted((there - expected) | locks)]


def requeues(logs: Mapping[str, str]) -> int:
    """How often a job was started again."""
    starts = Counter(job for text in logs.values() for job in STARTED.findall(text))
    return sum(count - 1 for count in starts.values())


def not_completed(states: Mapping[str, str]) -> list[str]:
    return [f"{run}: status says {state}" for run, state in states.items() if state != "completed"]


@dataclass(frozen=True)
class Account:
    """Of a whole soak."""

    seed: int
    machine: str
    runs: int
    faults: Mapping[str, int]  # how many struck, by kind; 0 too
    submissions: int
    released: int  # jobs
    requeues: int
    executions: Mapping[str, int]  # of each run
    seconds_undisturbed: float
    seconds: float
    wrong: Sequence[str]


def report(account: Account) -> str:
    """As Markdown."""
    again = sum(count > 1 for count in account.executions.values())
    numbers = {
        "seed": account.seed,
        "runs": account.runs,
        "faults": sum(account.faults.values()),
        "submissions": account.submissions,
        "jobs started again by SLURM": account.requeues,
        "jobs that SLURM held after a fault, released": account.released,
        "runs begun more than once": again,
        "times a run was begun, all runs together": sum(account.executions.values()),
        "wall time, undisturbed by the local queue": f"{account.seconds_undisturbed:.0f} s",
        "wall time, disturbed on SLURM": f"{account.seconds:.0f} s",
        "runs per minute, disturbed on SLURM": f"{60 * account.runs / account.seconds:.0f}",
    }
    verdict = f"failed, {len(account.wrong)} findings" if account.wrong else "passed"
    return "\n".join(
        [
            INTRODUCTION,
            account.machine,
            "",
            f"**Verdict: {verdict}.**",
            "",
            *(f"- {finding}" for finding in account.wrong),
            *([""] if account.wrong else []),
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {number} |" for name, number in numbers.items()),
            "",
            "| fault | times |",
            "| --- | --- |",
            *(f"| {kind} | {times} |" for kind, times in account.faults.items()),
            "",
        ]
    )
