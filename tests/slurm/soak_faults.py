"""What is done to the sweeps of the soak, and when, by the seed. Whom it strikes also depends on who is there."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import submitit
from soak_sweeps import Sweeps

from nfrepro.errors import InputError
from nfrepro.launch.scheduler import ask
from nfrepro.runs import lock as run_lock

Item = TypeVar("Item")

# SLURM stores what it was told within five seconds; what is younger when the controller is killed is lost.
SECONDS_TO_STORE = 6.0
SECONDS_TO_TELL = 4.0
QUIET: dict[str, int] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}


@dataclass(frozen=True)
class Fault:
    kind: str
    share: float  # of the runs: once so many are done, it is due
    delay: float  # seconds after that
    pick: float  # from 0 to 1: whom it strikes, and how long it lasts


def schedule(seed: int, rounds: int) -> tuple[Fault, ...]:
    """Every kind of fault once a round, each round in an order of its own, at moments spread over the sweeps."""
    draws = random.Random(seed)
    kinds = [kind for _ in range(rounds) for kind in draws.sample(list(KINDS), len(KINDS))]
    shares = sorted(draws.uniform(0.0, 0.85) for _ in kinds)
    return tuple(
        Fault(kind, share, draws.uniform(0.0, 2.0), draws.random()) for kind, share in zip(kinds, shares, strict=True)
    )


def strike(fault: Fault, sweeps: Sweeps) -> str | None:
    """Does it; says to whom. None where there is nobody to strike just now."""
    struck = KINDS[fault.kind](fault, sweeps)
    if struck is not None:
        sweeps.told_at = time.monotonic()
    return struck


def _kill_worker(fault: Fault, sweeps: Sweeps) -> str | None:
    struck = _picked(sweeps.being_trained(), fault)
    if struck is None:
        return None
    try:
        process = os.pidfd_open(struck.holder.process)
    except ProcessLookupError:
        return None
    try:
        # Whoever holds the claim still is that process.
        seen = run_lock.read_lock(struck.folder)
        if seen is None or seen.life != "alive" or seen.holder != struck.holder:
            return None
        signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)
    return f"the process of {struck.folder.name}"


def _to_a_job(*command: str) -> "Callable[[Fault, Sweeps], str | None]":
    """A command of SLURM about a job that trains."""

    def tell(fault: Fault, sweeps: Sweeps) -> str | None:
        running = set(sweeps.slurm("squeue", "-hr", "-t", "R", "-o", "%i").split())
        struck = _picked([one for one in sweeps.being_trained() if one.job in running], fault)
        if struck is None:
            return None
        try:
            subprocess.run([*command, struck.job], check=True, timeout=SECONDS_TO_TELL, **QUIET)
        except subprocess.CalledProcessError:  # it has just ended
            return None
        except subprocess.TimeoutExpired:  # SLURM 22.05 signals some jobs of arrays, and says that it cannot
            pass
        return f"job {struck.job}"

    return tell


def _lose_node(fault: Fault, sweeps: Sweeps) -> str:
    """What runs there lives on, unknown to SLURM, until the node is back."""
    node = f"node{1 + int(2 * fault.pick)}"
    _kill_daemon(node)
    ask("scontrol", "update", f"nodename={node}", "state=down", "reason=soak")
    time.sleep(2 + 6 * fault.pick)
    sweeps.slurm("up")
    with suppress(InputError):  # it has come back by itself
        ask("scontrol", "update", f"nodename={node}", "state=resume")
    return node


def _kill_controller(fault: Fault, sweeps: Sweeps) -> str | None:
    if time.monotonic() - sweeps.told_at < SECONDS_TO_STORE:
        return None
    _kill_daemon("slurmctld")
    time.sleep(3 * fault.pick)
    sweeps.slurm("up")
    return "slurmctld"


def _sweep_twice(fault: Fault, sweeps: Sweeps) -> str:
    return f"{sweeps.submit(shells=2)} submissions"


def _kill_daemon(name: str) -> None:
    pid_file = Path(os.environ["SLURM_CONF"]).parent / "run" / f"{name}.pid"
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def _picked(those: Sequence[Item], fault: Fault) -> Item | None:
    return those[int(fault.pick * len(those))] if those else None


KINDS: dict[str, Callable[[Fault, Sweeps], str | None]] = {
    "SIGKILL of a process that trains": _kill_worker,
    "SIGKILL of all processes of a job": _to_a_job("scancel", "--signal=KILL"),
    "SIGTERM to a job": _to_a_job("scancel", "--signal=TERM"),
    "the preemption signal to a job": _to_a_job("scancel", f"--signal={submitit.JobEnvironment.USR_SIG}"),
    "scontrol requeue of a job": _to_a_job("scontrol", "requeue"),
    "scancel of a job of an array": _to_a_job("scancel"),
    "a node lost (slurmd killed, node down) and back": _lose_node,
    "slurmctld killed and restarted": _kill_controller,
    "sweep from two shells at once": _sweep_twice,
}
