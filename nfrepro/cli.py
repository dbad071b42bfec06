"""The command line: one short function per verb.

Exit status 0: all runs are done (completed or diverged); 1: some failed, were interrupted or are missing; 2: a bad file
or call; 130: stopped.
"""

import fnmatch
import io
import json
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from nfrepro.errors import InputError, did_you_mean
from nfrepro.specs import Experiment, Run, expand, find_experiments, load_experiment, old_name_notes, refuse_old_name
from nfrepro.specs.varied import varied_keys, varied_options
from nfrepro.tasks.registry import SCHEMAS, TASKS

if TYPE_CHECKING:
    from nfrepro.claims.claim import Claim
    from nfrepro.claims.looks import DueLook
    from nfrepro.launch.plan import Plan
    from nfrepro.launch.watching import Watching
    from nfrepro.training.evaluation import Evaluation
    from nfrepro.training.file_evaluation import Subject
    from nfrepro.watch import View

app = typer.Typer(
    help="Checks the claims of the paper on normalizer-free ResNets (arXiv 2101.08692).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ExperimentName = Annotated[str, typer.Argument(metavar="EXP", help="Experiment: a name, or a path ending in .yaml.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the hash at its end.")]
Scale = Annotated[str, typer.Option(help="Budget: smoke, laptop, gpu or paper, as far as the experiment has it.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Overrides one key; may be given several times.")
]
Experiments = Annotated[Path, typer.Option(help="Folder of the experiment files.", envvar="NFREPRO_EXPERIMENTS")]
Results = Annotated[Path, typer.Option(help="Folder of the results.", envvar="NFREPRO_RESULTS")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Runs at once. Default: one per GPU, else per physical core.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Processor threads of each run. Default: its part of the cores. Changes the last digits."),
]
ProcessesOfARun = Annotated[
    int, typer.Option("--processes", min=1, help="Processes of this machine that divide every run, each with its GPU.")
]
Json = Annotated[bool, typer.Option("--json", help="For programs instead of people.")]
Model = Annotated[
    str | None, typer.Option(metavar="NAME", help="Network, say nf_resnet50; for a file that does not know its own.")
]
ModelSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="model.KEY=VALUE", help="One option of the network; may be given several times."),
]
CheckpointSeconds = Annotated[float, typer.Option(min=0, help="Seconds between checkpoints; each epoch has one too.")]

STOPPED = 130
SECONDS_OF_LAST_WORDS = 1.0  # a job says how its run ended after that is stored
EXPERIMENTS = Path("experiments")
RESULTS = Path("results")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nfrepro {version('nfrepro')}")
        raise typer.Exit


