"""The verb settle, which runs the seeds that open claims still need."""

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfrepro.cli.arguments import EXPERIMENTS, RESULTS, CheckpointSeconds, Experiments, Jobs, Results
from nfrepro.cli.execution import execute_locally, lift_cancellations, prepare
from nfrepro.cli.on_slurm import refuse_on_slurm, sweep_on_slurm
from nfrepro.cli.output import interrupt, print_lines, runs_text
from nfrepro.cli.tables import collect_table
from nfrepro.errors import InputError
from nfrepro.specs import Run, refuse_old_name
from nfrepro.tasks.registry import SCHEMAS
from nfrepro.terminal import outlive_readers

if TYPE_CHECKING:
    from nfrepro.claims.claim import Claim
    from nfrepro.claims.looks import DueLook
    from nfrepro.cli.look_blocks import Block


def settle(
    name: Annotated[
        str | None, typer.Argument(metavar="EXP", help="Settle only claims tested on this experiment. Default: all.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Scale at which to settle the claims.")] = "overnight",
    hours: Annotated[
        float | None,
        typer.Option(min=0, max=1e5, help="local: stop after this many hours; the same command continues."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what is due, what it costs and what it can decide.")
    ] = False,
    executor: Annotated[str, typer.Option(help="Where to execute runs: local or slurm.")] = "local",
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help="slurm: a profile in experiments/clusters, or a .yaml file.")
    ] = "one_machine",
    jobs: Jobs = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads per run. Affects the last digits. Default: 1.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry failed runs.")] = False,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Run the seeds that open claims still need, until none is open.

    Runs the seeds for the next planned looks, judges the claims, records the looks, and repeats. With slurm: submits
    the runs that are due, and returns.
    """
    from nfrepro.claims.file import load_blocks
    from nfrepro.cli import look_blocks
    from nfrepro.launch.remaining import find_remaining

    if executor not in ("local", "slurm"):
        raise InputError(f"--executor {executor}: there is: local, slurm")
    if executor == "slurm":
        given = {"--hours": hours is not None, "--jobs": jobs is not None, "--threads": threads is not None}
        refuse_on_slurm(given, "timeout_min, array_parallelism and cpus_per_run")
    threads = 1 if threads is None else threads
    settler = Settler(experiments, results, scale, name)
    order, deadline = load_blocks(experiments), None if hours is None else time.monotonic() + 3600 * hours
    blocks = look_blocks.in_blocks(settler.due(record=not dry_run), order, scale)
    if dry_run:
        _show_due(blocks, results, jobs, threads)
        return
    outlive_readers()
    while blocks:
        todo = [(block, left) for block in blocks if (left := find_remaining(block.runs, results, retry).execute)]
        if not todo:
            print(look_blocks.total_line(blocks, results, {}) + ", which failed: RETRY=1 tries them again")
            raise typer.Exit(1)
        block, left = todo[0]
        print(f"{block.name}: {len(left)} of {runs_text(len(block.runs))} left for the next looks", flush=True)
        if executor == "slurm":
            for experiment in dict.fromkeys(run.experiment for run in left):
                runs = [run for run in left if run.experiment == experiment]
                sweep_on_slurm(runs, results, cluster, experiments, retry, None, checkpoint_seconds, False)
            print("when they are done: the same command")
            return
        prepare(left)
        lift_cancellations(left, results)
        if not _execute_until(deadline, left, results, jobs, threads, checkpoint_seconds):
            settler.due(record=True)
            print(f"{hours:g} hours are over; the same command goes on")
            return
        retry = False
        blocks = look_blocks.in_blocks(settler.due(record=True), order, scale)
        if unfinished := find_remaining(left, results, retry=False).execute:
            status = f"nfrepro status {unfinished[0].experiment} --scale {scale}"
            print(f"{runs_text(len(unfinished))} stopped before the end: {status}")
            raise typer.Exit(1)
    print(f"no claim is open at scale {scale}")


def _show_due(blocks: "Sequence[Block]", results: Path, jobs: int | None, threads: int) -> None:
    """Prints the looks that are due, what they cost on this machine, and what they can decide."""
    from nfrepro.cli import look_blocks
    from nfrepro.cost import plan as planning
    from nfrepro.cost.machine import Machine
    from nfrepro.launch.devices import device_name, divide_machine

    runs = list({run.id: run for block in blocks for run in block.at_most}.values())
    resources = divide_machine(len(runs) or 1, jobs, threads)
    costs = planning.run_hours(runs, results, Machine.here(resources, device_name(resources.devices[0])))
    for block in blocks:
        print_lines((*look_blocks.block_lines(block, results, costs), ""))
    print(look_blocks.total_line(blocks, results, costs))


class Settler:
    """The claims to be settled, and the tables by which they are judged."""

    def __init__(self, experiments: Path, results: Path, scale: str, only: str | None) -> None:
        from nfrepro.claims.checks import check_looks, check_runs, check_scale
        from nfrepro.claims.file import load_claims
        from nfrepro.claims.looks import Expansions
        from nfrepro.claims.runs import known_scales

        self.experiments, self.results, self.scale, self.only = experiments, results, scale, only
        self.claims = load_claims(experiments, SCHEMAS)
        check_scale(self.claims, experiments, scale)
        check_runs(self.claims, experiments, scale, SCHEMAS)
        check_looks(self.claims, experiments, scale, SCHEMAS)
        if only is not None and not any(only in _experiments(claim, scale) for claim in self.claims):
            refuse_old_name(only)
            raise InputError(f"{only}: no claim is tested on it at scale {scale}")
        self.scales = known_scales(self.claims, experiments)
        self.expansions = Expansions(experiments, scale, SCHEMAS)

    def due(self, record: bool) -> "list[DueLook]":
        """The looks that are due next. With `record`, first collects the tables, then records and prints new looks."""
        from nfrepro.claims.judge import judge_at, stored_scales
        from nfrepro.claims.looks import due_looks, record_looks
        from nfrepro.cli.look_blocks import is_done

        tests = [test for claim in self.claims for test in claim.tests_at(self.scale)]
        tests += [control.test for claim in self.claims for control in claim.controls_at(self.scale)]
        for experiment in dict.fromkeys(test.form.experiment for test in tests):
            runs = self.expansions.runs(experiment)
            # A table without any result would only hinder the drawing of the others.
            if record and any(is_done(run, self.results) for run in runs):
                collect_table(runs, self.results)
        stored = stored_scales(self.claims, self.scales, self.results)
        verdicts = judge_at(self.claims, self.results, stored, self.scale)
        if record:
            added, differing = record_looks(verdicts, self.results)
            for line in differing:
                print(f"nfrepro: {line}", file=sys.stderr)
            for look in added:
                ending = f", {look['ending']}" if look["ending"] else ""
                print(f"{look['claim']} looked at with {look['n']} seeds an arm: {look['verdict']}{ending}", flush=True)
        due = due_looks(verdicts, self.expansions, self.scale)
        return [look for look in due if self.only in (None, *_experiments(look.claim, self.scale))]


def _experiments(claim: "Claim", scale: str) -> set[str]:
    """The experiments that test the claim at a scale."""
    return {test.form.experiment for test in claim.tests_at(scale)}


def _execute_until(
    deadline: float | None, runs: Sequence[Run], results: Path, jobs: int | None, threads: int | None, seconds: float
) -> bool:
    """Executes runs as a sweep does; returns False if the deadline stopped it, as Ctrl-C would."""
    if deadline is not None:
        if deadline <= time.monotonic():
            return False
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, deadline - time.monotonic())
    try:
        execute_locally(runs, runs, results, jobs, threads, 1, seconds)
    except KeyboardInterrupt:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        raise
    finally:
        if deadline is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return True
