"""Measurements of a network while it trains: a table of the run gets rows at chosen steps."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from nfrepro import atomic
from nfrepro.data.probe_batch import image_batch
from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.signal import propagation
from nfrepro.tasks.options import ProbeSchedule
from nfrepro.training.context import RunContext
from nfrepro.training.precision import ieee_arithmetic

TABLE = "propagation.csv"


@dataclass(frozen=True)
class TrainingProbe:
    """Measures on `x` [N, C, H, W] after each of `steps`, and writes into `folder`; None: another process writes."""

    x: Tensor
    steps: frozenset[int]
    folder: Path | None
    complain: Callable[[str], None]
    measurement: Callable[[nn.Module, Tensor], pd.DataFrame] = propagation
    table: str = TABLE

    def measure(self, model: nn.Module, step: int) -> None:
        """Adds the rows of `step`, or replaces those that an interrupted execution of the run left."""
        if self.folder is None:
            return
        try:
            with ieee_arithmetic():  # whatever the precision of the training
                rows = self.measurement(model, self.x)
        except InputError as error:  # an overflow: training itself will say that it diverged
            self.complain(f"no signal measured after step {step}: {error}")
            return
        rows.insert(0, "step", step)
        replace_step(self.folder / self.table, rows, step)


def training_probe(
    schedule: ProbeSchedule,
    dataset: Dataset,
    seed: int,
    ctx: RunContext,
    measurement: Callable[[nn.Module, Tensor], pd.DataFrame] = propagation,
    table: str = TABLE,
) -> TrainingProbe:
    """A probe on training images chosen by `seed`. Raises `InputError` if there are fewer than asked for."""
    x = image_batch(dataset, schedule.images, dataset.pixels, seed)
    x = x.to(dataset.device).to(memory_format=torch.channels_last)
    folder = ctx.folder if ctx.processes.rank == 0 else None
    return TrainingProbe(x, frozenset(schedule.steps), folder, ctx.complain, measurement, table)


def replace_step(path: Path, rows: pd.DataFrame, step: int, float_format: str | None = None) -> None:
    """Replaces the rows of `step` in the csv `path`, sorted by step, with `rows`; others stay, to the last digit."""
    table = _as_text(io.StringIO(rows.to_csv(index=False, float_format=float_format)))
    if path.exists():
        earlier = _as_text(io.BytesIO(atomic.read_bytes(path)))
        table = pd.concat([earlier[earlier["step"] != step], table]).sort_values("step", kind="stable")
    atomic.write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _as_text(table: io.BytesIO | io.StringIO) -> pd.DataFrame:
    """Reads a table with its numbers as text, except for the step."""
    return pd.read_csv(table, dtype=str, keep_default_na=False).astype({"step": int})