@app.callback()
def main_options(
    print_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Checks the claims of the paper on normalizer-free ResNets (arXiv 2101.08692)."""


@app.command("list")
def list_experiments(experiments: Experiments = EXPERIMENTS, as_json: Json = False) -> None:
    """The experiments, their scales and the claims they test."""
    found = [load_experiment(path.stem, experiments) for path in find_experiments(experiments)]
    if as_json:
        _print_json(
            [
                {"name": e.name, "title": e.title, "claims": e.claims, "scales": e.scales, "varies": _varied(e)}
                for e in found
            ]
        )
        return
    for e in found:
        varies = f"  varies: {', '.join(keys)}" if (keys := _varied(e)) else ""
        print(f"{e.name:24} {e.title}  [{', '.join(e.claims)}]  scales: {', '.join(e.scales)}{varies}")


def _varied(experiment: Experiment) -> list[str]:
    """The options, seed left out, in which its runs differ at its smallest scale."""
    return varied_keys(expand(experiment, experiment.scales[0], SCHEMAS)) if experiment.scales else []


@app.command("expand")
def expand_experiment(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    as_json: Json = False,
) -> None:
    """The runs an experiment makes at a scale, each with its identity and full config. Starts nothing."""
    runs = _expand(name, scale, overrides, experiments)
    if as_json:
        _print_json(
            [
                {"id": r.id, "experiment": r.experiment, "scale": r.scale, "task": r.task, "config": r.config}
                for r in runs
            ]
        )
        return
    varied = varied_options(runs)
    for run in runs:
        print(f"{run.id}  {varied[run.id]}".rstrip())


@app.command()
def plan(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="Plan for this profile in experiments/clusters, or a .yaml file.")
    ] = None,
    jobs: Jobs = None,
    threads: Threads = None,
    tflops: Annotated[
        float | None, typer.Option(min=1e-6, help="10^12 operations a second of a device, where nothing is measured.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """What is left to run and what it will cost: hours, memory, disk. Starts and writes nothing."""
    runs = _expand(name, scale, overrides, experiments)
    from nfrepro import planning
    from nfrepro.cost_display import plan_lines
    from nfrepro.display import Counter
    from nfrepro.launch.cluster import load_cluster
    from nfrepro.launch.machine import device_name, share_machine
    from nfrepro.launch.plan import make_plan
    from nfrepro.launch.shapes import find_shapes

    profile = None if cluster is None else load_cluster(cluster, experiments)
    if profile is None:
        share = share_machine(len(runs), jobs, threads)
        machine = planning.Machine.here(share, device_name(share.devices[0]))
    elif jobs is not None or threads is not None:
        raise InputError("--jobs and --threads are not for a cluster: see array_parallelism and cpus_per_run")
    else:
        machine = planning.Machine.of(profile)
    left = make_plan(runs, results, False)
    if profile is None:
        _check_precision(left.execute)
    shapes = find_shapes(runs) if runs[0].task == "train" else []
    with Counter(len(shapes), "shapes") as counter:
        found = planning.plan_cost(left, runs, results, machine, profile, tflops, counter.advance)
    if as_json:
        _print_json(asdict(found))
        return
    for line in plan_lines(found):
        print(line)


@app.command("dry-run")
def dry_run(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER; auto is a GPU if there is one.")] = "auto",
    threads: Threads = None,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Steps timed, after one that is not.")] = 3,
    limit_seconds: Annotated[float, typer.Option(min=1, help="Longest time for one shape, from its start.")] = 120.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """A few real steps of every shape of run: does it fit, how fast is it, is the loss finite? Feeds plan."""
    runs = _expand(name, scale, overrides, experiments)
    if runs[0].task != "train":
        raise InputError(f"{name}: its runs are of the task {runs[0].task}; a dry run is of training")
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise InputError(f"--device {device}: there is: cpu, cuda, cuda:NUMBER, auto")
    from nfrepro.cost_display import count, trial_header, trial_row
    from nfrepro.display import Waiting
    from nfrepro.launch import measurements
    from nfrepro.launch.dry_run import Order, try_shape
    from nfrepro.launch.machine import share_machine
    from nfrepro.launch.shapes import find_shapes

    share = share_machine(len(runs), None, threads)
    order = Order(share.devices[0] if device == "auto" else device, share.threads, steps, limit_seconds)
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


@app.command()
def sweep(
    name: ExperimentName,
    scale: Scale = "laptop",
    executor: Annotated[
        str, typer.Option(help="Where runs execute: local (worker processes here), slurm, or debug (this process).")
    ] = "local",
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help="slurm: profile in experiments/clusters, or a .yaml file.")
    ] = "one_machine",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="slurm: print what sbatch would be given.")] = False,
    jobs: Jobs = None,
    threads: Threads = None,
    processes: ProcessesOfARun = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again.")] = False,
    force: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Redo the runs whose id matches, as 'bn_*'.")
    ] = None,
    overrides: Sets = None,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Executes what is not done yet, and collects all into runs.csv. With slurm: submits it, and returns."""
    executor = "local" if executor == "local-queue" else executor
    if executor not in EXECUTORS:
        raise InputError(
            f"--executor {executor}: unknown{did_you_mean(executor, EXECUTORS)}; there is: {', '.join(EXECUTORS)}"
        )
    if dry_run and (executor != "slurm" or force is not None):
        raise InputError("--dry-run shows what --executor slurm would submit; it goes with no other, nor with --force")
    runs = _expand(name, scale, overrides, experiments)
    from nfrepro.launch.plan import make_plan

    if executor == "slurm":
        if jobs is not None or threads is not None or processes > 1:
            raise InputError(
                "--jobs, --threads and --processes are not for slurm: "
                "see array_parallelism, cpus_per_run and processes_per_run"
            )
        _sweep_on_slurm(runs, results, cluster, experiments, retry, force, checkpoint_seconds, dry_run)
        return
    if executor == "debug" and processes > 1:
        raise InputError("--processes is not for debug, which executes runs in this very process")
    if executor == "debug" and jobs is not None:
        raise InputError("--jobs is not for debug, which executes one run after the other")
    _ask_for_redo(runs, results, force, processes)
    plan = make_plan(runs, results, retry)
    _print_lines(_stored_lines(plan, runs, results))
    _tidy(plan.done, results)
    _prepare(plan.execute, processes)
    _lift_cancellations(plan.execute, results)
    if plan.execute and executor == "debug":
        _execute_here(plan.execute, runs, results, threads, checkpoint_seconds)
    elif plan.execute:
        _execute_locally(plan.execute, runs, results, jobs, threads, processes, checkpoint_seconds)
    path = _write_table(runs, results, overrides)
    if force is not None:
        _print_lines(_tables_to_collect(runs, results, force, path))
    _exit_by_state(runs, results)


@app.command("run")
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
    """Executes one run of an experiment, with the whole machine to itself."""
    run = _select(_expand(name, scale, overrides, experiments), run_id)
    from nfrepro.launch.plan import make_plan

    plan = make_plan([run], results, retry=True)
    if plan.done:
        _print_lines(_stored_lines(plan, [run], results))
    _prepare(plan.execute, processes)
    _lift_cancellations(plan.execute, results)
    if plan.execute:
        _execute_locally(plan.execute, [run], results, 1, threads, processes, checkpoint_seconds)
    _exit_by_state([run], results)


@app.command()
def status(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again and again, until nothing is queued or running.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Where every run of an experiment stands, from the files in its folder and from SLURM's queue."""
    from nfrepro import status_table
    from nfrepro.launch.watching import Watching

    if watch and as_json:
        raise InputError("--watch is for people, --json for programs: take one of them")
    watching = Watching(_expand(name, scale, overrides, experiments), results)
    if watch:
        from nfrepro import watch as screen

        screen.watch(lambda: _view(watching))
        return
    rows = watching.rows()
    if as_json:
        _print_json([{**row._asdict(), "headline": dict([row.headline]) if row.headline else None} for row in rows])
    else:
        print("\n".join(status_table.table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)))
        print(_count([row.state for row in rows]))
    for remark in watching.remarks:
        print(remark, file=sys.stderr)


@app.command()
def logs(
    name: ExperimentName,
    run_id: RunId,
    scale: Scale = "laptop",
    overrides: Sets = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="And what comes, until the run ends.")] = False,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """What there is of a run's output: the logs of its jobs, its evaluations, how far it is, its error."""
    run = _select(_expand(name, scale, overrides, experiments), run_id)
    from nfrepro.launch.watching import Watching
    from nfrepro.run_log import RunLog
    from nfrepro.watch import FOLLOWED, views

    log, watching = RunLog(run, results), Watching([run], results)
    for view in views(lambda: _view(watching), FOLLOWED):
        state = view.rows[0].state
        _print_lines(log.news())
        if not follow:
            break
    else:
        time.sleep(SECONDS_OF_LAST_WORDS)
        _print_lines(log.news())
    print(f"{run.id}: {state}", file=sys.stderr)


