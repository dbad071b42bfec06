"""One optimiser step, on a whole batch at once or accumulated over its micro-batches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nfrepro.seeding import stream_seed
from nfrepro.training.batch_norm import RunningStatistics
from nfrepro.training.clipping import clip_gradients, clipped_parameters
from nfrepro.training.options import TrainOptions
from nfrepro.training.recipe import ema_decay
from nfrepro.training.state import TrainingState


@dataclass(frozen=True)
class Part:
    """Rows that go through the network at once: micro-batch `number` of the batch, or its rows from `first` on."""

    number: int
    first: int
    rows: slice  # of the tensors at hand


def cut(options: TrainOptions, rows: range) -> list[Part]:
    """The `rows` of a batch, cut where one micro-batch ends and the next begins."""
    size = options.batch_size // options.micro_batches
    starts = [rows.start, *range((rows.start // size + 1) * size, rows.stop, size)]
    ends = [*starts[1:], rows.stop]
    return [
        Part(start // size, start % size, slice(start - rows.start, end - rows.start))
        for start, end in zip(starts, ends, strict=True)
    ]


def train_step(
    state: TrainingState, x: Tensor, targets: Tensor, options: TrainOptions, autocast: torch.autocast, seed: int
) -> Tensor:
    """One step at the optimiser's learning rate, on images [N, C, H, W] and their labels [N] or targets [N, classes].

    Returns the mean loss and the number of images classified right, float64 [2], without waiting for the device.
    """
    parts = cut(options, range(options.batch_size))
    statistics = RunningStatistics(state.model, len(parts))
    state.optimizer.zero_grad(set_to_none=True)
    found = torch.zeros(2, dtype=torch.float64, device=x.device)
    for part in parts:
        if options.micro_batches > 1:
            _seed_dropout(x.device, seed, state.step, part)
        with statistics.of_a_part(), autocast:
            logits = state.model(x[part.rows])
        found += _backward(logits, targets[part.rows], len(x), options.label_smoothing)
    statistics.average()
    if options.clip_factor is not None:
        clip_gradients(clipped_parameters(state.model), options.clip_factor)
    state.optimizer.step()
    if state.ema is not None and options.ema_decay is not None:
        state.ema.update(state.model, ema_decay(state.step, options.ema_decay))
    state.step += 1
    return found


def _backward(logits: Tensor, targets: Tensor, rows: int, label_smoothing: float) -> Tensor:
    """Adds the gradient of this part of the mean loss over all `rows`. Returns that part of the loss, and the count."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, targets, label_smoothing=label_smoothing) * (len(logits) / rows)
    loss.backward()  # type: ignore[no-untyped-call]
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    correct = (logits.detach().argmax(1) == labels).sum()
    return torch.stack([loss.detach().double(), correct.double()])


def _seed_dropout(device: torch.device, seed: int, step: int, part: Part) -> None:
    """Makes what dropout and stochastic depth draw a function of the part, not of what was drawn before."""
    numbers = (part.number, part.first) if part.first else (part.number,)
    generator = torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator
    generator.manual_seed(stream_seed("dropout", seed, step, *numbers))
