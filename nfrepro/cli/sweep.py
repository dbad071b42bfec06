"""Verbs that execute runs: sweep, run."""

from pathlib import Path
from typing import Annotated

import typer

from nfrepro.cli.arguments import (
    EXPERIMENTS,
    RESULTS,
    CheckpointSeconds,
    ExperimentName,
    Experiments,
    Jobs,
    ProcessesOfARun,
    Results,
    RunId,
    Scale,
    Sets,
    Threads,
    expand_runs,
    select_run,
)
from nfrepro.cli.drawing import draw_sweep, has_completed
from nfrepro.cli.execution import (
    ask_for_redo,
    execute_here,
    execute_locally,
    exit_by_state,
    lift_cancellations,
    prepare,
    stored_lines_of,
    tidy_runs,
)
from nfrepro.cli.on_slurm import refuse_on_slurm, sweep_on_slurm
from nfrepro.cli.output import print_lines
from nfrepro.cli.tables import tables_to_collect, write_table
from nfrepro.errors import InputError, did_you_mean
from nfrepro.terminal import outlive_readers

EXECUTORS = ("local", "local-queue", "slurm", "debug")


def sweep(
    name: ExperimentName,
    scale: Scale = "laptop",
    executor: Annotated[
        str, typer.Option(help="Where to execute runs: local (worker processes), slurm, or debug (this process).")
    ] = "local",
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help="slurm: a profile in experiments/clusters, or a .yaml file.")
    ] = "one_machine",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="slurm: print the scripts for sbatch without submitting them.")
    ] = False,
    jobs: Jobs = None,
    threads: Threads = None,
    processes: ProcessesOfARun = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Retry failed runs.")] = False,
    force: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Redo stored runs whose id matches, e.g. 'bn_*'.")
    ] = None,
    draw: Annotated[
        bool, typer.Option("--draw/--no-draw", envvar="NFREPRO_DRAW", help="Draw the table and figure at the end.")
    ] = True,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="NFREPRO_TENSORBOARD", help="Write live TensorBoard event files here."),
    ] = None,
    overrides: Sets = None,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Execute the runs that are not done, then collect and draw all.

    Writes runs.csv, a table and a figure. With slurm: submits the runs, and returns.
    """
    outlive_readers()
    executor = "local" if executor == "local-queue" else executor
    if executor not in EXECUTORS:
        raise InputError(
            f"--executor {executor}: unknown{did_you_mean(executor, EXECUTORS)}; there is: {', '.join(EXECUTORS)}"
        )
    if dry_run and (executor != "slurm" or force is not None):
        raise InputError("--dry-run shows what --executor slurm would submit; it goes with no other, nor with --force")
    runs = expand_runs(name, scale, overrides, experiments)
    _check_division(executor, jobs, threads, processes)
    if tensorboard is not None:
        from nfrepro.runs.live import show_live

        show_live(tensorboard)
    from nfrepro.launch.remaining import find_remaining

    if executor == "slurm":
        sweep_on_slurm(runs, results, cluster, experiments, retry, force, checkpoint_seconds, dry_run)
        return
    ask_for_redo(runs, results, force, processes)
    plan = find_remaining(runs, results, retry)
    print_lines(stored_lines_of(plan, runs, results))
    tidy_runs(plan.done, results)
    prepare(plan.execute, processes)
    lift_cancellations(plan.execute, results)
    if plan.execute and executor == "debug":
        execute_here(plan.execute, runs, results, threads, checkpoint_seconds)
    elif plan.execute:
        execute_locally(plan.execute, runs, results, jobs, threads, processes, checkpoint_seconds)
    path = write_table(runs, results, overrides)
    if force is not None:
        print_lines(tables_to_collect(runs, results, force, path))
    drawn = draw_sweep(runs, results, overrides, experiments) if draw and has_completed(runs, results) else 0
    exit_by_state(runs, results)
    raise typer.Exit(drawn)


def _check_division(executor: str, jobs: int | None, threads: int | None, processes: int) -> None:
    """Raise `InputError` if the executor cannot divide the machine in this way."""
    if executor == "slurm":
        given = {"--jobs": jobs is not None, "--threads": threads is not None, "--processes": processes > 1}
        refuse_on_slurm(given, "array_parallelism, cpus_per_run and processes_per_run")
    if executor == "debug" and processes > 1:
        raise InputError("--processes is not for debug, which executes runs in this very process")
    if executor == "debug" and jobs is not None:
        raise InputError("--jobs is not for debug, which executes one run after the other")


def run_one(
    name: ExperimentName,
    run_id: RunId,
    scale: Scale = "laptop",
    overrides: Sets = None,
    threads: Threads = None,
    processes: ProcessesOfARun = 1,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Execute one run of an experiment, with all cores to itself."""
    outlive_readers()
    run = select_run(expand_runs(name, scale, overrides, experiments), run_id)
    from nfrepro.launch.remaining import find_remaining

    plan = find_remaining([run], results, retry=True)
    if plan.done:
        print_lines(stored_lines_of(plan, [run], results))
    prepare(plan.execute, processes)
    lift_cancellations(plan.execute, results)
    if plan.execute:
        execute_locally(plan.execute, [run], results, 1, threads, processes, checkpoint_seconds)
    exit_by_state([run], results)
