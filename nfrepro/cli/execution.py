"""Execution of runs: preparation, the local queue, this process; and the messages at the start and end of a sweep."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nfrepro.cli.output import count_by_state
from nfrepro.errors import InputError
from nfrepro.specs import Run
from nfrepro.specs.varied import varied_options
from nfrepro.tasks.own_code import import_own_code
from nfrepro.tasks.registry import TASKS

if TYPE_CHECKING:
    from nfrepro.launch.remaining import Remaining


def prepare(runs: Sequence[Run], processes: int = 1, here: bool = True) -> None:
    """Find or fetch all that the runs need, before the first starts; check this machine if they execute `here`."""
    if here:
        check_precision(runs)
    checked = [(run, TASKS[run.task], TASKS[run.task].options.model_validate(run.config)) for run in runs]
    for run, task, options in checked:
        try:
            if run.config.get("source") is not None:
                import_own_code(options)
            task.check_processes(options, processes)
        except InputError as error:
            raise InputError(f"{run.id}: {error}") from None
    seen = set()
    for run, task, options in checked:
        needs = json.dumps([run.task, run.config.get("data")], sort_keys=True)
        if needs not in seen:
            seen.add(needs)
            task.prepare(options, lambda text: print(text, flush=True))


def check_precision(runs: Sequence[Run]) -> None:
    """Raises `InputError` if the processor here would have to emulate the precision in which `runs` train."""
    from nfrepro.launch.devices import count_gpus
    from nfrepro.training.precision import check_precision

    precisions = {run.config["train"]["precision"]: run.id for run in runs if run.config.get("train")}
    if "bfloat16" not in precisions or count_gpus():
        return
    for precision, name in precisions.items():
        try:
            check_precision(precision, "cpu")
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def ask_for_redo(runs: Sequence[Run], results: Path, pattern: str | None, processes: int, here: bool = True) -> None:
    from nfrepro.runs import redo

    chosen = [] if pattern is None else redo.find(results, runs, pattern)
    prepare(chosen, processes, here)
    for run in chosen:
        redo.request(results, run)
        print(f"{run.id}  to be redone; what is stored stays until the new result is complete")


def lift_cancellations(runs: Sequence[Run], results: Path) -> None:
    """Lift the cancellations of `runs`, since the sweep asks for these runs again."""
    from nfrepro.runs import cancellation, store

    for run in runs:
        cancellation.lift(store.run_folder(results, run), run)


def stored_lines_of(plan: "Remaining", runs: Sequence[Run], results: Path) -> Iterator[str]:
    from nfrepro.runs.stored_results import stored_lines

    yield from stored_lines(results, runs, plan.done, len(plan.execute), len(plan.failed))
    if not plan.execute:
        from nfrepro.cli.changed_data import changed_data_lines

        yield from changed_data_lines(results, plan.done)


def tidy_runs(runs: Sequence[Run], results: Path) -> None:
    from nfrepro.runs import store
    from nfrepro.runs.tidying import tidy

    for run in runs:
        tidy(store.run_folder(results, run))


def execute_locally(
    runs: Sequence[Run],
    sweep: Sequence[Run],
    results: Path,
    jobs: int | None,
    threads: int | None,
    processes: int,
    checkpoint_seconds: float,
) -> None:
    from nfrepro.cli.progress import make_display
    from nfrepro.launch.devices import divide_machine
    from nfrepro.launch.local_queue import execute_all

    resources = divide_machine(len(runs), jobs, threads, processes)
    with make_display(len(sweep), len(sweep) - len(runs), varied_options(sweep)) as display:
        execute_all(runs, results, resources, checkpoint_seconds, display.observe, display.stopping)


def execute_here(
    runs: Sequence[Run], sweep: Sequence[Run], results: Path, threads: int | None, checkpoint_seconds: float
) -> None:
    """Execute runs in this process, and show lines instead of bars: a debugger needs the terminal."""
    from nfrepro.cli.progress import Lines
    from nfrepro.launch.devices import divide_machine
    from nfrepro.launch.this_process import become_like_a_worker, execute_in_turn

    resources = divide_machine(len(runs), None, threads)  # threads as in the local queue
    become_like_a_worker(resources)
    with Lines(len(sweep), len(sweep) - len(runs), varied_options(sweep)) as display:
        execute_in_turn(runs, results, resources, checkpoint_seconds, display.observe)


def exit_by_state(runs: Sequence[Run], results: Path) -> None:
    """Prints the number of runs in each state; unless all are done, lists the others and exits with status 1."""
    from nfrepro.runs import redo, store

    stored = {run.id: redo.read_work(results, run) for run in runs}
    for name, found in stored.items():
        if found.state not in store.DONE:
            reason = f": {found.record['error']}" if found.record and found.record["error"] else ""
            log = f" ({found.folder / store.ERROR})" if found.state == "failed" else ""
            print(f"{found.state}  {name}{reason}{log}")
            if found.folder != store.runs_folder(results) / name:
                print(f"    the stored result is kept; to do without the redo: rm -r {found.folder}*")
    print(count_by_state([found.state for found in stored.values()]))
    if any(found.state not in store.DONE for found in stored.values()):
        if any(found.state == "failed" for found in stored.values()):
            print("failed runs are tried again with --retry (make: RETRY=1)")
        raise typer.Exit(1)
