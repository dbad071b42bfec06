"""One optimiser step: on a whole batch at once, or accumulated over its micro-batches, or over several processes."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from nfrepro.errors import InputError
from nfrepro.models.effective_weights import EffectiveWeights
from nfrepro.seeding import stream_seed
from nfrepro.training.agc import clip_gradients, clipped_parameters
from nfrepro.training.batch_norm import RunningStatistics, has_batch_norm
from nfrepro.training.cuda_graph import GraphedStep, may_be_recorded
from nfrepro.training.distributed import Processes
from nfrepro.training.gradients import GradientSum
from nfrepro.training.optim import ema_decay
from nfrepro.training.options import TrainOptions
from nfrepro.training.precision import weight_dtype
from nfrepro.training.state import TrainingState


@dataclass(frozen=True)
class Part:
    """Rows that go through the network at once: micro-batch `number`, or a part of it from its row `first` on."""

    number: int
    first: int
    rows: slice  # of this process's tensors


def check_division(model: nn.Module, options: TrainOptions, processes: int) -> None:
    """Raise `InputError` if a run cannot be divided among `processes` processes with the same result."""
    if options.batch_size % processes:
        raise InputError(f"batch_size: {options.batch_size} is not a multiple of the {processes} processes")
    if options.grad_accum_steps % processes and has_batch_norm(model):
        raise InputError(
            "BatchNorm normalizes each accumulated part separately: set train.grad_accum_steps to a multiple of "
            f"{processes}"
        )
    if options.grad_accum_steps % processes and _draws(model):
        raise InputError(
            "dropout and stochastic depth draw for each accumulated part separately: set train.grad_accum_steps to a "
            f"multiple of {processes}"
        )


def _draws(model: nn.Module) -> bool:
    """Whether a layer of `model` draws in training: dropout, or stochastic depth (ours, torchvision's or timm's)."""
    known = [
        layer
        for layer in model.modules()
        if isinstance(layer, _DropoutNd) or type(layer).__name__ in ("StochasticDepth", "DropPath")
    ]
    return any((getattr(layer, rate, None) or 0.0) > 0.0 for layer in known for rate in ("p", "rate", "drop_prob"))


def cut(options: TrainOptions, rows: range) -> list[Part]:
    """Cuts the `rows` of a batch at the boundaries between micro-batches."""
    size = options.batch_size // options.grad_accum_steps
    starts = [rows.start, *range((rows.start // size + 1) * size, rows.stop, size)]
    ends = [*starts[1:], rows.stop]
    return [
        Part(start // size, start % size, slice(start - rows.start, end - rows.start))
        for start, end in zip(starts, ends, strict=True)
    ]


class Trainer:
    """Makes optimiser steps on this process's rows of each batch; together the processes cover the whole batch.

    Raises `InputError` if the run does not divide among them.
    """

    def __init__(
        self,
        state: TrainingState,
        options: TrainOptions,
        seed: int,
        processes: Processes,
        cuda_graph: bool = False,
    ) -> None:
        check_division(state.model, options, processes.count)
        self.state, self.options, self.seed, self.processes = state, options, seed, processes
        self.parts = cut(options, processes.share(options.batch_size))
        self.weights = EffectiveWeights(state.model)
        self.gradients = GradientSum(state.model.parameters(), processes)
        # Otherwise random draws continue from step to step, and their generator is part of the checkpoint.
        self.seeds_parts = options.grad_accum_steps > 1 or processes.count > 1
        self.graphed: GraphedStep | None = None
        if cuda_graph and may_be_recorded(state.model, state.optimizer, len(self.parts), processes.count):
            self.graphed = GraphedStep(state.optimizer)

    def step(self, x: Tensor, targets: Tensor, autocast: torch.autocast) -> Tensor:
        """One step at the optimiser's learning rate, on images [N, C, H, W] and labels [N] or targets [N, classes].

        Returns this process's part of the mean loss and its number of correctly classified images, float64 [2], without
        waiting for the device. Raises `ProcessLost`.
        """
        state, options = self.state, self.options
        update = partial(self._update, autocast=autocast)
        found = update(x, targets) if self.graphed is None else self.graphed.step(update, x, targets)
        if state.ema is not None and options.ema_decay is not None:
            state.ema.update(state.model, ema_decay(state.step, options.ema_decay))
        state.step += 1
        return found

    def _update(self, x: Tensor, targets: Tensor, autocast: torch.autocast) -> Tensor:
        """The step itself: forward and backward pass of each part, clipping, and the optimiser's update."""
        state, options = self.state, self.options
        statistics = RunningStatistics(state.model, options.grad_accum_steps, self.processes)
        state.optimizer.zero_grad(set_to_none=True)
        found = torch.zeros(2, dtype=torch.float64, device=x.device)
        with self.weights.for_training(weight_dtype(autocast), len(self.parts)) as effective:
            for part in self.parts:
                if self.seeds_parts:
                    _seed_dropout(x.device, self.seed, state.step, part)
                with statistics.of_a_part(), autocast:
                    logits = state.model(x[part.rows])
                if part is self.parts[-1]:
                    self.gradients.before_last_backward()
                found += _backward(logits, targets[part.rows], options)
            effective.finish()
        self.gradients.finish()
        statistics.average()
        if options.clip_factor is not None:
            clip_gradients(clipped_parameters(state.model), options.clip_factor)
        state.optimizer.step()
        return found


def _backward(logits: Tensor, targets: Tensor, options: TrainOptions) -> Tensor:
    """Adds the gradient of this part of the batch's mean loss. Returns the part's loss and its correct images."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    share = len(logits) / options.batch_size
    loss = F.cross_entropy(logits, targets, label_smoothing=options.label_smoothing) * share
    loss.backward()  # type: ignore[no-untyped-call]
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    correct = (logits.detach().argmax(1) == labels).sum()
    return torch.stack([loss.detach().double(), correct.double()])


def _seed_dropout(device: torch.device, seed: int, step: int, part: Part) -> None:
    """Seeds dropout and stochastic depth, so that they depend on the step and part, not on earlier draws."""
    numbers = (part.number, part.first) if part.first else (part.number,)
    generator = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    generator.manual_seed(stream_seed("dropout", seed, step, *numbers))
