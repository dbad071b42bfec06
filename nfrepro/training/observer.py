"""When a run in training looks at its losses, reports, saves and stops. Changes nothing that is trained."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nfrepro.training import checkpoint
from nfrepro.training.distributed import ALONE, Processes
from nfrepro.training.options import TrainOptions
from nfrepro.training.state import TrainingState

# Looking at a loss makes the CPU wait for a GPU, so there it is done for several steps at once: for as many as take
# this time, since a run also stops and saves only when it looks.
SECONDS_BETWEEN_LOOKS = 1.0
GPU_STEPS_BETWEEN_LOOKS = 20  # at most
SECONDS_BETWEEN_REPORTS = 0.5


class Stopped(Exception):
    """Training was asked to stop; its checkpoint is written."""


class Diverged(Exception):
    """A loss was not finite; `step` counts from 1."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss of step {step} is not finite")
        self.step = step


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
    evaluated: bool  # this report follows an evaluation


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
    workers: int = 0  # processes that read images which do not lie in memory
    # Hears the number of each optimiser step, from 0, before it is made: for what a task has added to the network.
    before_step: Callable[[int], None] = lambda step: None
    # Looks at the network when so many steps are done, 0 before the first; may change nothing. Not counted as training.
    probe: Callable[[nn.Module, int], None] = lambda model, step: None
    probe_steps: frozenset[int] = frozenset()
    processes: Processes = ALONE  # of which the first alone writes
    cuda_graph: bool = False  # on a GPU: record a step once, and launch it as a whole; the bits are the same


class Observer:
    """Watches one run from its first step here to its last."""

    def __init__(
        self, state: TrainingState, options: TrainOptions, steps_per_epoch: int, fingerprint: str, around: Surroundings
    ) -> None:
        self.state, self.options, self.around = state, options, around
        self.steps_per_epoch, self.fingerprint = steps_per_epoch, fingerprint
        self.unseen: list[Tensor] = []  # of each step since the last look, what `train_step` found
        self.newest_loss: float | None = None
        self.steps_to_look = 1  # the next look is so many steps after the last; the same in all processes
        self.asked_to_stop = False  # as of the last look; all processes have the same answer
        self.clock = self.reported = self.saved = time.perf_counter()
        self.waited = 0.0  # for batches, since the clock was started

    def start_clock(self) -> None:
        """What passed since the last look was not training."""
        self.clock, self.waited = time.perf_counter(), 0.0

    def timed(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches; counts the time that training waits for them."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def after_step(self, found: Tensor) -> None:
        """Takes what `train_step` found; reports and saves now and then.

        Raises `Diverged` for a loss that is not finite, `Stopped` when asked to. After the last step of an epoch
        it only looks: the evaluation comes first.
        """
        last_of_epoch = self.state.step % self.steps_per_epoch == 0
        self.unseen.append(found)
        probed = self.state.step in self.around.probe_steps
        if len(self.unseen) < self.steps_to_look and not last_of_epoch and not probed:
            return
        self._look()
        if probed:
            self.probe()
        if not last_of_epoch:
            self._between_steps()

    def probe(self) -> None:
        """Looks at the network as it is now."""
        self.around.probe(self.state.model, self.state.step)
        self.start_clock()

    def after_epoch(self) -> None:
        """Saves; raises `Stopped` when asked to before the evaluation, unless training is over."""
        self.save()
        if self.asked_to_stop and self.state.step < self.options.epochs * self.steps_per_epoch:
            raise Stopped

    def report(self, evaluated: bool = False) -> None:
        step = self.state.step
        self.around.report(
            Progress(
                step=step,
                steps=self.options.epochs * self.steps_per_epoch,
                epoch=(max(step, 1) - 1) // self.steps_per_epoch + 1,
                epochs=self.options.epochs,
                loss=self.newest_loss,
                top1=self.state.metrics[-1]["test_top1"] if self.state.metrics else None,
                images_per_second=images_per_second(self.state, self.options),
                evaluated=evaluated,
            )
        )
        self.reported = time.perf_counter()

    def save(self) -> None:
        processes = self.around.processes
        if processes.rank == 0:
            content = self.state.to_checkpoint(self.fingerprint, processes.count)
            checkpoint.save(self.around.folder, self.state.step, content)
        self.saved = time.perf_counter()
        self.start_clock()

    def _look(self) -> None:
        """Learns, together with the other processes, what the steps since the last look found and who is to stop."""
        found = self._found_by_all()
        self.unseen = []
        self.newest_loss = found[-1][0]
        now = time.perf_counter()
        self.state.train_seconds += now - self.clock
        self.state.data_seconds += self.waited
        self.clock, self.waited = now, 0.0
        sums = self.state.sums
        for step, (loss, correct) in enumerate(found, start=self.state.step - len(found) + 1):
            if not math.isfinite(loss):
                raise Diverged(step)
            sums.loss += loss
            sums.correct += int(correct)
            sums.images += self.options.batch_size
            sums.steps += 1

    def _found_by_all(self) -> list[list[float]]:
        processes, mine = self.around.processes, torch.stack(self.unseen).flatten().tolist()
        try:
            asked = self.around.should_stop()
        except Exception:
            processes.totals([*mine, True, 0.0])  # the others would wait for this one
            raise
        seconds_of_step = (time.perf_counter() - self.clock) / len(self.unseen)
        *found, stops, seconds = processes.totals([*mine, asked, seconds_of_step])
        self.asked_to_stop = stops > 0
        if self.around.device.type == "cuda":
            self.steps_to_look = steps_between_looks(seconds / processes.count)
        return [found[step : step + 2] for step in range(0, len(found), 2)]

    def _between_steps(self) -> None:
        now = time.perf_counter()
        if now - self.reported >= SECONDS_BETWEEN_REPORTS:
            self.report()
        if self.asked_to_stop:
            self.save()
            raise Stopped
        if now - self.saved >= self.around.checkpoint_seconds:
            self.save()


def steps_between_looks(seconds_of_step: float) -> int:
    """How many steps a GPU makes before the CPU waits for it and looks."""
    return max(1, min(GPU_STEPS_BETWEEN_LOOKS, int(SECONDS_BETWEEN_LOOKS / max(seconds_of_step, 1e-9))))


def images_per_second(state: TrainingState, options: TrainOptions) -> float:
    """Images / training time: never a mean of rates."""
    return state.step * options.batch_size / state.train_seconds if state.train_seconds > 0 else 0.0
