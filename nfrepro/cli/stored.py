"""Verbs about stored runs: collect, draw, compare, export, prune, migrate."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nfrepro.cli.arguments import (
    EXPERIMENTS,
    RESULTS,
    ExperimentName,
    Experiments,
    Json,
    Results,
    Scale,
    Sets,
    check_results,
    expand_runs,
)
from nfrepro.cli.drawing import draw_sweep
from nfrepro.cli.output import print_json, print_lines, runs_text
from nfrepro.cli.tables import write_table
from nfrepro.errors import InputError, did_you_mean
from nfrepro.specs import expand, find_experiments, load_experiment
from nfrepro.tasks.registry import SCHEMAS


def collect(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Write runs.csv: a row per run with its config and final numbers."""
    runs = expand_runs(name, scale, overrides, experiments)
    write_table(runs, results, overrides)


def draw(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Draw the table and figure of an experiment from stored runs.

    Collects runs.csv first. Uses analysis/EXP.py if it exists, and otherwise draws along the axes of the experiment.
    """
    runs = expand_runs(name, scale, overrides, experiments)
    write_table(runs, results, overrides)
    raise typer.Exit(draw_sweep(runs, results, overrides, experiments))


def compare(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    other: Annotated[
        Path | None, typer.Option("--with", metavar="DIR", help="Another results folder to compare with.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Compare an experiment's results with those in another folder.

    Shows the final numbers and processors of its runs and arms; without --with, only those here.
    """
    runs = expand_runs(name, scale, overrides, experiments)
    from nfrepro.cli.comparison_table import show_comparison
    from nfrepro.runs import comparison, old_layout

    for folder in (results, other):
        if folder is not None:
            check_results(folder)
            old_layout.refuse(folder, runs[0])
    found = comparison.compare(runs, results, other)
    if as_json:
        print_json({"experiment": runs[0].experiment, "scale": scale, **asdict(found)})
    else:
        show_comparison(found)


def export(
    name: ExperimentName,
    to: Annotated[str, typer.Option("--to", help="Format: csv, tensorboard or wandb-offline.")] = "csv",
    scale: Scale = "laptop",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Output folder. Default: exports/EXP/SCALE/FORMAT.")
    ] = None,
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Export stored runs to CSV, TensorBoard or Weights & Biases.

    Exports finished runs as tidy CSV, TensorBoard event files or offline Weights & Biases runs. Uploads nothing.
    """
    from nfrepro.runs.export import EXPORTS, stored_runs

    if to not in EXPORTS:
        raise InputError(f"--to {to}: unknown{did_you_mean(to, EXPORTS)}; there is: {', '.join(EXPORTS)}")
    runs = expand_runs(name, scale, overrides, experiments)
    found = stored_runs(runs, results)
    path = EXPORTS[to](found, out or Path("exports") / runs[0].experiment / scale / to)
    print(f"{path}: {len(found)} of {runs_text(len(runs))}")


def prune(
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    yes: Annotated[bool, typer.Option("--yes", help="Remove the listed runs.")] = False,
) -> None:
    """List stored runs that no experiment has at any scale.

    With --yes, removes them, except runs that are being executed.
    """
    from nfrepro.runs import old_layout, pruning

    known = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    if not known:  # rather than to remove everything
        raise InputError(f"{experiments}: no experiments")
    ids = {run.id for one in known for scale in one.scales for run in expand(one, scale, SCHEMAS)}
    check_results(results)
    unused = pruning.find(results, ids)
    for run in unused:
        tables = f"  in {', '.join(map(str, run.tables))}" if run.tables else ""
        what = "is being executed: stays" if run.is_locked else f"{run.size / 1000:.0f} kB"
        print(f"{run.folder.name}  {what}{tables}")
    free = [run for run in unused if not run.is_locked]
    removed = [run for run in free if pruning.remove(run)] if yes else []
    print(f"{runs_text(len(unused))} of no experiment in {experiments}, {len(removed)} removed")
    if free and not yes:
        print("to remove them: nfrepro prune --yes")
    for folder in old_layout.find(results):
        print(f"not looked at, of the layout from before (see nfrepro migrate): {folder}")


def migrate(results: Results = RESULTS) -> None:
    """Move stored runs from the old layout to the new one.

    Moves results/EXP/SCALE/RUN to results/runs/RUN. Removes redundant copies of a run; leaves and lists copies with
    another result.
    """
    from nfrepro.runs import old_layout

    found = old_layout.move(results)
    print(f"{len(found.moved)} moved, {len(found.dropped)} removed whose run is in {results}/runs with the same result")
    if found.left:
        print(f"left where they are, since {results}/runs has their run with another result:")
        print_lines(map(str, found.left))
        raise typer.Exit(1)
