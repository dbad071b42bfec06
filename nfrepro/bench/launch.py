"""Cost of launching sweeps: growth with the number of runs, overhead of the local queue, gain from sharing the machine.

The latter two are in `workers.py`. Commands are called as by a user, in separate folders.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import nfrepro
from nfrepro.bench.workers import bench_overhead, bench_packing
from nfrepro.launch import submission as kept
from nfrepro.launch.cluster import Cluster
from nfrepro.runs import store
from nfrepro.runs.provenance import provenance
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

NAME, SCALE = "many", "bench"
TRAINING = """\
title: many training runs
task: train
set: {data: {name: synthetic}, model: {name: nf_resnet}, train: {epochs: 90}}
"""
A_MOMENT = "title: many runs of a moment each\ntask: gain\nset: {activation: relu}\n"
PROFILE = "timeout_min: 10\nseconds_to_save: 60\narray_parallelism: 1\n"
# Runs submitted to a real scheduler and cancelled at once: within the usual limits on jobs and arrays.
MOST_SUBMITTED = 1000


@dataclass(frozen=True)
class Sizes:
    """The amount of work to measure."""

    sweeps: tuple[int, ...]  # runs of a sweep
    repetitions: int
    # Seconds of training of a run; None: as short as possible.
    alone: float | None  # long enough for the queue's overhead to be small
    packed: float | None  # when it does not share the machine


def bench_launch() -> Iterator[str]:
    """Measures sweeps of up to 10,000 runs.

    Goals: no cost grows faster than the number of runs; the queue adds less than 2 % to runs of 30 s; with a run on
    each of two cores there are 1.6 x the runs per hour.
    """
    yield from _bench(Sizes((100, 1_000, 10_000), repetitions=3, alone=30.0, packed=10.0))


def bench_launch_quickly() -> Iterator[str]:
    """Runs `bench_launch` with few and short runs: shows that it works; the numbers mean nothing."""
    yield from _bench(Sizes((2, 4), repetitions=1, alone=None, packed=None))


def _bench(sizes: Sizes) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        yield from bench_growth(Path(name), sizes)
    if scheduler_answers():
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:  # jobs on other machines must see it
            yield from bench_submission(Path(name), sizes)
    yield from bench_overhead(sizes.alone)
    yield from bench_packing(sizes.packed, sizes.repetitions)


def bench_growth(folder: Path, sizes: Sizes) -> Iterator[str]:
    """A line for each command: seconds at every size, and milliseconds per further run."""
    sweeps = [make_sweep(folder / str(size), TRAINING, size) for size in sizes.sweeps]
    for sweep in sweeps:
        _write_finished(sweep.results, sweep.runs)
        kept.keep(kept.divide(sweep.runs, sweep.folder / "kept", Cluster(timeout_min=10), checkpoint_seconds=60.0))
    submit = ["--executor", "slurm", "--cluster", "here.yaml", "--dry-run"]
    calls: dict[str, Callable[[Sweep], object]] = {
        "--help": lambda sweep: sweep.call("--help"),
        "expand": lambda sweep: sweep.call("expand", NAME),
        "sweep, what sbatch gets": lambda sweep: sweep.call("sweep", NAME, *submit, results="empty"),
        "sweep, all runs finished": lambda sweep: sweep.call("sweep", NAME, *submit),
        "status": lambda sweep: sweep.call("status", NAME),
        "collect": lambda sweep: sweep.call("collect", NAME),
        "a job finds its runs": lambda sweep: kept.earlier(sweep.folder / "kept", sweep.runs[0]),
    }
    measured: dict[str, list[list[float]]] = {name: [[] for _ in sweeps] for name in calls}
    for _ in range(sizes.repetitions):
        for place, sweep in enumerate(sweeps):
            for name, call in calls.items():
                start = time.perf_counter()
                call(sweep)
                measured[name][place].append(time.perf_counter() - start)
    yield f"sweeps of N training runs, all commands with the start of Python; medians, n = {sizes.repetitions}"
    yield f"{'':26}" + "".join(f"{f'N = {size:,}':>12}" for size in sizes.sweeps) + "    milliseconds a further run"
    for name, seconds in measured.items():
        yield growth_line(name, sizes.sweeps, [statistics.median(values) for values in seconds])


def growth_line(name: str, sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """A line with the seconds at each of `sizes`, and the milliseconds per further run between one and the next."""
    pairs = pairwise(zip(sizes, seconds, strict=True))
    further = [1000 * (after - before) / (more - few) for (few, before), (more, after) in pairs]
    cells = "".join(f"{value:10.3f} s" for value in seconds)
    return f"{name:26}{cells}    " + ", then ".join(f"{value:.3f}" for value in further)


@dataclass(frozen=True)
class Sweep:
    """An experiment in a separate folder."""

    folder: Path
    runs: tuple[Run, ...]

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def call(self, *arguments: str, results: str = "results") -> str:
        """Calls `nfrepro ARGUMENTS`; returns what it prints."""
        scale = () if arguments == ("--help",) else ("--scale", SCALE)
        paths = [str(Path(nfrepro.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        places = {"NFREPRO_EXPERIMENTS": ".", "NFREPRO_RESULTS": results, "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, "-m", "nfrepro", *arguments, *scale],
            cwd=self.folder,
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            check=True,
        ).stdout


def make_sweep(folder: Path, experiment: str, size: int) -> Sweep:
    """Creates a sweep of `experiment` with seeds 0 to `size` - 1, in the new `folder`."""
    folder.mkdir()
    (folder / "here.yaml").write_text(PROFILE)
    path = folder / f"{NAME}.yaml"
    path.write_text(f"{experiment}grid: {{seed: {list(range(size))}}}\nscales: {{{SCALE}: {{}}}}\n")
    return Sweep(folder, tuple(expand(load_experiment(str(path), folder), SCALE, SCHEMAS)))


def _write_finished(results: Path, runs: Sequence[Run]) -> None:
    """Writes folders as finished runs leave them, with a row of metrics per epoch."""
    row = {"step": 1, "lr": 0.1, "train_loss": 0.5, "train_top1": 80.0, "test_loss": 0.6, "test_top1": 79.0}
    final: dict[str, Any] = {"status": "completed", "error": None, "final": {"top1": 79.0, **row}}
    for run in runs:
        folder = store.run_folder(results, run)
        folder.mkdir(parents=True)
        record = {**store.description_of(run), **final, "provenance": provenance()}
        (folder / store.RECORD).write_text(json.dumps(record, indent=1) + "\n")
        epochs = range(1, run.config["train"]["epochs"] + 1)
        (folder / store.METRICS).write_text("".join(json.dumps({"epoch": epoch, **row}) + "\n" for epoch in epochs))


def scheduler_answers() -> bool:
    """Whether SLURM can be reached from here."""
    try:
        return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def bench_submission(folder: Path, sizes: Sizes) -> Iterator[str]:
    """Submits very short jobs that run one at a time, asks for their status, and cancels them."""
    for size in [size for size in sizes.sweeps if size <= MOST_SUBMITTED]:
        sweep = make_sweep(folder / str(size), A_MOMENT, size)
        call = ["sweep", NAME, "--executor", "slurm", "--cluster", "here.yaml"]
        times = [time.perf_counter()]
        try:
            for arguments in (call, call, ["status", NAME]):
                sweep.call(*arguments)
                times.append(time.perf_counter())
        finally:
            submissions = kept.earlier(sweep.results, sweep.runs[0])
            _cancel([array.job_id for one in submissions for array in one.arrays if array.job_id])
        seconds = [after - before for before, after in pairwise(times)]
        what = zip(("submitted", "submitted again: all queued", "status"), seconds, strict=True)
        yield f"SLURM, {size:,} jobs: " + ", ".join(f"{name} {value:.2f} s" for name, value in what)


def _cancel(jobs: Sequence[str]) -> None:
    """Cancels `jobs`, and waits up to two minutes until none is left in the queue."""
    if jobs:
        subprocess.run(["scancel", *jobs], check=True, timeout=60)
    list_mine = ["squeue", "--noheader", "--me", "--format=%F"]
    deadline = time.monotonic() + 120.0
    while time.monotonic() < deadline:
        listed = subprocess.run(list_mine, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        if not set(jobs) & set(listed):
            return
        time.sleep(1.0)
