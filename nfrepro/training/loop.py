"""The training loop. A run that is interrupted and resumed ends with the same bits as one that is not (on a CPU)."""

import json
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from nfrepro import atomic
from nfrepro.data.batches import steps_per_epoch, test_batches, train_batches
from nfrepro.data.image_files import Readers
from nfrepro.data.options import DataOptions
from nfrepro.data.sources import Dataset, training_sample
from nfrepro.errors import InputError
from nfrepro.training import checkpoint, cuda_graph
from nfrepro.training.callbacks import Callbacks, Observer, images_per_second
from nfrepro.training.context import RunContext
from nfrepro.training.divergence import Diverged, require_finite
from nfrepro.training.evaluation import Evaluation, evaluate
from nfrepro.training.optim import learning_rate, set_learning_rate
from nfrepro.training.options import TrainOptions
from nfrepro.training.precision import autocast
from nfrepro.training.state import Sums, TrainingState, initial_state, mean_abs_skipinit_gain
from nfrepro.training.step import Trainer

# Images evaluated at once; if large, at most as many as are trained on at once, so that what trains can be evaluated.
EVALUATION_BATCH = 500
SMALL_PIXELS = 64
# Training images on which the trained network is evaluated: enough for half a percentage point, and cheap.
TRAINING_SAMPLE = 5000
NO_CALLBACKS = Callbacks()
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class TrainingSetup:
    """The data and options of a training run, none of which change."""

    dataset: Dataset  # on the device
    data: DataOptions
    options: TrainOptions
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.dataset.train), self.options.batch_size)

    @property
    def steps(self) -> int:
        return self.options.epochs * self.steps_per_epoch

    @property
    def evaluation_batch(self) -> int:
        at_once = self.options.batch_size // self.options.grad_accum_steps
        small = self.dataset.test.pixels <= SMALL_PIXELS
        return EVALUATION_BATCH if small else min(EVALUATION_BATCH, at_once)

    @property
    def autocast(self) -> torch.autocast:
        return autocast(self.dataset.device, self.options.precision)

    def learning_rate(self, step: int) -> float:
        return learning_rate(step, self.steps_per_epoch, self.options)


@dataclass(frozen=True)
class TrainingResult:
    """How training ended. A diverged run is a result."""

    status: Literal["completed", "diverged"]
    step: int  # optimiser steps done; for a diverged run the step (from 1) whose loss was not finite
    metrics: list[dict[str, Any]]
    train_seconds: float
    data_seconds: float  # of these, waiting for batches
    images_per_second: float
    final_train_top1: float | None  # of the trained network on training images without augmentation, percent
    early_skipinit_gain: float | None  # mean |SkipInit scalar| after a quarter of the steps
    skipinit_gain: float | None  # the same at the end


