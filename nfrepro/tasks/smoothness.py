"""Task `smoothness`: train like task `train`, and measure how smooth the loss is (arXiv 1805.11604, figure 4).

smoothness.csv gets a row for each point along the gradient at chosen steps, landscape.csv the loss surface around the
trained weights (arXiv 1712.09913). The loss is the training loss, with label smoothing but without weight decay, on a
fixed batch, in float32 whatever the precision of training.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nfrepro import atomic
from nfrepro.data.probe_batch import labelled_batch
from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.signal import Landscape, Smoothness, landscape, smoothness
from nfrepro.signal.weight_space import Loss
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import SmoothnessSchedule, SmoothnessTask, TrainedNetworkTask
from nfrepro.tasks.train import last_step, prepare, train
from nfrepro.tasks.training_probe import replace_step
from nfrepro.training.context import Progress, RunContext
from nfrepro.training.precision import ieee_arithmetic

TABLE = "smoothness.csv"
SURFACE = "landscape.csv"
# Steps are multiples of the peak learning rate, or shares of the norm of the weights.
RULERS = ("learning_rate", "weight_norm")
FLOAT_FORMAT = "%.9g"

# Number of the outcome -> ruler and quantity. The number is the log10 of its median over the measured steps, so that a
# ratio is a difference. Medians, since one step in a ravine would dominate a mean.
NUMBERS: dict[str, tuple[str, Callable[[Smoothness], float]]] = {
    "log10_loss_range": ("learning_rate", lambda found: found.loss_range),
    "log10_gradient_change": ("learning_rate", lambda found: found.gradient_change),
    "log10_beta": ("learning_rate", lambda found: found.beta),
    "log10_relative_loss_range": ("weight_norm", lambda found: found.loss_range),
    "log10_relative_gradient_change": ("weight_norm", lambda found: found.relative_gradient_change),
    "log10_relative_beta": ("weight_norm", lambda found: found.relative_beta),
}


@dataclass(frozen=True)
class SmoothnessProbe:
    """Measures on `batch` after each step of `schedule`, along both rulers, and writes into `folder`."""

    schedule: SmoothnessSchedule
    peak_lr: float
    loss: Loss
    batch: tuple[Tensor, Tensor]
    folder: Path | None  # None: another process writes
    complain: Callable[[str], None]

    @property
    def steps(self) -> frozenset[int]:
        return frozenset(self.schedule.steps)

    def measure(self, model: nn.Module, step: int) -> None:
        """Adds the rows of `step`, or replaces those that an interrupted execution of the run left."""
        if self.folder is None:
            return
        multiples, shares = self.schedule.step_lengths, self.schedule.relative_lengths
        measured = partial(smoothness, model, self.loss, self.batch)
        try:
            with ieee_arithmetic():
                along = [
                    measured([length * self.peak_lr for length in multiples]),
                    measured(shares, relative=True),
                ]
        except InputError as error:  # an overflow: training itself will say that it diverged
            self.complain(f"no smoothness measured after step {step}: {error}")
            return
        parts = [
            _rows(step, ruler, lengths, found)
            for ruler, lengths, found in zip(RULERS, (multiples, shares), along, strict=True)
        ]
        replace_step(self.folder / TABLE, pd.concat(parts), step, FLOAT_FORMAT)


def run(task: SmoothnessTask, ctx: RunContext) -> Outcome:
    """Trains and measures, then computes the surface. A diverged run has rows up to its divergence, but no numbers."""
    dataset, model = prepare(task, ctx)
    check_steps(task.smoothness, last_step(task, dataset))
    probe = smoothness_probe(task.smoothness, task, dataset, ctx)
    on_plane = _batch(task, dataset, task.landscape.images)
    outcome = train(task, ctx, dataset, model, probe)
    numbers = numbers_of(ctx.folder, outcome)
    if outcome.status == "diverged":
        return replace(outcome, final={**outcome.final, **numbers, "landscape_rise": None})
    steps, grid = outcome.final["steps"], task.landscape
    ctx.report(Progress(steps, steps, "loss surface"))
    with ieee_arithmetic():
        surface = landscape(model, probe.loss, on_plane, side=grid.side, extent=grid.extent, seed=task.seed)
    _write_surface(ctx.folder / SURFACE, surface)
    rise = surface.rise if np.isfinite(surface.rise) else None
    return replace(outcome, final={**outcome.final, **numbers, "landscape_rise": rise})


def smoothness_probe(
    schedule: SmoothnessSchedule, task: TrainedNetworkTask, dataset: Dataset, ctx: RunContext
) -> SmoothnessProbe:
    """A probe of the loss that `task` trains, on training images chosen by its seed."""
    loss = partial(F.cross_entropy, label_smoothing=task.train.label_smoothing)
    folder = ctx.folder if ctx.processes.rank == 0 else None
    batch = _batch(task, dataset, schedule.images)
    return SmoothnessProbe(schedule, task.train.peak_lr, loss, batch, folder, ctx.complain)


def check_steps(schedule: SmoothnessSchedule, last: int) -> None:
    """Raises `InputError` if training for `last` steps is too short for the schedule."""
    if sum(step <= last for step in set(schedule.steps)) < 2:
        raise InputError(
            f"smoothness.steps: of {list(schedule.steps)} fewer than two lie within the {last:,} steps of the "
            "run: choose earlier ones, or train longer"
        )


def _batch(task: TrainedNetworkTask, dataset: Dataset, images: int) -> tuple[Tensor, Tensor]:
    x, labels = labelled_batch(dataset, images, dataset.pixels, task.seed)
    return x.to(dataset.device).to(memory_format=torch.channels_last), labels


def _rows(step: int, ruler: str, lengths: tuple[float, ...], found: Smoothness) -> pd.DataFrame:
    """A row for each point; `length` is in units of the ruler."""
    return pd.DataFrame(
        {
            "step": step,
            "ruler": ruler,
            "length": lengths,
            "distance": found.distances,
            "loss": found.losses,
            "gradient_change": found.gradient_changes,
            "start_loss": found.loss,
            "gradient_norm": found.gradient_norm,
            "weight_norm": found.weight_norm,
        }
    )


def _write_surface(path: Path, surface: Landscape) -> None:
    first, second = torch.meshgrid(surface.coordinates, surface.coordinates, indexing="ij")
    columns = {"first": first, "second": second, "loss": surface.losses}
    table = pd.DataFrame({name: values.flatten().numpy() for name, values in columns.items()})
    atomic.write_text(path, table.to_csv(index=False, lineterminator="\n", float_format=FLOAT_FORMAT))


def numbers_of(folder: Path, outcome: Outcome) -> dict[str, float | None]:
    """The `NUMBERS` of a run; all None for a diverged one."""
    return final_numbers(folder) if outcome.status == "completed" else dict.fromkeys(NUMBERS)


def final_numbers(folder: Path) -> dict[str, float | None]:
    """The `NUMBERS` of a run's table; None if the median is 0 or not finite, or if nothing could be measured."""
    path = folder / TABLE
    if not path.exists():
        return dict.fromkeys(NUMBERS)
    table = pd.read_csv(io.BytesIO(atomic.read_bytes(path)))
    along = {ruler: [_measured(rows) for _, rows in table[table["ruler"] == ruler].groupby("step")] for ruler in RULERS}
    return {
        name: _log_median([quantity(found) for found in along[ruler]]) for name, (ruler, quantity) in NUMBERS.items()
    }


def _measured(rows: pd.DataFrame) -> Smoothness:
    """The measurement that `_rows` turned into `rows`."""
    start = rows.iloc[0]
    return Smoothness(
        loss=float(start["start_loss"]),
        gradient_norm=float(start["gradient_norm"]),
        weight_norm=float(start["weight_norm"]),
        distances=tuple(rows["distance"]),
        losses=tuple(rows["loss"]),
        gradient_changes=tuple(rows["gradient_change"]),
    )


def _log_median(values: list[float]) -> float | None:
    median = float(np.median(values))
    return float(np.log10(median)) if 0.0 < median < np.inf else None