@app.command()
def cancel(
    name: ExperimentName,
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the hash at its end. Default: all.")
    ] = None,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Stops what is queued or running, here or on SLURM; the next sweep continues it."""
    runs = _expand(name, scale, overrides, experiments)
    from nfrepro.launch import cancelling

    known = cancelling.everything(results, runs)
    chosen = [_select(known, run_id)] if run_id is not None else runs if overrides else known
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


@app.command()
def collect(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Writes runs.csv: one row a run, flattened config and final numbers."""
    runs = _expand(name, scale, overrides, experiments)
    _write_table(runs, results, overrides)


@app.command()
def compare(
    name: ExperimentName,
    scale: Scale = "laptop",
    overrides: Sets = None,
    other: Annotated[
        Path | None, typer.Option("--with", metavar="DIR", help="Another folder of results, to be set beside.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """The final numbers and processors of an experiment's runs and arms, here and in another folder of results."""
    runs = _expand(name, scale, overrides, experiments)
    from nfrepro.comparison_display import show_comparison
    from nfrepro.runs import comparison, old_layout

    for folder in (results, other):
        if folder is not None:
            _check_folder(folder)
            old_layout.refuse(folder, runs[0])
    found = comparison.compare(runs, results, other)
    if as_json:
        _print_json({"experiment": runs[0].experiment, "scale": scale, **asdict(found)})
    else:
        show_comparison(found)


@app.command()
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
    _check_folder(results)
    unused = pruning.find(results, ids)
    for run in unused:
        tables = f"  in {', '.join(map(str, run.tables))}" if run.tables else ""
        what = "is being executed: stays" if run.is_locked else f"{run.size / 1000:.0f} kB"
        print(f"{run.folder.name}  {what}{tables}")
    free = [run for run in unused if not run.is_locked]
    removed = [run for run in free if pruning.remove(run)] if yes else []
    print(f"{_runs(len(unused))} of no experiment in {experiments}, {len(removed)} removed")
    if free and not yes:
        print("to remove them: nfrepro prune --yes")
    for folder in old_layout.find(results):
        print(f"not looked at, of the layout from before (see nfrepro migrate): {folder}")


def _check_folder(results: Path) -> None:
    if not results.is_dir():
        raise InputError(f"{results}: no such folder of results")


@app.command()
def migrate(results: Results = RESULTS) -> None:
    """Moves runs stored as results/EXP/SCALE/RUN, the layout from before, to results/runs/RUN."""
    from nfrepro.runs import old_layout

    found = old_layout.move(results)
    print(f"{len(found.moved)} moved, {len(found.dropped)} removed whose run is in {results}/runs with the same result")
    if found.left:
        print(f"left where they are, since {results}/runs has their run with another result:")
        _print_lines(map(str, found.left))
        raise typer.Exit(1)


@app.command()
def claims(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Claims to show in detail, say C01. Default: all, in short."),
    ] = None,
    scale: Annotated[
        str | None, typer.Option(help="The verdicts of this scale alone. Default: each claim at the best it has.")
    ] = None,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
    as_json: Json = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also writes the verdicts at all scales with results to claims.json.")
    ] = False,
) -> None:
    """Verdicts on the paper's claims, from stored results. Runs nothing."""
    from nfrepro.claims import lines as claim_lines
    from nfrepro.claims.claim import select_claims
    from nfrepro.claims.file import load_claims
    from nfrepro.report.reading import read_report, verdicts_at
    from nfrepro.report.writing import write_claims

    stated = load_claims(experiments, SCHEMAS)
    wanted = select_claims(stated, ids or [])
    verdicts = [found for found in verdicts_at(scale, stated, experiments, results, SCHEMAS) if found.claim in wanted]
    if write:
        write_claims(read_report(experiments, results, SCHEMAS), results)
    if as_json:
        _print_json([found.report() for found in verdicts])
        return
    for found in verdicts:
        print("\n".join(claim_lines.details(found) if ids else claim_lines.overview(found)))
    print(claim_lines.tally(verdicts, "the best scale of each" if scale is None else f"scale {scale}"))


@app.command()
def report(experiments: Experiments = EXPERIMENTS, results: Results = RESULTS) -> None:
    """Writes claims.json, REPORT.md and report.html from stored results, at all scales that have any. Draws nothing."""
    from nfrepro.report.reading import read_report
    from nfrepro.report.writing import write_report

    found = read_report(experiments, results, SCHEMAS)
    _print_lines(map(str, write_report(found, results)))
    if unexplained := found.unexplained():
        print(f"without a likely reason in {experiments / 'claims.yaml'}: {', '.join(unexplained)}")


@app.command()
def settle(
    name: Annotated[
        str | None, typer.Argument(metavar="[EXP]", help="Only claims that are tested on it. Default: all.")
    ] = None,
    scale: Annotated[str, typer.Option(help="Scale at which the claims are to be settled.")] = "overnight",
    hours: Annotated[float | None, typer.Option(min=0, help="Stop after so many hours; the next call goes on.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is due, its cost, what it can decide.")] = False,
    executor: Annotated[str, typer.Option(help="Where runs execute: local or slurm.")] = "local",
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help="slurm: profile in experiments/clusters.")
    ] = "one_machine",
    jobs: Jobs = None,
    threads: Threads = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again.")] = False,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    experiments: Experiments = EXPERIMENTS,
    results: Results = RESULTS,
) -> None:
    """Runs the seeds that open claims are due, looks, records the looks, and goes on until none is open."""
    from nfrepro import planning, settling
    from nfrepro.claims.file import load_blocks
    from nfrepro.launch.machine import device_name, share_machine
    from nfrepro.launch.plan import make_plan

    if executor not in ("local", "slurm"):
        raise InputError(f"--executor {executor}: there is: local, slurm")
    settler = _Settler(experiments, results, scale, name)
    order, deadline = load_blocks(experiments), None if hours is None else time.monotonic() + 3600 * hours
    blocks = settling.in_blocks(settler.due(record=not dry_run), order, scale)
    if dry_run:
        runs = list({run.id: run for block in blocks for run in block.at_most}.values())
        share = share_machine(len(runs) or 1, jobs, threads)
        costs = planning.run_hours(runs, results, planning.Machine.here(share, device_name(share.devices[0])))
        for block in blocks:
            _print_lines((*settling.block_lines(block, results, costs), ""))
        print(settling.total_line(blocks, results, costs))
        return
    while blocks:
        todo = [(block, left) for block in blocks if (left := make_plan(block.runs, results, retry).execute)]
        if not todo:
            print(settling.total_line(blocks, results, {}) + ", which failed: RETRY=1 tries them again")
            raise typer.Exit(1)
        block, left = todo[0]
        print(f"{block.name}: {len(left)} of {_runs(len(block.runs))} left for the next looks", flush=True)
        if executor == "slurm":
            for experiment in dict.fromkeys(run.experiment for run in left):
                runs = [run for run in left if run.experiment == experiment]
                _sweep_on_slurm(runs, results, cluster, experiments, retry, None, checkpoint_seconds, False)
            print("when they are done: the same command")
            return
        _prepare(left)
        _lift_cancellations(left, results)
        if not _execute_until(deadline, left, results, jobs, threads, checkpoint_seconds):
            settler.due(record=True)
            print(f"{hours:g} hours are over; the same command goes on")
            return
        retry = False
        blocks = settling.in_blocks(settler.due(record=True), order, scale)
    print(f"no claim is open at scale {scale}")


