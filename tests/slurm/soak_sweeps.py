"""The two sweeps of the soak: their description, how they are submitted from one or two shells, and what is at them."""

import json
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from own_cluster import Slurm
from submitted_sweep import PROFILE, logs, records, submission_call, what_was_found
from tiny_experiment import TINY, command

from nfrepro.errors import InputError
from nfrepro.launch import submission, submitted
from nfrepro.launch.scheduler import ask
from nfrepro.runs import lock as run_lock
from nfrepro.runs.lock import Holder
from nfrepro.specs import Run

# Some half a second of training a run, on a core of its own.
TRAINING = TINY.replace("train_images: 96", "train_images: 480").replace("epochs: 2", "epochs: 3")
PROFILES = {
    "one_by_one": PROFILE + "runs_per_job: 10\nmax_requeues: 100\n",
    "side_by_side": PROFILE + "runs_per_job: 10\nruns_per_gpu: 2\nmax_requeues: 100\n",
}
# Small enough that most runs have a checkpoint to continue from.
CHECKPOINT_SECONDS = 0.5
REFUSED = "another process is submitting"


@dataclass(frozen=True)
class Trained:
    """A run that a living process of a job has claimed."""

    folder: Path
    holder: Holder
    job: str


@dataclass
class Sweeps:
    """Both of them, on a SLURM of their own."""

    experiments: Path
    results: Path
    slurm: Slurm
    told_at: float = 0.0  # when SLURM was told something; of the monotonic clock
    submissions: int = 0
    released: int = 0  # jobs
    problems: list[str] = field(default_factory=list)  # what went wrong on the way

    def submit(self, shells: int = 1) -> int:
        """`nfrepro sweep` of both, from so many shells at the same time. How many submissions that became."""
        calls = [self._start(name) for name in PROFILES for _ in range(shells)]
        answers = [(name, *process.communicate(), process.returncode) for name, process in calls]
        self.told_at = time.monotonic()
        for name, _, complaint, code in answers:
            if code != 0 and not (code == 2 and shells > 1 and REFUSED in complaint):
                self.problems.append(f"sweep {name} ended with {code}: {complaint.strip()}")
        accepted = sum(answer.startswith("submitted ") for _, answer, _, _ in answers)
        self.submissions += accepted
        self.problems += [f"{run} was in two jobs at once" for run in self._queued_twice()]
        return accepted

    def mend(self) -> None:
        """What SLURM leaves to an operator: jobs that it has held, and nodes that it has drained, after a fault."""
        waiting = [line.split("|") for line in self.slurm("squeue", "-hr", "-t", "PD", "-o", "%i|%r").splitlines()]
        for job, reason in waiting:
            if "held" in reason:
                ask("scontrol", "release", job)
                self.released += 1
        for line in set(self.slurm("sinfo", "-hN", "-o", "%N|%T").splitlines()):
            node, state = line.split("|")
            if state.startswith(("drain", "down")):
                with suppress(InputError):  # it has come back by itself
                    ask("scontrol", "update", f"nodename={node}", "state=resume")

    def done(self) -> int:
        return sum(
            record["status"] == "completed" for name in PROFILES for record in records(self.results, name).values()
        )

    def queued(self) -> int:
        """How many jobs are in the queue, those that only end included."""
        return len(self.slurm("squeue", "-hr").splitlines())

    def being_trained(self) -> list[Trained]:
        seen = [(path.parent, run_lock.read_lock(path.parent)) for path in sorted(self.results.glob("runs/*/claim"))]
        return [
            Trained(folder, sighting.holder, sighting.holder.job)
            for folder, sighting in seen
            if sighting and sighting.life == "alive" and sighting.holder and sighting.holder.job
        ]

    def logs(self) -> dict[str, str]:
        """Of all jobs of each sweep."""
        return {name: logs(self.results, name) for name in PROFILES}

    def executions(self) -> dict[str, int]:
        """How often each run was begun."""
        return {
            f"{name}/{run}": record["executions"]
            for name in PROFILES
            for run, record in records(self.results, name).items()
        }

    def states(self) -> dict[str, str]:
        """Of every run, as `nfrepro status --json` has it."""
        states = {}
        for name in PROFILES:
            line, environment = command(self.experiments, self.results, ["status", name, "--scale", "smoke", "--json"])
            answer = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=True).stdout
            states |= {f"{name}/{row['id']}": row["state"] for row in json.loads(answer)}
        return states

    def _start(self, name: str) -> "tuple[str, subprocess.Popen[str]]":
        call = submission_call(self.experiments, name, f"clusters/{name}", CHECKPOINT_SECONDS)
        line, environment = command(self.experiments, self.results, call)
        return name, subprocess.Popen(
            line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )

    def _queued_twice(self) -> list[str]:
        """Runs that are in several jobs of the queue, though none of these has ended them."""
        twice = []
        for name in PROFILES:
            earlier = submission.earlier(self.results, Run("", name, "smoke", "train", {}))
            everything = {run.id for one in earlier for run in one.runs}
            held = Counter(run for one in submitted.held(earlier, everything) for run in one.runs)
            done = {run for run, record in records(self.results, name).items() if record["status"] == "completed"}
            twice += [run for run, jobs in held.items() if jobs > 1 and run not in done]
        return twice


def describe(experiments: Path, runs: int) -> int:
    """Writes the experiments and their cluster profiles. How many runs they have: at least `runs`."""
    seeds = -(-runs // 4)
    (experiments / "clusters").mkdir(parents=True)
    for number, (name, profile) in enumerate(PROFILES.items()):
        own = list(range(number * seeds, (number + 1) * seeds))  # no run is in both
        text = TRAINING.replace("seed: [0, 1]", f"seed: {own}")
        (experiments / f"{name}.yaml").write_text(text)
        (experiments / "clusters" / f"{name}.yaml").write_text(profile)
    return 4 * seeds


def found(results: Path) -> dict[str, Any]:
    """What every run has found, with the digest of its weights and without times."""
    return {f"{name}/{run}": content for name in PROFILES for run, content in what_was_found(results, name).items()}
