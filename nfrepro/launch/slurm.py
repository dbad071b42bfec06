"""Sweeps on SLURM, through submitit: job arrays are submitted, but not waited for.

The scheduler tells which runs are queued, never which are done: that is read from the runs' folders.
"""

import contextlib
import io
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from nfrepro.errors import InputError
from nfrepro.launch import node_check, submitted
from nfrepro.launch import submission as kept
from nfrepro.launch.scheduler import ask, in_queue
from nfrepro.launch.slurm_job import RunsOfAJob
from nfrepro.launch.submission import Submission
from nfrepro.runs.lock import RunLocked, hold_lock
from nfrepro.specs import Run


class _Text(submitit.SlurmExecutor):
    """Creates sbatch files even without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 1


@contextmanager
def submitting(results: Path, run: Run) -> Iterator[None]:
    """Locks a sweep while it finds out which runs are queued and submits the rest.

    Raises `InputError` if another process is submitting it, or if SLURM cannot use the path of `results`.
    """
    kept.check_path(results)
    folder = kept.sweep_folder(results.resolve(), run)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(folder):
            yield
    except RunLocked:
        raise InputError(
            f"another process is submitting {run.experiment} at scale {run.scale}: try again when it is done"
        ) from None


def check_slurm() -> None:
    """Raises `InputError` if this machine has no SLURM."""
    for command in ("sbatch", "srun", "squeue", "scontrol"):
        if shutil.which(command) is None:
            raise InputError(f"no SLURM here: {command} is not found (to try it on this machine: make slurm-up)")


def queued(results: Path, runs: Sequence[Run]) -> set[str]:
    """Ids of those `runs` that are in waiting or running jobs of any sweep. Asks SLURM once."""
    ids = {run.id for run in runs}
    jobs = submitted.held(kept.holding(results, ids), ids)
    return ids & {name for held in jobs for name in held.runs}


def ended_silently(results: Path, left: Sequence[Run]) -> int:
    """The number of earlier jobs that never wrote a line and whose runs are `left` to do, and not queued."""
    ids = {run.id for run in left}
    return submitted.ended_silently(kept.holding(results, ids), ids)


def sbatch_texts(submission: Submission) -> list[str]:
    """The texts for sbatch, one per array. Submits nothing."""
    texts = []
    for number, array in enumerate(submission.arrays):
        executor = _configured(_Text, submission, number)
        if len(array.jobs) > 1:  # submitit makes no array of one job
            executor.parameters["map_count"] = len(array.jobs)
        texts.append(executor._make_submission_file_text(executor._submitit_command_str, ""))
    return texts


def submit(submission: Submission, complain: Callable[[str], None]) -> Submission:
    """Submits all arrays or none; returns the submission with SLURM's ids. Raises `InputError` with SLURM's reason."""
    kept.keep(submission)
    try:
        with _outside_of_any_job():
            unknown = node_check.check(submission)
    except InputError:
        shutil.rmtree(submission.folder)
        raise
    if unknown is not None:
        complain(f"whether nodes see {submission.results} was not tried ({unknown})")
    for number, array in enumerate(submission.arrays):
        executor = _configured(submitit.SlurmExecutor, submission, number)
        try:
            # submitit also prints on standard error what it then raises.
            with _outside_of_any_job(), contextlib.redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(RunsOfAJob(str(submission.folder), runs)) for runs in array.jobs]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
            if not _withdraw(submission):
                shutil.rmtree(submission.folder)
            raise InputError(f"sbatch refused: {_reason(error)}; nothing was submitted") from None
        accepted = replace(array, job_id=jobs[0].job_id.partition("_")[0])
        arrays = (*submission.arrays[:number], accepted, *submission.arrays[number + 1 :])
        submission = replace(submission, arrays=arrays)
        kept.write(submission)
    return submission


def _configured(kind: Any, submission: Submission, number: int) -> Any:
    """The executor for the array of that number."""
    cluster = submission.cluster
    executor = kind(submission.jobs, max_num_timeout=cluster.max_requeues)
    wanted = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "dependency": _after_the_array_before(submission, number),
        "gpus_per_node": cluster.gpus_per_node or None,
        "mem": f"{round(cluster.mem_gb * 1024)}M" if cluster.mem_gb else None,
    }
    executor.update_parameters(
        job_name=submission.arrays[number].name,
        time=cluster.timeout_min,
        nodes=cluster.nodes_per_run,
        ntasks_per_node=cluster.tasks_per_node,
        cpus_per_task=cluster.cpus_per_task,
        # srun does not inherit the job's CPUs by itself, and a process that fails would leave the others of its run
        # waiting for it.
        srun_args=[f"--cpus-per-task={cluster.cpus_per_task}", "--kill-on-bad-exit=1"],
        signal_delay_s=cluster.seconds_to_save,
        array_parallelism=cluster.array_parallelism,
        stderr_to_stdout=True,
        setup=[*_limit_threads(cluster.cpus_per_process), *cluster.setup, *_use_snapshot(submission)],
        additional_parameters={"requeue": True},
        **{key: value for key, value in wanted.items() if value is not None},
    )
    return executor


def _after_the_array_before(submission: Submission, number: int) -> str | None:
    """The dependency that makes arrays run in turn, as SLURM limits the jobs at once of each array, not of all."""
    jobs = sum(len(array.jobs) for array in submission.arrays)
    if number == 0 or jobs <= submission.cluster.array_parallelism:
        return None
    before = submission.arrays[number - 1]
    return f"afterany:{before.job_id or before.name}"  # a name only if nothing is submitted


def _limit_threads(threads: int) -> list[str]:
    # As in the local queue: threads that spin while waiting slow each other down on shared cores.
    patience = ["export OMP_WAIT_POLICY=PASSIVE"] if threads > 1 else []
    return [f"export OMP_NUM_THREADS={threads}", *patience]


def _use_snapshot(submission: Submission) -> list[str]:
    # Without PYTHONSAFEPATH the working directory, which may be the checkout, would come first.
    return [
        "export PYTHONSAFEPATH=1",
        f"export PYTHONPATH={shlex.quote(str(submission.code))}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]


@contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Hides the variables of a surrounding job, which sbatch would pass on, but not the path of SLURM's config."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    stays = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(stays)
        yield


def _withdraw(submission: Submission) -> bool:
    """Cancels accepted jobs of a failed submission, even those that sbatch reported as refused. Returns if any were."""
    mine = {job_id for _, job_id, _ in in_queue([array.name for array in submission.arrays])}
    if mine:
        ask("scancel", *sorted(mine))
    return bool(mine)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("sbatch: error:")]
    return (said or lines or [type(error).__name__])[-1].removeprefix("sbatch: error: ")
