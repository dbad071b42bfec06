"""The soak of the local queue: sweeps of many small runs, each run struck one to four times, then examined.

    make soak-local   # or: PYTHONPATH=tests:tests/slurm .venv/bin/python tests/launch/local_soak.py --seed 1 --runs 40

Exit status 1 if anything is wrong; its files then stay.
"""

import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_faults import KINDS, Strike, Victim, is_alive, schedule, strike, worker_of
from soak_call import BEGAN, call, conclude, parse_options, say
from soak_verdict import differences, not_completed
from submitted_sweep import records, what_was_found
from tiny_experiment import TINY, command

# Some half a second of training a run, with a checkpoint every few steps.
TRAINING = TINY.replace("train_images: 96", "train_images: 480")
SWEEP = ("sweep", "tiny", "--scale", "smoke", "--threads", "1")
CHECKPOINT_SECONDS = 0.05
SECONDS_BETWEEN_LOOKS = 0.001
SECONDS_BETWEEN_LINES = 15.0
STOPPED, SOME_LEFT = 0, 1  # exit statuses of a sweep that was not killed

INTRODUCTION = """\
# A soak of sweeps by the local queue

Written by `make soak-local`: every run of a sweep is struck one to four times while it trains, half of the times within
milliseconds of a checkpoint's temporary file, and the sweep is started again until all is done. Then every run must be
there, equal that of an undisturbed sweep to the last bit (weights and metrics; times are left out), be `completed` by
`nfrepro status`, and nothing else may be in the folder of results but what the undisturbed sweep has in its own.
"""


@dataclass
class Soak:
    """A sweep that is disturbed, and what happened to it so far."""

    experiments: Path
    results: Path
    left: dict[str, list[Strike]]  # by run
    struck: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0  # that were started
    problems: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)  # by run: its worker, and since when

    def disturb(self, deadline: float) -> None:
        """Sweeps, and lets the faults strike, until all runs are done."""
        told = 0.0
        while (done := self._done()) < len(self.left):
            with self._sweeping() as sweep:
                while sweep.poll() is None:
                    self._look(sweep.pid)
                    now = time.monotonic()
                    if now > deadline:
                        self.problems.append(f"the time is over, and {done} of {len(self.left)} runs are done")
                        return
                    if now - told > SECONDS_BETWEEN_LINES:
                        say(f"{self._done()}/{len(self.left)} runs done, {self.struck.total()} strikes")
                        told = now
                    time.sleep(SECONDS_BETWEEN_LOOKS)

    def end(self) -> None:
        """A last sweep, undisturbed: it tidies up after those that were killed."""
        with self._sweeping() as sweep:
            if sweep.wait() != 0:
                self.problems.append(f"the last sweep ended with {sweep.returncode}")

    def _done(self) -> int:
        return sum(record["status"] == "completed" for record in records(self.results).values())

    @contextmanager
    def _sweeping(self) -> "Iterator[subprocess.Popen[str]]":
        """A sweep; what it says is kept where it ended in another way than by a signal of ours."""
        call = [*SWEEP, "--checkpoint-seconds", str(CHECKPOINT_SECONDS)]
        line, environment = command(self.experiments, self.results, call)
        self.sweeps += 1
        with tempfile.TemporaryFile("w+") as said:
            sweep = subprocess.Popen(
                line, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL, text=True
            )
            try:
                yield sweep
            finally:
                sweep.kill()
                sweep.wait()
            said.seek(0)
            text = said.read()
        if sweep.returncode not in (STOPPED, SOME_LEFT, -9) or "Traceback" in text or "failed" in text:
            self.problems.append(f"a sweep ended with {sweep.returncode}: {text.strip()}")

    def _look(self, sweep: int) -> None:
        """Strikes what is due among the runs that train."""
        for run, strikes in self.left.items():
            if strikes and (victim := self._victim(run, sweep)) is not None and self._is_due(run, strikes[0], victim):
                fault = strikes.pop(0)
                strike(fault, victim)
                self.struck[fault.kind] += 1
                self.moments[fault.moment] += 1
                self._seen.pop(run, None)

    def _victim(self, run: str, sweep: int) -> Victim | None:
        folder = self.results / "runs" / run
        if not (folder / "claim").exists() or not (folder / "run.json").exists():
            return None
        worker = worker_of(folder)
        return None if worker is None or not is_alive(worker) else Victim(folder, worker, sweep)

    def _is_due(self, run: str, fault: Strike, victim: Victim) -> bool:
        if fault.moment == "checkpoint":
            if not any(victim.folder.glob(".checkpoint-*.tmp")):
                return False
            time.sleep(fault.delay)
            return True
        if fault.moment == "end":
            return json.loads((victim.folder / "run.json").read_text())["status"] == "completed"
        worker, since = self._seen.get(run, (None, 0.0))
        if worker != victim.worker:
            self._seen[run] = (victim.worker, time.monotonic())
            return False
        return time.monotonic() - since >= fault.delay


