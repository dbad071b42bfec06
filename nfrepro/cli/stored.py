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
    """Writes runs.csv: one row a run, flattened config and final numbers."""
    runs = expand_runs(name, scale, overrides, experiments)
    write_table(runs, results, overrides)


def draw(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Draws the table and figure of an experiment from its stored runs: by analysis/EXP.py, or else by its axes."""
    runs = expand_runs(name, scale, overrides, experiments)
    write_table(runs, results, overrides)
    raise typer.Exit(draw_sweep(runs, results, overrides, experiments))


def compare(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    other: Annotated[
        Path | None, typer.Option("--with", metavar="DIR", help="Another folder of results to compare with.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The final numbers and processors of an experiment's runs and arms, here and in another folder of results."""
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
    to: Annotated[str, typer.Option("--to", help="csv, tensorboard or wandb-offline.")] = "csv",
    scale: Scale = "laptop",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to. Default: exports/EXP/SCALE/<format>.")
    ] = None,
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Writes stored runs for other tools: tidy CSV, TensorBoard, offline Weights & Biases. Sends nothing."""
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
    yes: Annotated[bool, typer.Option("--yes", help="Remove them.")] = False,
) -> None:
    """Lists stored runs that no experiment has at any scale, and with --yes removes them, but none being executed."""
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
    """Moves runs stored as results/EXP/SCALE/RUN, the layout from before, to results/runs/RUN."""
    from nfrepro.runs import old_layout

    found = old_layout.move(results)
    print(f"{len(found.moved)} moved, {len(found.dropped)} removed whose run is in {results}/runs with the same result")
    if found.left:
        print(f"left where they are, since {results}/runs has their run with another result:")
        print_lines(map(str, found.left))
        raise typer.Exit(1)
