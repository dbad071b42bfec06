"""The training loop. Interrupted and resumed, it ends with the same bits as undisturbed (on a CPU)."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nfrepro.data.batches import steps_per_epoch, test_batches, train_batches
from nfrepro.data.options import DataOptions
from nfrepro.data.sources import Dataset
from nfrepro.training import checkpoint
from nfrepro.training.evaluation import Evaluation, evaluate
from nfrepro.training.options import TrainOptions
from nfrepro.training.recipe import ema_decay, learning_rate, make_optimizer

EVALUATION_BATCH = 500
# Looking at a loss makes the CPU wait for a GPU, so there it is done for this many steps at once.
GPU_STEPS_BETWEEN_LOOKS = 20
SECONDS_BETWEEN_REPORTS = 0.5


class Stopped(Exception):
    """Training was asked to stop; its checkpoint is written."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: for people who watch, not for results."""

    step: int
    steps: int
    epoch: int  # epochs begun, from 1
    epochs: int
    loss: float | None  # of the newest step looked at
    top1: float | None  # of the newest evaluation, percent
    images_per_second: float  # images / training time
    evaluated: bool = False  # this report follows an evaluation


@dataclass(frozen=True)
class Surroundings:
    """What a run may not depend on: where it runs and who watches."""

    folder: Path
    device: torch.device
    checkpoint_seconds: float
    report: Callable[[Progress], None]
    complain: Callable[[str], None]
    should_stop: Callable[[], bool]
    write_metrics: Callable[[list[dict[str, Any]]], None]


@dataclass
class Accumulator:
    """Sums over the steps since the last evaluation; on the device until somebody looks."""

    loss: Tensor
    correct: Tensor
    images: int = 0
    steps: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> "Accumulator":
        return cls(
            torch.zeros((), dtype=torch.float64, device=device), torch.zeros((), dtype=torch.int64, device=device)
        )

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.loss += loss
        self.correct += (logits.argmax(1) == labels).sum()
        self.images += len(labels)
        self.steps += 1


@dataclass(frozen=True)
class Outcome:
    """How training ended. A diverged run is a result."""

    status: Literal["completed", "diverged"]
    step: int  # optimiser steps done; for a diverged run the step (from 1) whose loss was not finite
    metrics: list[dict[str, Any]]
    train_seconds: float
    images_per_second: float