def main() -> int:
    """The exit status."""
    options = parse_options(
        "Sweeps by the local queue, disturbed until all is done.", minutes=30, report="docs/soak_local.md"
    )
    folder = Path(tempfile.mkdtemp(prefix="nfrepro-soak-"))
    seeds = -(-options.runs // 4)
    experiments = folder / "experiments"
    experiments.mkdir()
    (experiments / "tiny.yaml").write_text(TRAINING.replace("seed: [0, 1]", f"seed: {list(range(2 * seeds))}"))
    seconds_undisturbed = sweep_undisturbed(experiments, folder / "undisturbed")
    expected = what_was_found(folder / "undisturbed")
    say(f"{len(expected)} runs undisturbed in {seconds_undisturbed:.0f} s, seed {options.seed}; files: {folder}")
    strikes = schedule(options.seed, len(expected))
    soak = Soak(experiments, folder / "results", dict(zip(sorted(expected), strikes, strict=True)))
    began = time.monotonic()
    soak.disturb(BEGAN + 60 * options.minutes)
    soak.end()
    wrong = [
        *soak.problems,
        *differences(expected, what_was_found(soak.results)),
        *left_behind(folder / "undisturbed", soak.results),
        *not_completed(states(experiments, soak.results)),
    ]
    text = report(soak, options.seed, seconds_undisturbed, time.monotonic() - began, wrong)
    return conclude(text, wrong, options.report, folder)


def sweep_undisturbed(experiments: Path, results: Path) -> float:
    """Returns seconds. Raises `CalledProcessError`."""
    began = time.monotonic()
    line, environment = command(experiments, results, SWEEP)
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def left_behind(undisturbed: Path, results: Path) -> list[str]:
    """All files, of runs and beside them, that an undisturbed sweep does not leave."""
    expected, there = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in (undisturbed, results))
    return [f"{path}: left behind" for path in sorted(there - expected)]


def states(experiments: Path, results: Path) -> dict[str, str]:
    """Of every run, as `nfrepro status --json` has it."""
    line, environment = command(experiments, results, ["status", "tiny", "--scale", "smoke", "--json"])
    answer = subprocess.run(line, env=environment, stdout=subprocess.PIPE, check=False).stdout
    return {row["id"]: row["state"] for row in json.loads(answer)}


def report(soak: Soak, seed: int, seconds_undisturbed: float, seconds: float, wrong: Sequence[str]) -> str:
    """As Markdown."""
    executions: dict[str, Any] = {run: record["executions"] for run, record in records(soak.results).items()}
    numbers = {
        "seed": seed,
        "processor cores; load average at the end": f"{os.cpu_count()}; {os.getloadavg()[0]:.1f}",
        "runs": len(soak.left),
        "strikes": soak.struck.total(),
        "of them at a checkpoint's temporary file": soak.moments["checkpoint"],
        "of them after the record of a run, before the end of its process": soak.moments["end"],
        "planned strikes that came too late": sum(map(len, soak.left.values())),
        "sweeps started": soak.sweeps,
        "runs begun more than once": sum(count > 1 for count in executions.values()),
        "times a run was begun, all runs together": sum(executions.values()),
        "wall time, undisturbed": f"{seconds_undisturbed:.0f} s",
        "wall time, disturbed": f"{seconds:.0f} s",
    }
    verdict = f"failed, {len(wrong)} findings" if wrong else "passed"
    lines = [INTRODUCTION, f"**Verdict: {verdict}.**", "", *(f"- {finding}" for finding in wrong)]
    lines += [""] if wrong else []
    lines += ["| | |", "| --- | --- |", *(f"| {name} | {number} |" for name, number in numbers.items()), ""]
    lines += ["| fault | times |", "| --- | --- |", *(f"| {kind} | {soak.struck[kind]} |" for kind in KINDS), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    call(main)
