"""Callbacks of a training run, and when it looks at its losses, reports, saves and stops."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfrepro.training import checkpoint
from nfrepro.training.context import Interrupted, Progress, RunContext
from nfrepro.training.divergence import require_finite
from nfrepro.training.options import TrainOptions
from nfrepro.training.state import TrainingState

# Looking at a loss makes the CPU wait for a GPU, so on a GPU one look covers the steps of about this time. It is short,
# since a run also stops and saves only when it looks.
SECONDS_BETWEEN_LOOKS = 1.0
GPU_STEPS_BETWEEN_LOOKS = 20  # at most
SECONDS_BETWEEN_REPORTS = 0.5


@dataclass(frozen=True)
class Callbacks:
    """Additions of a task to training. They must not change what is trained, unless the task says so."""

    # Called with the number of each optimiser step, from 0, before the step is made.
    before_step: Callable[[int], None] = lambda step: None
    # Measures the network after the steps in `probe_steps`, where 0 is before training. Not counted as training time.
    probe: Callable[[nn.Module, int], None] = lambda model, step: None
    probe_steps: frozenset[int] = frozenset()


class Observer:
    """Watches one run from its first step in this process to its last."""

    def __init__(
        self,
        state: TrainingState,
        options: TrainOptions,
        steps_per_epoch: int,
        fingerprint: str,
        ctx: RunContext,
        callbacks: Callbacks,
    ) -> None:
        self.state, self.options, self.ctx, self.callbacks = state, options, ctx, callbacks
        self.steps_per_epoch, self.fingerprint = steps_per_epoch, fingerprint
        self.unseen: list[Tensor] = []  # results of `Trainer.step` since the last look
        self.newest_loss: float | None = None
        self.steps_to_look = 1  # steps from the last look to the next; the same in all processes
        self.asked_to_stop = False  # as of the last look; all processes have the same answer
        self.clock = self.reported = self.saved = time.perf_counter()
        self.waited = 0.0  # for batches, since the clock was started

    def start_clock(self) -> None:
        """Restart the clock: the time since the last look was not training."""
        self.clock, self.waited = time.perf_counter(), 0.0

    def timed(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the same batches and counts the time that training waits for them."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def after_step(self, found: Tensor) -> None:
        """Takes the result of `Trainer.step`; reports and saves now and then.

        Raises `Diverged` for a loss that is not finite, `Interrupted` when asked to stop. After the last step of an
        epoch it only looks: the evaluation comes first.
        """
        last_of_epoch = self.state.step % self.steps_per_epoch == 0
        self.unseen.append(found)
        probed = self.state.step in self.callbacks.probe_steps
        if len(self.unseen) < self.steps_to_look and not last_of_epoch and not probed:
            return
        self._look()
        if probed:
            self.probe()
        if not last_of_epoch:
            self._between_steps()

    def probe(self) -> None:
        """Measures the network as it is now."""
        self.callbacks.probe(self.state.model, self.state.step)
        self.start_clock()

    def after_epoch(self) -> None:
        """Saves; raises `Interrupted` if asked to stop before the evaluation, unless training is over."""
        self.save()
        if self.asked_to_stop and self.state.step < self.options.epochs * self.steps_per_epoch:
            raise Interrupted

    def report(self, evaluated: bool = False) -> None:
        steps = self.options.epochs * self.steps_per_epoch
        self.ctx.report(Progress(self.state.step, steps, self._in_words(), milestone=evaluated))
        self.reported = time.perf_counter()

    def _in_words(self) -> str:
        """The progress, as far as it is known: `epoch 2/3  loss 0.610  top1 81.2 %  1,520 images/s`."""
        epoch = (max(self.state.step, 1) - 1) // self.steps_per_epoch + 1
        top1 = self.state.metrics[-1]["test_top1"] if self.state.metrics else None
        rate = images_per_second(self.state, self.options)
        parts = (
            f"epoch {epoch}/{self.options.epochs}",
            "" if self.newest_loss is None else f"loss {self.newest_loss:.3f}",
            "" if top1 is None else f"top1 {top1:.1f} %",
            f"{rate:,.0f} images/s" if rate > 0 else "",
        )
        return "  ".join(filter(None, parts))

    def save(self) -> None:
        processes = self.ctx.processes
        if processes.rank == 0:
            content = self.state.to_checkpoint(self.fingerprint, processes.count)
            checkpoint.save(self.ctx.folder, self.state.step, content)
        self.saved = time.perf_counter()
        self.start_clock()

    def _look(self) -> None:
        """Collects from all processes the results of the steps since the last look, and whether to stop."""
        found = self._found_by_all()
        self.unseen = []
        self.newest_loss = found[-1][0]
        now = time.perf_counter()
        self.state.train_seconds += now - self.clock
        self.state.data_seconds += self.waited
        self.clock, self.waited = now, 0.0
        sums = self.state.sums
        for step, (loss, correct) in enumerate(found, start=self.state.step - len(found) + 1):
            require_finite(loss, step)
            sums.loss += loss
            sums.correct += int(correct)
            sums.images += self.options.batch_size
            sums.steps += 1

    def _found_by_all(self) -> list[list[float]]:
        processes, mine = self.ctx.processes, torch.stack(self.unseen).flatten().tolist()
        try:
            asked = self.ctx.should_stop()
        except Exception:
            processes.all_reduce_numbers([*mine, True, 0.0])  # otherwise the others would wait for this one
            raise
        seconds_of_step = (time.perf_counter() - self.clock) / len(self.unseen)
        *found, stops, seconds = processes.all_reduce_numbers([*mine, asked, seconds_of_step])
        self.asked_to_stop = stops > 0
        if self.ctx.device.startswith("cuda"):
            self.steps_to_look = steps_between_looks(seconds / processes.count)
        return [found[step : step + 2] for step in range(0, len(found), 2)]

    def _between_steps(self) -> None:
        now = time.perf_counter()
        if now - self.reported >= SECONDS_BETWEEN_REPORTS:
            self.report()
        if self.asked_to_stop:
            self.save()
            raise Interrupted
        if now - self.saved >= self.ctx.checkpoint_seconds:
            self.save()


def steps_between_looks(seconds_of_step: float) -> int:
    """The number of steps a GPU makes before the CPU waits for it and looks."""
    return max(1, min(GPU_STEPS_BETWEEN_LOOKS, int(SECONDS_BETWEEN_LOOKS / max(seconds_of_step, 1e-9))))


def images_per_second(state: TrainingState, options: TrainOptions) -> float:
    """Images divided by training time: never a mean of rates."""
    return state.step * options.batch_size / state.train_seconds if state.train_seconds > 0 else 0.0