@dataclass
class Training:
    """Everything that changes while a run trains, and so everything a checkpoint holds."""

    model: nn.Module
    ema: AveragedModel | None
    optimizer: torch.optim.SGD
    since_evaluation: Accumulator
    step: int = 0
    train_seconds: float = 0.0
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def state(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "threads": torch.get_num_threads(),
            "model": self.model.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "since_evaluation": asdict(self.since_evaluation),
            "step": self.step,
            "train_seconds": self.train_seconds,
            "metrics": self.metrics,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.since_evaluation.loss.is_cuda else [],
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        sums = state["since_evaluation"]
        self.since_evaluation = Accumulator(**{**sums, **{k: sums[k].to(device) for k in ("loss", "correct")}})
        self.step = state["step"]
        self.train_seconds = state["train_seconds"]
        self.metrics = state["metrics"]
        # The order of a sum, and so its last bit, depends on the number of threads.
        torch.set_num_threads(state["threads"])
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def fit(
    model: nn.Module, dataset: Dataset, data: DataOptions, options: TrainOptions, seed: int, around: Surroundings
) -> Outcome:
    """Trains `model` in place on `dataset`, which both are on `around.device`, or continues from the newest checkpoint.

    Writes checkpoints and metrics to `around`. Raises `Stopped` when asked to stop, and `ValueError` where the
    data are not those the checkpoint was made with.
    """
    autocast = torch.autocast(around.device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    steps = steps_per_epoch(len(dataset.train.labels), options.batch_size)
    training = _start_or_continue(model, dataset, options, around)
    observer = _Observer(training, options, steps, around)
    observer.report()
    model.train()
    while training.step < options.epochs * steps:
        diverged = _train_epoch(training, dataset, data, options, seed, steps, autocast, observer)
        if diverged is None and _evaluation_due(training.step // steps, options):
            diverged = _evaluate(training, dataset, options, steps, autocast, observer)
        if diverged is not None:
            return _outcome("diverged", diverged, training, options)
        observer.save(dataset.fingerprint)
        if around.should_stop() and training.step < options.epochs * steps:
            raise Stopped
    return _outcome("completed", training.step, training, options)


class _Observer:
    """Decides when to look at losses, report, write a checkpoint or stop; changes nothing that is trained."""

    def __init__(self, training: Training, options: TrainOptions, steps: int, around: Surroundings) -> None:
        self.training, self.options, self.steps, self.around = training, options, steps, around
        self.unseen: list[Tensor] = []
        self.newest_loss: float | None = None
        self.clock = self.reported = self.saved = time.perf_counter()

    def first_bad_step(self, loss: Tensor, last_of_epoch: bool) -> int | None:
        """The step (from 1) whose loss was not finite, once that has been looked at."""
        self.unseen.append(loss)
        wait = 1 if self.around.device.type == "cpu" else GPU_STEPS_BETWEEN_LOOKS
        if len(self.unseen) < wait and not last_of_epoch:
            return None
        losses = torch.stack(self.unseen).tolist()
        self.unseen = []
        self.newest_loss = losses[-1]
        self._count_time()
        bad = [index for index, value in enumerate(losses) if not math.isfinite(value)]
        return self.training.step - len(losses) + 1 + bad[0] if bad else None

    def between_steps(self, fingerprint: str) -> None:
        """Reports, saves and stops when it is time to. Nothing is pending in `unseen` then."""
        if self.unseen:
            return
        now = time.perf_counter()
        if now - self.reported >= SECONDS_BETWEEN_REPORTS:
            self.report()
        if self.around.should_stop():
            self.save(fingerprint)
            raise Stopped
        if now - self.saved >= self.around.checkpoint_seconds:
            self.save(fingerprint)

    def report(self, evaluated: bool = False) -> None:
        step, total = self.training.step, self.options.epochs * self.steps
        last = self.training.metrics[-1] if self.training.metrics else {}
        epoch = min(self.options.epochs, (max(step, 1) - 1) // self.steps + 1)
        rate = _rate(step, self.options, self.training.train_seconds)
        self.around.report(
            Progress(step, total, epoch, self.options.epochs, self.newest_loss, last.get("test_top1"), rate, evaluated)
        )
        self.reported = time.perf_counter()

    def save(self, fingerprint: str) -> None:
        checkpoint.save(self.around.folder, self.training.step, self.training.state(fingerprint))
        self.saved = time.perf_counter()
        self.skip_time()

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.training.train_seconds += now - self.clock
        self.clock = now

    def skip_time(self) -> None:
        """What passed since the last look was not training."""
        self.clock = time.perf_counter()


def _start_or_continue(model: nn.Module, dataset: Dataset, options: TrainOptions, around: Surroundings) -> Training:
    decay = options.ema_decay
    ema = None if decay is None else AveragedModel(model, use_buffers=True, multi_avg_fn=None, avg_fn=_ema_step(decay))
    training = Training(model, ema, make_optimizer(model, options), Accumulator.empty(around.device))
    state = checkpoint.load_newest(around.folder, around.complain)
    if state is not None:
        if state["fingerprint"] != dataset.fingerprint:
            raise ValueError(
                f"{around.folder}: its checkpoint was made with other data (fingerprint {state['fingerprint']}, "
                f"now {dataset.fingerprint}): restore the data, or start the run anew with --force"
            )
        training.restore(state, around.device)
    around.write_metrics(training.metrics)
    return training


def _ema_step(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        return torch.lerp(current, averaged, ema_decay(int(count), decay))

    return average


def _train_epoch(
    training: Training,
    dataset: Dataset,
    data: DataOptions,
    options: TrainOptions,
    seed: int,
    steps: int,
    autocast: torch.autocast,
    observer: _Observer,
) -> int | None:
    """What is left of the current epoch. Returns the step (from 1) whose loss was not finite, if any."""
    epoch, first_step = divmod(training.step, steps)
    observer.skip_time()
    for x, labels in train_batches(dataset, data, options.batch_size, seed, epoch, first_step):
        loss, logits = _train_step(training, x, labels, learning_rate(training.step, steps, options), options, autocast)
        training.since_evaluation.add(loss, logits, labels)
        training.step += 1
        last = training.step % steps == 0
        bad_step = observer.first_bad_step(loss, last)
        if bad_step is not None:
            return bad_step
        if not last:
            observer.between_steps(dataset.fingerprint)
    return None


def _train_step(
    training: Training, x: Tensor, labels: Tensor, lr: float, options: TrainOptions, autocast: torch.autocast
) -> tuple[Tensor, Tensor]:
    """One optimiser step. Returns the loss and the logits, detached."""
    for group in training.optimizer.param_groups:
        group["lr"] = lr
    with autocast:
        logits = training.model(x)
    logits = logits.float()
    loss = F.cross_entropy(logits, labels, label_smoothing=options.label_smoothing)
    training.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    training.optimizer.step()
    if training.ema is not None:
        training.ema.update_parameters(training.model)
    return loss.detach(), logits.detach()


def _evaluation_due(epochs_done: int, options: TrainOptions) -> bool:
    return epochs_done % options.evaluate_every == 0 or epochs_done == options.epochs


def _evaluate(
    training: Training,
    dataset: Dataset,
    options: TrainOptions,
    steps: int,
    autocast: torch.autocast,
    observer: _Observer,
) -> int | None:
    """Adds a row of metrics. Returns the current step where the test loss is not finite."""
    result = evaluate(training.model, test_batches(dataset, EVALUATION_BATCH), autocast)
    average = (
        None if training.ema is None else evaluate(training.ema, test_batches(dataset, EVALUATION_BATCH), autocast)
    )
    if not math.isfinite(result.loss):
        return training.step
    training.metrics.append(_metrics_row(training, result, average, options, steps))
    training.since_evaluation = Accumulator.empty(training.since_evaluation.loss.device)
    observer.around.write_metrics(training.metrics)
    observer.report(evaluated=True)
    return None


def _metrics_row(
    training: Training, result: Evaluation, average: Evaluation | None, options: TrainOptions, steps: int
) -> dict[str, Any]:
    """One line of metrics.jsonl: losses in nats, accuracies in percent, time in seconds.

    `train_loss` (with label smoothing) and `train_top1` are means over the steps since the row before.
    """
    sums = training.since_evaluation
    row: dict[str, Any] = {
        "epoch": training.step // steps,
        "step": training.step,
        "lr": learning_rate(training.step - 1, steps, options),
        "train_loss": sums.loss.item() / sums.steps,
        "train_top1": 100.0 * sums.correct.item() / sums.images,
        "test_loss": result.loss,
        "test_top1": result.top1,
        "test_top5": result.top5,
        "train_seconds": round(training.train_seconds, 3),
        "images_per_second": round(_rate(training.step, options, training.train_seconds), 1),
    }
    if average is not None:
        finite = average.loss if math.isfinite(average.loss) else None
        row |= {"ema_test_loss": finite, "ema_test_top1": average.top1, "ema_test_top5": average.top5}
    return row


def _outcome(status: Literal["completed", "diverged"], step: int, training: Training, options: TrainOptions) -> Outcome:
    rate = _rate(training.step, options, training.train_seconds)
    return Outcome(status, step, training.metrics, training.train_seconds, rate)


def _rate(step: int, options: TrainOptions, seconds: float) -> float:
    """Images / training time: never a mean of rates."""
    return step * options.batch_size / seconds if seconds > 0 else 0.0