class _Settler:
    """The claims to be settled, and the tables that they are judged by."""

    def __init__(self, experiments: Path, results: Path, scale: str, only: str | None) -> None:
        from nfrepro.claims.checks import check_looks, check_runs, check_scale, known_scales
        from nfrepro.claims.file import load_claims
        from nfrepro.claims.looks import Expansions

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
        """Collects the tables, looks, says what was found, and returns the looks that are due next."""
        from nfrepro.claims.judge import judge_at
        from nfrepro.claims.looks import due_looks, record_looks
        from nfrepro.report.reading import stored_scales

        tests = [test for claim in self.claims for test in claim.tests_at(self.scale)]
        tests += [control.test for claim in self.claims for control in claim.controls_at(self.scale)]
        for experiment in dict.fromkeys(test.form.experiment for test in tests):
            runs = self.expansions.runs(experiment)
            # A table without any result would only be in the way of drawing the others.
            if record and any(_is_done(run, self.results) for run in runs):
                _collect(runs, self.results)
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
    """Those that the claim is tested on at a scale."""
    return {test.form.experiment for test in claim.tests_at(scale)}


def _is_done(run: Run, results: Path) -> bool:
    from nfrepro.runs import store

    return store.read(store.run_folder(results, run), run).state in store.DONE


def _execute_until(
    deadline: float | None, runs: Sequence[Run], results: Path, jobs: int | None, threads: int | None, seconds: float
) -> bool:
    """Executes runs as a sweep does; returns False where the deadline stopped it, as Ctrl-C would."""
    if deadline is not None:
        if deadline <= time.monotonic():
            return False
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, deadline - time.monotonic())
    try:
        _execute_locally(runs, runs, results, jobs, threads, 1, seconds)
    except KeyboardInterrupt:
        if deadline is not None and time.monotonic() >= deadline:
            return False
        raise
    finally:
        if deadline is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return True


