"""Sweeps on SLURM: the runs that are left are submitted, without waiting for them."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from nfrepro.cli.execution import ask_for_redo, lift_cancellations, prepare, stored_lines_of
from nfrepro.cli.output import count_by_state
from nfrepro.errors import InputError
from nfrepro.specs import Run


def refuse_on_slurm(given: Mapping[str, bool], keys: str) -> None:
    """Raise `InputError` if any option was given that a cluster profile replaces by `keys`."""
    if any(given.values()):
        *most, last = given
        raise InputError(f"{', '.join(most)} and {last} are not for slurm: see {keys}")


def sweep_on_slurm(
    runs: Sequence[Run],
    results: Path,
    cluster: str,
    experiments: Path,
    retry: bool,
    force: str | None,
    checkpoint_seconds: float,
    dry_run: bool,
) -> None:
    """Submits the runs that are not done, being executed or queued, without waiting for them."""
    from nfrepro.launch import partitions, slurm
    from nfrepro.launch.cluster import load_cluster
    from nfrepro.launch.submission import divide

    def complain(text: str) -> None:
        print(text, file=sys.stderr)

    profile = load_cluster(cluster, experiments)
    if dry_run:
        left = _left_for_slurm(runs, results, retry, set())
        print("\n".join(slurm.sbatch_texts(divide(left, results, profile, checkpoint_seconds))) if left else "nothing")
        return
    slurm.check_slurm()
    partitions.check(profile)
    with slurm.submitting(results, runs[0]):
        ask_for_redo(runs, results, force, profile.processes_per_run, here=False)
        left = _left_for_slurm(runs, results, retry, slurm.queued(results, runs))
        if not left:
            print("nothing to submit")
            return
        if silent := slurm.ended_silently(results, left):
            complain(f"{silent} earlier jobs ended before they began: cancelled, or their nodes do not see {results}")
        prepare(left, profile.processes_per_run, here=False)
        lift_cancellations(left, results)
        submitted = slurm.submit(divide(left, results, profile, checkpoint_seconds), complain)
    jobs = sum(len(array.jobs) for array in submitted.arrays)
    ids = ", ".join(str(array.job_id) for array in submitted.arrays)
    print(
        f"submitted {count_by_state(['queued'] * len(left))} in {jobs} jobs of up to {profile.timeout_min} min: {ids}"
    )
    print(f"logs: {submitted.jobs}")


def _left_for_slurm(runs: Sequence[Run], results: Path, retry: bool, queued: set[str]) -> list[Run]:
    from nfrepro.launch.remaining import find_remaining
    from nfrepro.runs import redo

    plan = find_remaining(runs, results, retry)
    for line in stored_lines_of(plan, runs, results) if plan.done else ():
        print(line, file=sys.stderr)
    states = {run.id: redo.read_work(results, run).state for run in plan.execute}
    running = {name for name, state in states.items() if state == "running"}
    # A cancelled run may be in a job that has other runs to do and has already skipped it.
    queued = queued - {name for name, state in states.items() if state == "cancelled"}
    left = [run for run in plan.execute if run.id not in queued | running]
    words = ["done"] * len(plan.done) + ["failed"] * len(plan.failed) + ["running"] * len(running)
    words += ["queued"] * sum(run.id in queued - running for run in plan.execute) + ["to submit"] * len(left)
    print(count_by_state(words), file=sys.stderr)
    return left
