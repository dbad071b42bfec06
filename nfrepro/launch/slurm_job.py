"""What happens inside a SLURM job: its runs, one after the other, and its way back to the queue.

The job knows its runs by id and reads the rest from the submission's folder, so that a requeued job continues from
what is stored and from nothing else.
"""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import submitit

from nfrepro.allocation import keep_freed_memory
from nfrepro.evidence import store
from nfrepro.evidence.claim import holder, scheduler_job
from nfrepro.launch import submission as kept
from nfrepro.launch.job import Ended, Place, execute
from nfrepro.launch.machine import count_gpus
from nfrepro.specs import Run
from nfrepro.tasks.job import Progress

SECONDS_BETWEEN_LOOKS = 1.0


class StopRequest:
    """Set by signals, and read by runs between two steps: nothing is saved or requeued inside a handler."""

    def __init__(self) -> None:
        self.stop = False
        self.requeue = False

    def is_set(self) -> bool:
        return self.stop

    def listen(self) -> None:
        """Takes over the signals that submitit has chosen to listen to; which they are is its affair."""
        for number in signal.valid_signals() - {signal.SIGCONT}:
            handler = signal.getsignal(number)
            if callable(handler) and str(getattr(handler, "__module__", "")).startswith("submitit"):
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        # SIGTERM is the end, by scancel or by a requeue that is under way: a cancelled job must not come back.
        self.requeue = self.requeue or number != signal.SIGTERM


@dataclass(frozen=True)
class RunsOfAJob:
    """The function of a job: all that is pickled."""

    submission: str  # its folder
    runs: tuple[str, ...]

    def __call__(self) -> dict[str, str]:
        """How each run ended. Does not return where the job goes back to the queue, or was stopped."""
        request = StopRequest()
        request.listen()
        keep_freed_memory()
        submission = kept.read(Path(self.submission))
        place = _place(submission)
        ended = {run.id: _execute(run, place, request) for run in submission.runs if run.id in self.runs}
        if request.is_set() and any(one.ending == "interrupted" for one in ended.values()):
            if request.requeue:
                _requeue(submission.cluster.max_requeues)
            sys.exit(1)
        return {name: one.ending for name, one in ended.items()}

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """For a signal that arrives before `listen`: the job starts again as it is."""
        return submitit.helpers.DelayedSubmission(self)


def _place(submission: kept.Submission) -> Place:
    cluster = submission.cluster
    if cluster.runs_on == "cuda" and count_gpus() == 0:
        raise RuntimeError("the cluster profile asks for a GPU, and torch finds none on this node")
    return Place(submission.results, cluster.runs_on, cluster.cpus_per_run, submission.checkpoint_seconds)


def _execute(run: Run, place: Place, request: StopRequest) -> Ended:
    """Executes `run`, after waiting for an earlier start of this very job, which may live on for some seconds."""
    said = False
    while not request.is_set():
        ended = execute(run, place, _report, _say, request.is_set)
        if ended.ending != "claimed" or not _is_claimed_by_this_job(store.run_folder(place.results, run)):
            _say(f"{run.id}: {ended.ending}: {ended.text}")
            return ended
        if not said:
            _say(f"{run.id}: an earlier start of this job is still at it: waits for its end")
            said = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return Ended("interrupted", "stopped before it began")


def _is_claimed_by_this_job(folder: Path) -> bool:
    found = holder(folder)
    return found is None or found.job == scheduler_job()


def _requeue(limit: int) -> None:
    """Raises `RuntimeError` where the job was requeued too often already."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if restarts >= limit:
        raise RuntimeError(f"not requeued: it was {restarts} times, and max_requeues is {limit}")
    _say(f"goes back to the queue, for the {restarts + 1}. time of at most {limit}")
    subprocess.run(["scontrol", "requeue", str(scheduler_job())], check=True, timeout=60)


def _report(progress: Progress) -> None:
    if progress.milestone:
        _say(f"{progress.done}/{progress.total}  {progress.text}")


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()
