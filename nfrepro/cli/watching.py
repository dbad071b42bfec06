"""Verbs about runs in progress: status, logs, cancel."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nfrepro.cli.arguments import (
    EXPERIMENTS,
    RESULTS,
    ExperimentName,
    Experiments,
    Json,
    Results,
    RunId,
    Scale,
    Sets,
    expand_runs,
    select_run,
)
from nfrepro.cli.output import count_by_state, print_json, print_lines
from nfrepro.errors import InputError

if TYPE_CHECKING:
    from nfrepro.cli.watch import View
    from nfrepro.launch.watching import Watching

SECONDS_OF_LAST_WORDS = 1.0  # a job logs how its run ended after that is stored
# What a cancelled run does next, by its state.
_WILL = {
    "running": "saves and stops at its next step",
    "stalled": "stops at its next step, if it ever comes back",
    "requeued": "will not go on",
    "interrupted": "will not go on",
    "queued": "will not begin",
    "waiting": "will not begin",
}


def status(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    watch: Annotated[bool, typer.Option("--watch", help="Keep refreshing until nothing is queued or running.")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of every run of an experiment.

    Reads the folders of the runs and SLURM's queue.
    """
    from nfrepro.cli import status_table
    from nfrepro.cli.screen import width_here
    from nfrepro.launch.watching import Watching

    if watch and as_json:
        raise InputError("--watch is for people, --json for programs: give one of them")
    watching = Watching(expand_runs(name, scale, overrides, experiments), results)
    if watch:
        from nfrepro.cli import watch as screen

        screen.watch(lambda: _view(watching))
        return
    rows = watching.rows()
    if as_json:
        print_json([{**row._asdict(), "headline": dict([row.headline]) if row.headline else None} for row in rows])
    else:
        print_lines(status_table.table(rows, width_here()))
        print(count_by_state([row.state for row in rows]))
    for remark in watching.remarks:
        print(remark, file=sys.stderr)


def logs(
    name: ExperimentName,
    run_id: RunId,
    scale: Scale = "laptop",
    overrides: Sets = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing new output until the run ends.")
    ] = False,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Show a run's output: job logs, evaluations, progress, error."""
    run = select_run(expand_runs(name, scale, overrides, experiments), run_id)
    from nfrepro.cli.run_log import RunLog
    from nfrepro.cli.watch import FOLLOWED, views
    from nfrepro.launch.watching import Watching

    log, watching = RunLog(run, results), Watching([run], results)
    for view in views(lambda: _view(watching), FOLLOWED):
        state = view.rows[0].state
        print_lines(log.news())
        if not follow:
            break
    else:
        time.sleep(SECONDS_OF_LAST_WORDS)
        print_lines(log.news())
    print(f"{run.id}: {state}", file=sys.stderr)


def cancel(
    name: ExperimentName,
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id of a run, or the hash at the end of the id. Default: all.")
    ] = None,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Cancel queued and running runs, local or on SLURM.

    The next sweep continues them.
    """
    runs = expand_runs(name, scale, overrides, experiments)
    from nfrepro.launch import cancelling

    known = cancelling.everything(results, runs)
    chosen = [select_run(known, run_id)] if run_id is not None else runs if overrides else known
    cancelled = cancelling.cancel(results, runs, chosen)
    for run, state in cancelled.runs.items():
        print(f"cancelled  {run}  {_WILL[state] if run not in cancelled.shared else 'here'}")
    for run, sweep in cancelled.shared.items():
        print(f"goes on    {run}  for {sweep}")
    if cancelled.jobs:
        print(f"SLURM jobs cancelled: {', '.join(cancelled.jobs)}")
    if not cancelled.runs and not cancelled.jobs:
        print("nothing to cancel")
    if cancelled.complaint:
        print(f"no job was cancelled: {cancelled.complaint}", file=sys.stderr)
        raise typer.Exit(1)


def _view(watching: "Watching") -> "View":
    from nfrepro.cli.watch import View

    rows = watching.rows()
    return View(rows, [count_by_state([row.state for row in rows]), *watching.remarks], watching.seconds_of_rest)
