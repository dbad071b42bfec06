"""Verbs about cost: plan, dry-run."""

import re
from dataclasses import asdict
from typing import Annotated

import typer

from nfrepro.cli.arguments import (
    EXPERIMENTS,
    RESULTS,
    ExperimentName,
    Experiments,
    Jobs,
    Json,
    Results,
    Scale,
    Sets,
    Threads,
    expand_runs,
)
from nfrepro.cli.execution import check_precision
from nfrepro.cli.output import print_json
from nfrepro.errors import InputError
from nfrepro.terminal import outlive_readers


def plan(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Plan for a cluster: a profile in experiments/clusters, or a .yaml file."),
    ] = None,
    jobs: Jobs = None,
    threads: Threads = None,
    tflops: Annotated[
        float | None,
        typer.Option(min=1e-6, help="Assumed speed of a device, in 10^12 operations per second, where not measured."),
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Show what is left to run and its cost: hours, memory, disk. Starts and writes nothing."""
    runs = expand_runs(name, scale, overrides, experiments)
    from nfrepro.cli.cost_tables import plan_lines
    from nfrepro.cli.progress import Counter
    from nfrepro.cost import plan as planning
    from nfrepro.cost.machine import Machine
    from nfrepro.cost.shapes import find_shapes
    from nfrepro.launch.cluster import load_cluster
    from nfrepro.launch.devices import device_name, divide_machine
    from nfrepro.launch.remaining import find_remaining

    profile = None if cluster is None else load_cluster(cluster, experiments)
    if profile is None:
        resources = divide_machine(len(runs), jobs, threads)
        machine = Machine.here(resources, device_name(resources.devices[0]))
    elif jobs is not None or threads is not None:
        raise InputError("--jobs and --threads are not for a cluster: see array_parallelism and cpus_per_run")
    else:
        machine = Machine.of(profile)
    left = find_remaining(runs, results, False)
    if profile is None:
        check_precision(left.execute)
    shapes = find_shapes(runs) if runs[0].task == "train" else []
    with Counter(len(shapes), "shapes") as counter:
        found = planning.plan_cost(left, runs, results, machine, profile, tflops, counter.advance)
    if as_json:
        print_json(asdict(found))
        return
    for line in plan_lines(found):
        print(line)


def dry_run(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:NUMBER, or auto (a GPU if there is one).")] = "auto",
    threads: Threads = None,
    steps: Annotated[
        int, typer.Option(min=1, max=1000, help="Steps to time after warm-up; on a GPU more, up to a second.")
    ] = 3,
    limit_seconds: Annotated[
        float, typer.Option(min=1, max=1e6, help="Time limit for one shape in seconds, including startup.")
    ] = 120.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Try a few real training steps of each shape of run.

    Shows whether they fit in memory, how fast they are, and whether the loss is finite. plan uses the measurements.
    Runs have the same shape if their steps cost the same.
    """
    runs = expand_runs(name, scale, overrides, experiments)
    if runs[0].task != "train":
        raise InputError(f"{name}: its runs are of the task {runs[0].task}; a dry run needs training runs")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"--device {device}: there is: cpu, cuda, cuda:NUMBER, auto")
    from nfrepro.cli.cost_tables import count, trial_header, trial_row
    from nfrepro.cli.progress import Waiting
    from nfrepro.cost import measurements
    from nfrepro.cost.dry_run import Order, try_shape
    from nfrepro.cost.shapes import find_shapes
    from nfrepro.launch.devices import divide_machine

    outlive_readers()
    resources = divide_machine(len(runs), None, threads)
    order = Order(resources.devices[0] if device == "auto" else device, resources.threads, steps, limit_seconds)
    shapes = find_shapes(runs)
    print(f"{order.device}, {count(order.threads, 'thread')}; {count(steps, 'step')}; rates in images/s", flush=True)
    print(trial_header(shapes), flush=True)
    good = True
    for number, shape in enumerate(shapes, start=1):
        with Waiting(f"[{number}/{len(shapes)}] {shape.label}") as waiting:
            found = try_shape(shape, order, waiting.show)
        measurements.keep(found, results, shape.runs[0])
        print(trial_row(found, shapes), flush=True)
        good = good and found.status in ("measured", "slow")
    if not good:
        raise typer.Exit(1)