@app.command()
def bench(
    subject: Annotated[
        str,
        typer.Argument(
            help="What to measure: specs, launch, calibration; models, models_compiled, propagation (need timm)."
        ),
    ] = "specs",
    quick: Annotated[
        bool, typer.Option("--quick", help="launch, calibration: a short trial, whose numbers mean nothing.")
    ] = False,
) -> None:
    """Measures speed on this machine, by medians and ratios of repetitions; or how often verdicts are wrong."""
    from nfrepro import bench as benchmarks

    if subject not in benchmarks.SUBJECTS:
        raise InputError(f"bench {subject}: unknown; there is: {', '.join(benchmarks.SUBJECTS)}")
    if quick and subject not in benchmarks.QUICK:
        raise InputError(f"bench {subject}: has no --quick, which is for {', '.join(benchmarks.QUICK)}")
    for line in (benchmarks.QUICK if quick else benchmarks.SUBJECTS)[subject]():
        print(line, flush=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Weights: .npz of the authors' tree, .safetensors, .pt or .pth.")],
    out: Annotated[Path, typer.Argument(help="File to write: .safetensors or .pt.")],
    model: Model = None,
    overrides: ModelSets = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
) -> None:
    """Writes weights, with the authors' names, timm's or ours, as a file that knows its network."""
    options = _model_options(overrides)
    from nfrepro.models import weights

    weights.check_output(out, force)
    network, description = weights.build_network(weights.read_weights(source), model, options)
    weights.write_weights(out, network, description, force)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    classes, naming = description.num_classes, description.source_naming
    print(f"{out}: {description.model}, {classes:,} classes, {parameters:,} parameters, from {naming} names")


@app.command()
def evaluate(
    weights: Annotated[Path, typer.Option(metavar="FILE", help="Weights, of any kind that convert reads.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Images: DIR/<class>/*.jpg, DIR/val/… or DIR/test/….")],
    model: Model = None,
    overrides: ModelSets = None,
    pixels: Annotated[
        int | None, typer.Option(min=1, max=4096, help="Side of an image. Default: the network's.")
    ] = None,
    crop: Annotated[
        float, typer.Option(help="Central crop: a padding in pixels (the authors'), or a fraction up to 1 (timm's).")
    ] = 32,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:NUMBER; auto is a GPU if there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: Json = False,
) -> None:
    """Top-1, top-5 and loss of stored weights on a folder of labelled images."""
    options = _model_options(overrides)
    from nfrepro.display import Counter
    from nfrepro.training import file_evaluation as files

    crops, place = files.chosen_crop(crop), files.chosen_device(device)
    protocol = files.Protocol(crops, pixels, batch, place, files.chosen_precision(precision))
    subject = files.prepare(weights, data, model, options, protocol)
    with Counter(len(subject.images), "images") as counter:
        result = files.evaluate_subject(subject, counter.advance)
    report = _accuracy_report(subject, result)
    if as_json:
        _print_json(report)
        return
    for name, value in report.items():
        if name != "options":
            print(f"{name:14} {_report_line(value)}")


@app.command()
def gain(
    functions: Annotated[
        list[str], typer.Argument(help="relu, silu, …, package.module:callable, or 'lambda x: torch.tanh(x) * x'.")
    ],
    as_json: Json = False,
) -> None:
    """The constant gamma of activations, exact by quadrature, beside the published one."""
    from nfrepro.gains import Gain, gain_of
    from nfrepro.lookup import find_activation

    gains = [gain_of(find_activation(text)) for text in functions]
    if as_json:
        _print_json([asdict(found) for found in gains])
    else:
        print("\n".join(Gain.lines(gains)))
    if any(found.problem for found in gains):
        raise typer.Exit(1)


