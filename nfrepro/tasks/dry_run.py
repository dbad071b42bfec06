"""A few real steps of a training run: whether they fit, how long they take, whether the loss is finite."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

import torch
from torch import Tensor

from nfrepro.data.batches import train_batches
from nfrepro.data.image_files import Readers
from nfrepro.data.loader_rate import loader_rate
from nfrepro.data.location import is_here
from nfrepro.data.sizes import image_sizes
from nfrepro.data.sources import Dataset, ImageSet, load
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import loader_workers
from nfrepro.tasks.memory import PeakMemory, available_bytes, total_bytes
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.train import initial_model
from nfrepro.tasks.work import count_work
from nfrepro.training import cuda_graph
from nfrepro.training.distributed import Processes
from nfrepro.training.loop import TrainingSetup
from nfrepro.training.optim import set_learning_rate
from nfrepro.training.options import TrainOptions
from nfrepro.training.precision import check_precision, prepare_device
from nfrepro.training.state import initial_state
from nfrepro.training.step import Trainer

# Images in a CPU's first trial; every kind of mixing works with four.
FIRST_IMAGES = 4
# Share of the time and of the free memory that a whole batch may take, by the prediction of the first trial.
PROMISED_SHARE = 0.7
# The least time for which a GPU is timed, within at most these steps.
GPU_SECONDS, MOST_STEPS = 1.0, 200
# The least time for which the loader is timed.
LOADER_SECONDS = 1.0


@dataclass(frozen=True)
class Trial:
    """The result of `steps` optimiser steps on `rows` images each, after warm-up steps that do not count."""

    rows: int
    steps: int
    model_seconds: float  # of all steps, on a batch that is already loaded
    joint_seconds: float | None  # of all steps, each on a new batch; None if the data are not here
    loader_images_per_second: float | None
    finite: bool  # whether every loss is
    peak_bytes: int  # in addition to what the process held before it had data and network


def dry_run(task: TrainTask, device_name: str, steps: int, seconds: float, tell: Callable[..., None]) -> None:
    """Runs trials; tells what is being done (`doing`), machine and network (`about`), and results (`trial`).

    A GPU gets whole batches. A CPU gets a few images, and then the batch if it should fit and end within `seconds`.
    """
    check_precision(task.train.precision, device_name)
    ends = time.monotonic() + PROMISED_SHARE * seconds
    device = prepare_device(device_name, task.train.precision)
    tell("doing", text="counting")
    work = count_work(task)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    tell("about", device=name, total_bytes=total_bytes(device), work=asdict(work))
    tell("doing", text="reading the data")
    memory = PeakMemory(device)
    bench = Bench(task, load(task.data).to(device) if is_here(task.data) else None, device, steps, memory)

    def try_rows(rows: int) -> Trial:
        tell("doing", text=f"a step of {rows:,} images")
        trial = _try(bench, rows)
        tell("trial", **asdict(trial))
        return trial

    batch, few = task.train.batch_size, FIRST_IMAGES * task.data.copies
    if device.type == "cpu" and few < batch:
        trial = try_rows(few)
        expected = trial.model_seconds / steps * (2 * steps + 2) * batch / few
        needed = (batch // task.train.grad_accum_steps - few) * (work.activation_bytes + work.image_bytes)
        late, large = time.monotonic() + expected > ends, needed > PROMISED_SHARE * available_bytes()
        if late or large or not trial.finite:
            return
    try_rows(batch)


@dataclass(frozen=True)
class Bench:
    """The setup that all trials of a dry run share."""

    task: TrainTask
    dataset: Dataset | None  # None: not here
    device: torch.device
    steps: int
    memory: PeakMemory


def _try(bench: Bench, rows: int) -> Trial:
    task, steps = bench.task, bench.steps
    setup = _setup(task, rows, bench.dataset or random_images(task, rows).to(bench.device))
    trainer = initial_trainer(task, setup, cuda_graph.wanted())
    batch = next(endless_batches(setup))
    losses = [_steps(trainer, setup, [batch] * (cuda_graph.STEPS_BEFORE + 2 if trainer.graphed else 1))]
    if bench.device.type == "cuda":
        steps = _steps_of_a_second(trainer, setup, batch, steps)
    model_seconds, loss = _timed(lambda: _steps(trainer, setup, [batch] * steps))
    losses.append(loss)
    joint_seconds, found = None, None
    if bench.dataset is not None:
        batches = endless_batches(setup)
        losses.append(_steps(trainer, setup, [next(batches)]))
        joint_seconds, loss = _timed(lambda: _steps(trainer, setup, islice(batches, steps)))
        losses.append(loss)
        found = loader_rate(setup.dataset, task.data, setup.options.batch_size, LOADER_SECONDS, _workers())
    finite = all(map(math.isfinite, losses))
    return Trial(rows, steps, model_seconds, joint_seconds, found, finite, bench.memory.bytes())


def initial_trainer(task: TrainTask, setup: TrainingSetup, graph: bool) -> Trainer:
    """A trainer of the initial network of `task`, in one process on the data's device; with a CUDA graph if `graph`."""
    model = initial_model(task, setup.dataset).to(setup.dataset.device).to(memory_format=torch.channels_last)
    return Trainer(initial_state(model.train(), setup.options), setup.options, setup.seed, Processes(), graph)


