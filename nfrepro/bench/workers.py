"""Overhead of the local queue per run, and runs per hour when runs share the machine.

Runs train the laptop's network on synthetic images. A preliminary run determines their length, so that it is about the
same on any machine.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from nfrepro.launch.devices import Resources, count_cores, count_gpus
from nfrepro.launch.local_queue import Event, execute_all
from nfrepro.runs import store
from nfrepro.specs import Run, expand, load_experiment
from nfrepro.tasks.registry import SCHEMAS

# One evaluation at the end, on one batch of images: it counts as overhead of the queue.
EXPERIMENT = """\
title: runs of a chosen length
task: train
set:
  data: {{name: synthetic, pixels: 28, train_images: {images}, test_images: 64, crop_padding: 2}}
  model: {{name: nf_resnet, blocks: [2, 2, 2], width: 0.25, stem: small_stride2}}
  train: {{epochs: {epochs}, batch_size: 64, lr: 0.2, warmup_epochs: 0.5, evaluate_every: {epochs}}}
grid: {{seed: {seeds}}}
scales: {{bench: {{}}}}
"""
EPOCHS = 4
BATCH = 64
CHECKPOINT_SECONDS = 60.0  # as on the command line


class Clock:
    """The times at which runs started and ended, as seen by the queue."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def observe(self, event: Event) -> None:
        """Notes the time of the start or the end of a run."""
        if event.kind == "started":
            self.began[event.run.id] = time.perf_counter()
        if event.kind == "ended":
            self.ended[event.run.id] = time.perf_counter()

    def seconds(self, run: Run) -> float:
        """Seconds from the start of `run` to its end."""
        return self.ended[run.id] - self.began[run.id]


def bench_overhead(seconds: float | None) -> Iterator[str]:
    """Wall-clock time of runs that train for `seconds` (None: very briefly), relative to their training loops."""
    device = "cuda:0" if count_gpus() else "cpu"
    share = Resources((device,), count_cores())
    with tempfile.TemporaryDirectory() as name:
        runs = runs_of(Path(name), _images(seconds, share), seeds=range(4))
        clock, results = Clock(), Path(name) / "results"
        start = time.perf_counter()
        execute_all(runs, results, share, CHECKPOINT_SECONDS, clock.observe)
        whole = time.perf_counter() - start
        training = [training_seconds(results, run) for run in runs]
    added = [100 * (clock.seconds(run) / inside - 1) for run, inside in zip(runs, training, strict=True)]
    yield (
        f"local queue, {device}, 1 worker, {share.threads} threads: runs of {statistics.median(training):.1f} s in the"
        f" training loop take {statistics.median(added[1:]):.2f} % longer (min {min(added[1:]):.2f},"
        f" max {max(added[1:]):.2f}, n = {len(added) - 1})"
    )
    yield (
        f"  the first run of a worker, which imports torch and makes the data: {added[0]:.2f} % longer;"
        f" all {len(runs)} with start and end of the worker: {100 * (whole / sum(training) - 1):.2f} %"
    )


def bench_packing(seconds: float | None, repetitions: int) -> Iterator[str]:
    """Runs per hour by how many share the machine, relative to runs one after the other with all its threads."""
    cores, gpus = count_cores(), count_gpus()
    shares = [Resources(("cpu",), cores), *(Resources(("cpu",) * workers, 1) for workers in sorted({1, 2, cores}))]
    yield from _compare(shares, seconds, repetitions)
    if gpus:
        shares = [Resources(("cuda:0",) * workers, max(1, cores // workers)) for workers in (1, 2, 4)]
        yield from _compare(shares, seconds, repetitions)


def _compare(shares: Sequence[Resources], seconds: float | None, repetitions: int) -> Iterator[str]:
    """A line for each of `shares`; the others are compared with the first."""
    images = _images(seconds, shares[0])
    rates: list[list[float]] = [[] for _ in shares]
    for _ in range(repetitions):
        for share, found in zip(shares, rates, strict=True):
            found.append(runs_an_hour(share, images))
    yield f"runs of {EPOCHS * images:,} images, medians, n = {repetitions}"
    for share, found in zip(shares, rates, strict=True):
        ratios = [rate / alone for rate, alone in zip(found, rates[0], strict=True)]
        threads = "1 thread" if share.threads == 1 else f"{share.threads} threads"
        yield (
            f"{share.devices[0]:6} {share.workers:3} at once, {threads + ' each':16}"
            f"{statistics.median(found):8.0f} runs an hour  {statistics.median(ratios):.2f} x"
            f" (min {min(ratios):.2f}, max {max(ratios):.2f})"
        )


def runs_an_hour(share: Resources, images: int) -> float:
    """Measured runs per hour. Each worker first has a very short run, which is not counted, and then two."""
    with tempfile.TemporaryDirectory() as name:
        counted = runs_of(Path(name), images, seeds=range(2 * share.workers))
        first = runs_of(Path(name), BATCH, seeds=range(2 * share.workers, 3 * share.workers))
        clock = Clock()
        execute_all([*first, *counted], Path(name) / "results", share, CHECKPOINT_SECONDS, clock.observe)
    began, ended = min(clock.began[run.id] for run in counted), max(clock.ended[run.id] for run in counted)
    return 3600 * len(counted) / (ended - began)


def _images(seconds: float | None, share: Resources) -> int:
    """The number of training images of a run that trains for `seconds` alone on one worker of `share`."""
    if seconds is None:
        return BATCH
    with tempfile.TemporaryDirectory() as name:
        runs = runs_of(Path(name), 16 * BATCH, seeds=range(2))
        alone = Resources(share.devices[:1], share.threads)
        execute_all(runs, Path(name) / "results", alone, CHECKPOINT_SECONDS, lambda event: None)
        rate = 16 * BATCH * EPOCHS / training_seconds(Path(name) / "results", runs[1])
    return max(1, round(rate * seconds / EPOCHS / BATCH)) * BATCH


def runs_of(folder: Path, images: int, seeds: range) -> list[Run]:
    """Runs that train on `images` images, one per seed."""
    path = folder / f"of_{images}_images.yaml"
    path.write_text(EXPERIMENT.format(images=images, epochs=EPOCHS, seeds=list(seeds)))
    return expand(load_experiment(str(path), folder), "bench", SCHEMAS)


def training_seconds(results: Path, run: Run) -> float:
    """The time that `run` spent in its training loop: batches, augmentation, steps."""
    record = store.read_record(store.run_folder(results, run))
    if record is None or record["status"] != "completed":
        raise RuntimeError(f"{run.id} did not finish: {record and record['error']}")
    return float(record["final"]["train_seconds"])