@app.command()
def spp(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL…", help="nf_resnet50, torchvision:resnet50, timm:NAME, package.module:callable."),
    ],
    pixels: Annotated[int, typer.Option(min=1, max=4096, help="Side of an image.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images at once.")] = 4,
    images: Annotated[str, typer.Option("--input", help="gaussian (N(0, 1) noise), or images:DIR.")] = "gaussian",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Initialisations (and batches) measured.")] = 3,
    overrides: ModelSets = None,
    blocks: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Names of the residual blocks' modules, if not found.")
    ] = None,
    unit_gains: Annotated[
        bool, typer.Option("--unit-gains", help="Set gains that start near zero (SkipInit, LayerScale) to 1.")
    ] = False,
    logarithmic: Annotated[bool, typer.Option("--log", help="Logarithmic vertical axes.")] = False,
    out: Annotated[Path, typer.Option(help="Files to write, without ending: .csv, .png and .svg.")] = Path("spp"),
    force: Annotated[bool, typer.Option("--force", help="Replace them if they are there.")] = False,
) -> None:
    """Signal propagation plot of one network or several: the signal after every block, at initialisation."""
    options = _model_options(overrides)
    from nfrepro import spp as plots
    from nfrepro.display import Counter
    from nfrepro.lookup import find_network

    plots.check_output(out, force)
    networks = [find_network(text, options) for text in models]
    source = plots.parse_input(images, pixels, batch)
    with Counter(len(networks) * seeds, "networks") as counter:
        measured = plots.measure(networks, source, seeds, blocks, counter.advance, unit_gains)
    for path in plots.write(measured.curves, source, out, logarithmic):
        print(path)
    for line in measured.remarks:
        print(line, file=sys.stderr)


def main() -> NoReturn:
    """Entry point: turns whatever is wrong with the input into one line and exit status 2."""
    signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        sys.exit(_complain(str(error), 2))
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has left: nothing to say, and nobody to say it to
        sys.exit(141)
    except OSError as error:
        sys.exit(_complain(f"{error.filename or 'system'}: {error.strerror or error}: mend this and start again", 1))
    except Exception as error:
        if hasattr(error, "format_message"):  # a mistake in the call, found by typer
            sys.exit(_complain(f"{error.format_message()} (see nfrepro --help)", 2))
        raise
    if code == STOPPED:  # typer turns a KeyboardInterrupt into it
        _complain("stopped: the same command continues where it stopped", STOPPED)
    sys.exit(code if isinstance(code, int) else 0)


def _expand(name: str, scale: str, overrides: Sequence[str] | None, experiments: Path) -> list[Run]:
    experiment = load_experiment(name, experiments)
    runs = expand(experiment, scale, SCHEMAS, overrides or ())
    for note in old_name_notes(experiment, SCHEMAS[experiment.task], overrides or ()):
        print(f"nfrepro: {note}", file=sys.stderr)
    return runs


def _model_options(overrides: Sequence[str] | None) -> dict[str, Any]:
    """`model.KEY=VALUE` as options of the network, by the rules of experiment files."""
    from nfrepro.specs.layers import read_override
    from nfrepro.specs.reader import plain

    options = {}
    for text in overrides or ():
        key, value = read_override(text)
        if len(key) != 2 or key[0] != "model" or key[1] == "name":
            raise InputError(f"--set {text}: expected model.OPTION=VALUE, for example model.activation=silu")
        options[key[1]] = plain(value)
    return options


def _accuracy_report(subject: "Subject", result: "Evaluation") -> dict[str, Any]:
    """What was evaluated how, with what result; accuracies are in percent, with their intervals."""
    from nfrepro.stats.proportions import wilson_interval

    top1, top5 = (
        wilson_interval(round(share * result.images / 100), result.images) for share in (result.top1, result.top5)
    )
    return {
        "model": subject.description.model,
        "options": subject.description.options,
        "weights_sha256": subject.weights_sha256,
        "images": result.images,
        "classes": len(subject.images.classes),
        "pixels": subject.pixels,
        "crop": str(subject.protocol.crop),
        "precision": subject.protocol.precision,
        "device": str(subject.protocol.device),
        "top1": {"percent": top1.mean, "low": top1.low, "high": top1.high},
        "top5": {"percent": top5.mean, "low": top5.low, "high": top5.high},
        "interval": top1.method,
        "loss": result.loss,
    }


def _report_line(value: Any) -> str:
    """`76.71 %  [76.34, 77.08]` for an accuracy."""
    if isinstance(value, dict):
        return f"{value['percent']:.2f} %  [{value['low']:.2f}, {value['high']:.2f}]"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _tidy(runs: Sequence[Run], results: Path) -> None:
    from nfrepro.runs import store
    from nfrepro.runs.tidying import tidy

    for run in runs:
        tidy(store.run_folder(results, run))


