"""Execution inside a SLURM job: its runs, and its return to the queue.

The job knows only the ids of its runs and reads the rest from the submission's folder, so that a requeued job
continues from stored data alone. Runs of one process each go through a local queue inside the job, so that one that
dies takes no other with it. A run of several processes is executed by all tasks of the job together.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import submitit

from nfrepro.launch import submission as kept
from nfrepro.launch.devices import Resources, count_gpus
from nfrepro.launch.execute import Ended, Placement, execute
from nfrepro.launch.local_queue import Event, execute_all
from nfrepro.launch.submission import Submission
from nfrepro.malloc import keep_freed_memory
from nfrepro.runs import store
from nfrepro.runs.lock import holder, is_locked, scheduler_job
from nfrepro.specs import Run
from nfrepro.training.distributed import init_processes

SECONDS_BETWEEN_LOOKS = 1.0


class StopRequest:
    """A request set by signals and read by runs between two steps: nothing is saved or requeued inside a handler."""

    def __init__(self) -> None:
        self.stop = False
        self.requeue = False

    def is_set(self) -> bool:
        return self.stop

    def listen(self) -> None:
        """Takes over the signals that submitit listens to, whichever they are."""
        for number in signal.valid_signals() - {signal.SIGCONT}:
            handler = signal.getsignal(number)
            if callable(handler) and str(getattr(handler, "__module__", "")).startswith("submitit"):
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop = True
        # The last signal counts. SIGTERM means the end, by scancel or by a requeue that is under way: a job that is
        # cancelled while it saves must not come back.
        self.requeue = number != signal.SIGTERM


@dataclass(frozen=True)
class RunsOfAJob:
    """The function that a job executes; nothing else is pickled."""

    submission: str  # its folder
    runs: tuple[str, ...]

    def __call__(self) -> dict[str, str]:
        """Returns how each run ended. Exits instead if the job goes back to the queue, was stopped, or lost a run."""
        request = StopRequest()
        request.listen()
        submission = kept.read(Path(self.submission))
        runs = [run for run in submission.runs if run.id in self.runs]
        _check_device(submission)
        several = submission.cluster.processes_per_run > 1
        ended = (_execute_together if several else _execute_in_workers)(runs, submission, request)
        endings = {run.id: ended[run.id].ending if run.id in ended else "interrupted" for run in runs}
        if "interrupted" in endings.values() and _is_first_task():
            if request.requeue:
                _requeue(submission.cluster.max_requeues)
            sys.exit(1)
        return dict(endings)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Handles a signal that arrives before `listen`: the job starts again unchanged."""
        return submitit.helpers.DelayedSubmission(self)


def _check_device(submission: Submission) -> None:
    if submission.cluster.runs_on == "cuda" and count_gpus() == 0:
        raise RuntimeError("the cluster profile asks for a GPU, and torch finds none on this node")


def _execute_in_workers(runs: Sequence[Run], submission: Submission, request: StopRequest) -> dict[str, Ended]:
    """Executes runs of one process each, as many at once as share the job's GPU or CPUs."""
    cluster = submission.cluster
    resources = Resources((cluster.runs_on,) * cluster.runs_per_gpu, cluster.cpus_per_process)
    return execute_all(
        runs,
        submission.results,
        resources,
        submission.checkpoint_seconds,
        _observe,
        should_stop=request.is_set,
        seconds_to_stop=cluster.seconds_to_save,
        # An earlier start of this same job may survive for some seconds; any other process will finish the run.
        waits_for=lambda run: _is_locked_by_this_job(store.run_folder(submission.results, run)),
    )


def _execute_together(runs: Sequence[Run], submission: Submission, request: StopRequest) -> dict[str, Ended]:
    """Executes runs of several processes each, one after the other. Every task of the job calls it."""
    keep_freed_memory()
    _export_ranks()
    cluster, ended = submission.cluster, {}
    device, threads = cluster.runs_on, cluster.cpus_per_process
    with init_processes(device) as processes:
        place = Placement(submission.results, device, threads, submission.checkpoint_seconds, processes)
        for run in runs:
            ended[run.id] = _execute_a_part(run, place, request)
            _observe(Event(run, "ended", asdict(ended[run.id])))
            if ended[run.id].ending == "interrupted":
                break
    return ended


def _execute_a_part(run: Run, place: Placement, request: StopRequest) -> Ended:
    """Executes this process's part of `run`. Only the first one heeds signals: it stops all and may requeue."""
    if place.processes.rank == 0:
        _wait_for_earlier_start(run, place.results, request)
    return execute(
        run,
        place,
        report=lambda progress: _observe(Event(run, "progress", asdict(progress))),
        complain=lambda text: _observe(Event(run, "complaint", {"text": text})),
        should_stop=request.is_set if place.processes.rank == 0 else lambda: False,
    )


def _export_ranks() -> None:
    """Exports torchrun's variables. If nodes cannot resolve each other's names, `setup` has exported MASTER_ADDR."""
    address = os.environ.get("MASTER_ADDR")
    submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    if address is not None:
        os.environ["MASTER_ADDR"] = address


def _is_first_task() -> bool:
    return int(submitit.JobEnvironment().global_rank) == 0


def _wait_for_earlier_start(run: Run, results: Path, request: StopRequest) -> None:
    folder = store.run_folder(results, run)
    if is_locked(folder) and _is_locked_by_this_job(folder):
        _observe(Event(run, "claimed", {}))
    while is_locked(folder) and _is_locked_by_this_job(folder) and not request.is_set():
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _is_locked_by_this_job(folder: Path) -> bool:
    found = holder(folder)
    return found is None or found.job == scheduler_job()


def _requeue(limit: int) -> None:
    """Requeues this job. Raises `RuntimeError` if it was already requeued `limit` times."""
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if restarts >= limit:
        raise RuntimeError(f"not requeued: it was {restarts} times, and max_requeues is {limit}")
    _say(f"goes back to the queue, for the {restarts + 1}. time of at most {limit}")
    subprocess.run(["scontrol", "requeue", str(scheduler_job())], check=True, timeout=60)


def _observe(event: Event) -> None:
    content = event.content
    if event.kind == "progress" and content["milestone"]:
        _say(f"{event.run.id}: {content['done']}/{content['total']}  {content['text']}")
    elif event.kind == "complaint":
        _say(f"{event.run.id}: {content['text']}")
    elif event.kind == "claimed":
        _say(f"{event.run.id}: an earlier start of this job is still at it: waits for its end")
    elif event.kind == "ended":
        _say(f"{event.run.id}: {content['ending']}: {content['text']}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # on a full disk, which the runs notice themselves
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        sys.stdout.flush()