def fit(model: nn.Module, setup: TrainingSetup, ctx: RunContext, callbacks: Callbacks = NO_CALLBACKS) -> TrainingResult:
    """Trains `model` in place, from its start or from the newest checkpoint; model and data are on `ctx.device`.

    Writes checkpoints and metrics to `ctx.folder`. Raises `Interrupted` when asked to stop, `ProcessLost`, and
    `InputError` if the checkpoint was made with other data.
    """
    state = _start_or_continue(model, setup, ctx)
    trainer = Trainer(state, setup.options, setup.seed, ctx.processes, cuda_graph.wanted())
    observer = Observer(state, setup.options, setup.steps_per_epoch, setup.dataset.fingerprint, ctx, callbacks)
    observer.report()
    model.train()
    if state.step == 0 and 0 in callbacks.probe_steps:
        observer.probe()
    with Readers(ctx.workers, setup.dataset.device) as readers:
        try:
            for epoch in range(state.step // setup.steps_per_epoch, setup.options.epochs):
                _train_epoch(trainer, setup, epoch, observer, readers)
                if (epoch + 1) % setup.options.evaluate_every == 0 or epoch + 1 == setup.options.epochs:
                    _evaluate(state, setup, ctx, readers)
                    write_metrics(state.metrics, ctx)
                    observer.report(evaluated=True)
                observer.after_epoch()
        except Diverged as diverged:
            return _outcome("diverged", diverged.step, state, setup)
        sample = replace(setup, dataset=training_sample(setup.dataset, TRAINING_SAMPLE))
        return _outcome("completed", state.step, state, setup, _evaluated(state.model, sample, ctx, readers).top1)


def _start_or_continue(model: nn.Module, setup: TrainingSetup, ctx: RunContext) -> TrainingState:
    processes = ctx.processes
    # All weights are drawn from one seed, but perhaps by processors that round differently.
    processes.broadcast([value for _, value in sorted(model.state_dict().items())])
    state = initial_state(model, setup.options)
    # All continue from the file that the first process finds; a shared file system may show the others an older one.
    content = processes.broadcast_bytes(
        checkpoint.read_newest(ctx.folder, ctx.complain) if processes.rank == 0 else None
    )
    if content is not None:
        saved = checkpoint.parse(content)
        found = setup.dataset.fingerprint
        if saved["fingerprint"] != found:
            raise InputError(
                f"{ctx.folder}: its checkpoint was made with different data (fingerprint {saved['fingerprint']}, "
                f"now {found}): restore the data, or start the run again with --force"
            )
        state.restore(saved, processes.count)
    write_metrics(state.metrics, ctx)
    return state


def _train_epoch(trainer: Trainer, setup: TrainingSetup, epoch: int, observer: Observer, readers: Readers) -> None:
    """Train the rest of the epoch."""
    observer.start_clock()
    state, batch_size = trainer.state, setup.options.batch_size
    first_step = state.step - epoch * setup.steps_per_epoch
    rows = trainer.processes.share(batch_size)
    batches = train_batches(setup.dataset, setup.data, batch_size, setup.seed, epoch, first_step, rows, readers)
    for x, targets in observer.timed(batches):
        set_learning_rate(state.optimizer, setup.learning_rate(state.step))
        observer.callbacks.before_step(state.step)
        found = trainer.step(x, targets, setup.autocast)
        if state.step == setup.steps // 4:
            state.early_skipinit_gain = mean_abs_skipinit_gain(state.model)
        observer.after_step(found)


def _evaluate(state: TrainingState, setup: TrainingSetup, ctx: RunContext, readers: Readers) -> None:
    """Adds a row of metrics and starts new sums. Raises `Diverged` if the test loss is not finite."""
    result = _evaluated(state.model, setup, ctx, readers)
    require_finite(result.loss, state.step)
    row = _metrics_row(state, result, setup)
    if state.ema is not None:
        average = _evaluated(state.ema.model, setup, ctx, readers)
        finite = average.loss if math.isfinite(average.loss) else None
        row |= {"ema_test_loss": finite, "ema_test_top1": average.top1, "ema_test_top5": average.top5}
    state.metrics.append(row)
    state.sums = Sums()


def _evaluated(model: nn.Module, setup: TrainingSetup, ctx: RunContext, readers: Readers) -> Evaluation:
    rows = ctx.processes.share(len(setup.dataset.test))
    batches = test_batches(setup.dataset, setup.evaluation_batch, readers, rows)
    return evaluate(model, batches, setup.autocast, ctx.processes)


def write_metrics(rows: list[dict[str, Any]], ctx: RunContext) -> None:
    """Write the whole of metrics.jsonl, atomically: a run that was killed and continued has no duplicate rows."""
    if ctx.processes.rank == 0:
        lines = [json.dumps(row, allow_nan=False) + "\n" for row in rows]
        atomic.write_text(ctx.folder / METRICS, "".join(lines))


def _metrics_row(state: TrainingState, result: Evaluation, setup: TrainingSetup) -> dict[str, Any]:
    """One line of metrics.jsonl: losses in nats, accuracies in percent, time in seconds.

    `train_loss` (with label smoothing) and `train_top1` are means over the steps since the previous row.
    """
    sums = state.sums
    return {
        "epoch": state.step // setup.steps_per_epoch,
        "step": state.step,
        "lr": setup.learning_rate(state.step - 1),
        "train_loss": sums.loss / sums.steps,
        "train_top1": 100.0 * sums.correct / sums.images,
        "test_loss": result.loss,
        "test_top1": result.top1,
        "test_top5": result.top5,
        "train_seconds": round(state.train_seconds, 3),
        "images_per_second": round(images_per_second(state, setup.options), 1),
    }


def _outcome(
    status: Literal["completed", "diverged"],
    step: int,
    state: TrainingState,
    setup: TrainingSetup,
    final_train_top1: float | None = None,
) -> TrainingResult:
    return TrainingResult(
        status,
        step,
        state.metrics,
        state.train_seconds,
        state.data_seconds,
        images_per_second(state, setup.options),
        final_train_top1,
        state.early_skipinit_gain,
        mean_abs_skipinit_gain(state.model),
    )