def _select(runs: Sequence[Run], run_id: str) -> Run:
    chosen = [run for run in runs if run.id == run_id or run.id.rpartition("-")[2] == run_id]
    if not chosen:
        raise InputError(
            f"no run {run_id}{did_you_mean(run_id, [run.id for run in runs])} among these {len(runs)} runs"
        )
    return chosen[0]


def _prepare(runs: Sequence[Run], processes: int = 1, here: bool = True) -> None:
    """Everything that the runs need, of this machine where they execute `here`, is found or fetched before the first of
    them starts."""
    if here:
        _check_precision(runs)
    seen = set()
    for run in runs:
        _check_processes(run, processes)
        needs = json.dumps([run.task, run.config.get("data")], sort_keys=True)
        if needs not in seen:
            seen.add(needs)
            task = TASKS[run.task]
            task.prepare(task.options.model_validate(run.config), lambda text: print(text, flush=True))


def _ask_for_redo(runs: Sequence[Run], results: Path, pattern: str | None, processes: int, here: bool = True) -> None:
    from nfrepro.runs import redo

    chosen = [] if pattern is None else redo.find(results, runs, pattern)
    _prepare(chosen, processes, here)
    for run in chosen:
        redo.request(results, run)
        print(f"{run.id}  to be redone; what is stored stays until the new result is complete")


def _stored_lines(plan: "Plan", runs: Sequence[Run], results: Path) -> Iterator[str]:
    from nfrepro.runs.stored_results import stored_lines

    yield from stored_lines(results, runs, plan.done, len(plan.execute), len(plan.failed))
    if not plan.execute:
        from nfrepro.changed_data import changed_data_lines

        yield from changed_data_lines(results, plan.done)


def _lift_cancellations(runs: Sequence[Run], results: Path) -> None:
    """Whoever asks for `runs` after they were cancelled wants them."""
    from nfrepro.runs import cancellation, store

    for run in runs:
        cancellation.lift(store.run_folder(results, run), run)


def _check_processes(run: Run, processes: int) -> None:
    task = TASKS[run.task]
    try:
        task.check_processes(task.options.model_validate(run.config), processes)
    except InputError as error:
        raise InputError(f"{run.id}: {error}") from None


def _check_precision(runs: Sequence[Run]) -> None:
    """Raises `InputError` where the processor here would have to emulate the precision that `runs` train in."""
    from nfrepro.launch.machine import count_gpus
    from nfrepro.training.precision import check_precision

    precisions = {run.config["train"]["precision"]: run.id for run in runs if "train" in run.config}
    if "bfloat16" not in precisions or count_gpus():
        return
    for precision, name in precisions.items():
        try:
            check_precision(precision, "cpu")
        except InputError as error:
            raise InputError(f"{name}: {error}") from None


def _execute_locally(
    runs: Sequence[Run],
    sweep: Sequence[Run],
    results: Path,
    jobs: int | None,
    threads: int | None,
    processes: int,
    checkpoint_seconds: float,
) -> None:
    from nfrepro.display import make_display
    from nfrepro.launch.local_queue import execute_all
    from nfrepro.launch.machine import share_machine

    share = share_machine(len(runs), jobs, threads, processes)
    with make_display(len(sweep), len(sweep) - len(runs), varied_options(sweep)) as display:
        execute_all(runs, results, share, checkpoint_seconds, display.observe, display.stopping)


def _execute_here(
    runs: Sequence[Run], sweep: Sequence[Run], results: Path, threads: int | None, checkpoint_seconds: float
) -> None:
    """Lines, no bars: a debugger needs the terminal."""
    from nfrepro.display import Lines
    from nfrepro.launch.machine import share_machine
    from nfrepro.launch.this_process import execute_in_turn

    with Lines(len(sweep), len(sweep) - len(runs), varied_options(sweep)) as display:
        execute_in_turn(runs, results, share_machine(1, 1, threads), checkpoint_seconds, display.observe)


def _sweep_on_slurm(
    runs: Sequence[Run],
    results: Path,
    cluster: str,
    experiments: Path,
    retry: bool,
    force: str | None,
    checkpoint_seconds: float,
    dry_run: bool,
) -> None:
    """Submits what is neither done, nor being executed, nor queued; waits for nothing."""
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
        _ask_for_redo(runs, results, force, profile.processes_per_run, here=False)
        left = _left_for_slurm(runs, results, retry, slurm.queued(results, runs))
        if not left:
            print("nothing to submit")
            return
        if silent := slurm.ended_silently(results, left):
            complain(f"{silent} earlier jobs ended before they began: cancelled, or their nodes do not see {results}")
        _prepare(left, profile.processes_per_run, here=False)
        _lift_cancellations(left, results)
        submitted = slurm.submit(divide(left, results, profile, checkpoint_seconds), complain)
    jobs = sum(len(array.jobs) for array in submitted.arrays)
    ids = ", ".join(str(array.job_id) for array in submitted.arrays)
    print(f"submitted {_count(['queued'] * len(left))} in {jobs} jobs of up to {profile.timeout_min} min: {ids}")
    print(f"logs: {submitted.jobs}")


