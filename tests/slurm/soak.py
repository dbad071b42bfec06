"""The soak: sweeps of many small runs on a real SLURM, disturbed at random moments until all is done, then examined.

    make soak        # or, with options: PYTHONPATH=tests .venv/bin/python tests/slurm/soak.py --seed 1 --runs 40

It brings up a SLURM of its own and ends it, also after Ctrl-C. Exit status 1 if anything is wrong; its files then stay.
"""

import os
import platform
import signal
import subprocess
import tempfile
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from own_cluster import own_cluster
from soak_call import BEGAN, call, conclude, parse_options, say
from soak_faults import KINDS, Fault, schedule, strike
from soak_sweeps import PROFILES, Sweeps, describe, found
from soak_verdict import (
    Account,
    begun_too_often,
    differences,
    left_behind,
    not_completed,
    report,
    requeues,
    trained_twice,
)
from tiny_experiment import command

from nfrepro.launch.scheduler import ask

ROUNDS = 3  # of faults, each with every kind
SECONDS_BETWEEN_LOOKS = 0.3
SECONDS_BETWEEN_LINES = 15.0


def main() -> int:
    """The exit status."""
    options = parse_options("Sweeps on a real SLURM, disturbed until all is done.", minutes=15, report="docs/soak.md")
    signal.signal(signal.SIGTERM, end)
    folder = Path(tempfile.mkdtemp(prefix="nfrepro-soak-"))
    runs = describe(folder / "experiments", options.runs)
    deadline = BEGAN + 60 * options.minutes
    say(f"{runs} runs, seed {options.seed}; files: {folder}")
    seconds_undisturbed = sweep_undisturbed(folder / "experiments", folder / "undisturbed")
    with own_cluster() as slurm:
        sweeps = Sweeps(folder / "experiments", folder / "results", slurm)
        machine = describe_machine()
        began = time.monotonic()
        struck = disturb(sweeps, runs, schedule(options.seed, ROUNDS), deadline)
        seconds = time.monotonic() - began
        wrong = sweeps.problems + examine(sweeps, folder / "undisturbed", sum(struck.values()))
    account = Account(
        seed=options.seed,
        machine=machine,
        runs=runs,
        faults={kind: struck[kind] for kind in KINDS},
        submissions=sweeps.submissions,
        released=sweeps.released,
        requeues=requeues(sweeps.logs()),
        executions=sweeps.executions(),
        seconds_undisturbed=seconds_undisturbed,
        seconds=seconds,
        wrong=wrong,
    )
    text = report(account)
    return conclude(text, wrong, options.report, folder)


def sweep_undisturbed(experiments: Path, results: Path) -> float:
    """By the local queue, both sweeps at the same time. Returns seconds. Raises `CalledProcessError`."""
    began = time.monotonic()
    calls = [command(experiments, results, ["sweep", name, "--scale", "smoke", "--threads", "1"]) for name in PROFILES]
    nothing = subprocess.DEVNULL
    sweeps = [subprocess.Popen(line, env=environment, stdout=nothing, stderr=nothing) for line, environment in calls]
    while any(sweep.poll() is None for sweep in sweeps):
        say(f"{len(found(results))} runs done undisturbed")
        time.sleep(SECONDS_BETWEEN_LINES)
    for sweep in sweeps:
        if sweep.returncode != 0:
            raise subprocess.CalledProcessError(sweep.returncode, sweep.args)
    return time.monotonic() - began


def disturb(sweeps: Sweeps, runs: int, faults: Sequence[Fault], deadline: float) -> Counter[str]:
    """Submits, and lets faults strike, until all is done and the queue is empty. Which struck, by kind."""
    struck: Counter[str] = Counter()
    waiting, due, told = deque(faults), None, 0.0
    while (queued := sweeps.queued()) or sweeps.done() < runs:
        done = sweeps.done()
        now = time.monotonic()
        if now > deadline:
            sweeps.problems.append(f"the time is over: {done} of {runs} runs are done, {queued} jobs are in the queue")
            say(ask("squeue"))
            break
        if now - told > SECONDS_BETWEEN_LINES:
            say(f"{done}/{runs} runs done, {queued} jobs in the queue, {struck.total()}/{len(faults)} faults")
            sweeps.mend()
            told = now
        if not queued:
            say(f"{done}/{runs} runs done, none queued: {sweeps.submit()} submissions")
        elif waiting and done >= waiting[0].share * runs:
            due = due or now + waiting[0].delay
            whom = strike(waiting[0], sweeps) if now >= due else None
            if whom is not None:
                fault, due = waiting.popleft(), None
                struck[fault.kind] += 1
                say(f"{done}/{runs} runs done, {fault.kind}: {whom}")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return struck


def examine(sweeps: Sweeps, undisturbed: Path, faults: int) -> list[str]:
    """What is wrong."""
    return [
        *differences(found(undisturbed), found(sweeps.results)),
        *trained_twice(sweeps.logs()),
        *begun_too_often(sweeps.executions(), faults),
        *left_behind(undisturbed, sweeps.results),
        *not_completed(sweeps.states()),
    ]


def describe_machine() -> str:
    """As a sentence."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    slurm, load = ask("sinfo", "--version").strip(), os.getloadavg()[0]
    return (
        f"One machine with {os.cpu_count()} cores holds the controller and two nodes of {slurm} ({system}); "
        f"its load average was {load:.1f} before the first job."
    )


def end(number: int, frame: FrameType | None) -> None:
    """On SIGTERM: as on Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    call(main)