def _steps_of_a_second(trainer: Trainer, setup: TrainingSetup, batch: tuple[Tensor, Tensor], steps: int) -> int:
    """At least `steps`, and enough steps to bring a GPU's clocks up to speed."""
    seconds, _ = _timed(lambda: _steps(trainer, setup, [batch]))
    return max(steps, min(MOST_STEPS, int(GPU_SECONDS / max(seconds, 1e-6))))


def _setup(task: TrainTask, rows: int, dataset: Dataset) -> TrainingSetup:
    """The setup of `task` with `rows` images per step, at the task's learning rate; part of a batch is not divided."""
    options = task.train
    if rows != options.batch_size:
        changes = {
            "batch_size": rows,
            "grad_accum_steps": 1,
            "lr_per_256": options.lr_per_256 * options.batch_size / rows,
        }
        options = TrainOptions.model_validate(options.model_dump() | changes)
    return TrainingSetup(dataset, task.data, options, task.seed)


def random_images(task: TrainTask, count: int) -> Dataset:
    """Random images of the right size, for data that are not here."""
    sizes = image_sizes(task.data)
    generator = torch.Generator().manual_seed(stream_seed("dry-run", task.seed))
    shape = (count, sizes.channels, sizes.pixels, sizes.pixels)
    images = ImageSet(
        torch.randint(256, shape, dtype=torch.uint8, generator=generator),
        torch.randint(sizes.classes, (count,), generator=generator),
    )
    return Dataset(
        train=images,
        test=images,
        classes=tuple(map(str, range(sizes.classes))),
        mean=(0.5,) * sizes.channels,
        std=(0.3,) * sizes.channels,
        label="random images",
        fingerprint="",
    )


def endless_batches(setup: TrainingSetup) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields training batches, epoch after epoch, without end."""
    with Readers(_workers(), setup.dataset.device) as readers:
        for epoch in itertools.count():
            yield from train_batches(
                setup.dataset, setup.data, setup.options.batch_size, setup.seed, epoch, workers=readers
            )


def _steps(trainer: Trainer, setup: TrainingSetup, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Makes a step on each batch. Returns the sum of their losses, and so waits for the device."""
    losses, state = [], trainer.state
    for x, targets in batches:
        set_learning_rate(state.optimizer, setup.learning_rate(min(state.step, setup.steps - 1)))
        losses.append(trainer.step(x, targets, setup.autocast)[0])
    return float(torch.stack(losses).sum())


def _workers() -> int:
    return loader_workers(torch.get_num_threads())


def _timed(action: Callable[[], float]) -> tuple[float, float]:
    """The seconds that `action` took, and its result."""
    begun = time.perf_counter()
    found = action()
    return time.perf_counter() - begun, found