def _left_for_slurm(runs: Sequence[Run], results: Path, retry: bool, queued: set[str]) -> list[Run]:
    from nfrepro.launch.plan import make_plan
    from nfrepro.runs import redo

    plan = make_plan(runs, results, retry)
    for line in _stored_lines(plan, runs, results) if plan.done else ():
        print(line, file=sys.stderr)
    states = {run.id: redo.read_work(results, run).state for run in plan.execute}
    running = {name for name, state in states.items() if state == "running"}
    # A cancelled run may be in a job that has others to do, and has passed it over already.
    queued = queued - {name for name, state in states.items() if state == "cancelled"}
    left = [run for run in plan.execute if run.id not in queued | running]
    words = ["done"] * len(plan.done) + ["failed"] * len(plan.failed) + ["running"] * len(running)
    words += ["queued"] * sum(run.id in queued - running for run in plan.execute) + ["to submit"] * len(left)
    print(_count(words), file=sys.stderr)
    return left


EXECUTORS = ("local", "local-queue", "slurm", "debug")


def _tables_to_collect(runs: Sequence[Run], results: Path, pattern: str, own: Path) -> Iterator[str]:
    """Other tables that list runs which were redone, and so have their former numbers."""
    from nfrepro.runs.listed import tables_by_run

    listed = tables_by_run(results)
    redone = [run.id for run in runs if fnmatch.fnmatchcase(run.id, pattern)]
    for path in sorted({path for name in redone for path in listed.get(name, ())} - {own}):
        yield f"redone runs are in {path} too: nfrepro collect {path.parts[-3]} --scale {path.parts[-2]}"


def _write_table(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None) -> Path:
    """Writes the table of `runs`; with overrides it has a name of its own, and replaces no other. Returns its path."""
    path, left_over = _collect(runs, results, overrides)
    if left_over and not overrides:
        print(f"{left_over} stored runs are not part of the experiment as it is now: marked in_experiment = False")
    print(f"table: {path}")
    return path


def _collect(runs: Sequence[Run], results: Path, overrides: Sequence[str] | None = None) -> tuple[Path, int]:
    """As `_write_table`, without a word: the path of the table, and how many runs are no longer in the experiment."""
    from nfrepro.runs import old_layout, redo, store
    from nfrepro.runs import table as collection

    old_layout.refuse(results, runs[0])
    redo.finish(results, runs)
    if runs[0].scale != store.UNKEPT_SCALE:
        for run in runs:
            store.show_to_git(store.run_folder(results, run))
    experiment, scale = runs[0].experiment, runs[0].scale
    table = collection.collect(results, experiment, scale, runs, overrides or ())
    path = collection.write_table(collection.table_path(results, experiment, scale, overrides or ()), table)
    return path, int((~table["in_experiment"]).sum())


def _exit_by_state(runs: Sequence[Run], results: Path) -> None:
    """Says how many runs are where; exit status 1 unless all are done, with a list of those that are not."""
    from nfrepro.runs import redo, store

    stored = {run.id: redo.read_work(results, run) for run in runs}
    for name, found in stored.items():
        if found.state not in store.DONE:
            reason = f": {found.record['error']}" if found.record and found.record["error"] else ""
            log = f" ({found.folder / store.ERROR})" if found.state == "failed" else ""
            print(f"{found.state}  {name}{reason}{log}")
            if found.folder != store.runs_folder(results) / name:
                print(f"    what is stored stands; to do without the redo: rm -r {found.folder}*")
    print(_count([found.state for found in stored.values()]))
    if any(found.state not in store.DONE for found in stored.values()):
        if any(found.state == "failed" for found in stored.values()):
            print("failed runs are tried again with --retry (make: RETRY=1)")
        raise typer.Exit(1)


def _view(watching: "Watching") -> "View":
    from nfrepro.watch import View

    rows = watching.rows()
    return View(rows, [_count([row.state for row in rows]), *watching.remarks], watching.seconds_of_rest)


# What a cancelled run does next, by its state.
_WILL = {
    "running": "saves and stops at its next step",
    "stalled": "stops at its next step, if it ever comes back",
    "requeued": "will not go on",
    "interrupted": "will not go on",
    "queued": "will not begin",
    "waiting": "will not begin",
}


def _count(states: Sequence[str]) -> str:
    return f"{_runs(len(states))}: {_tally(states)}"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _tally(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in sorted(Counter(words).items()))


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _complain(text: str, code: int) -> int:
    print(f"nfrepro: {text}", file=sys.stderr)
    return code


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
