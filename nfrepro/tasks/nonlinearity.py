"""Task `nonlinearity`: which units of a network its inputs switch on and off while it trains.

activation_use.csv has the shares of active, always-on and dead units of every activation at every measurement.
"""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from nfrepro import atomic
from nfrepro.data.sources import Dataset
from nfrepro.signal import activation_use
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import NonlinearityTask, ProbeSchedule
from nfrepro.tasks.train import prepare, train
from nfrepro.tasks.training_probe import TrainingProbe, training_probe
from nfrepro.training.context import RunContext

TABLE = "activation_use.csv"
SHARES = ("active", "coactive", "always_on", "dead")


def run(task: NonlinearityTask, ctx: RunContext) -> Outcome:
    """Trains like task `train`, with the same bits. Raises `InputError` for a network without rectifiers."""
    dataset, model = prepare(task, ctx)
    probe = units_probe(task.probe, dataset, model, task.seed, ctx)
    outcome = train(task, ctx, dataset, model, probe)
    return replace(outcome, final=outcome.final | shares(ctx.folder, outcome))


def units_probe(
    schedule: ProbeSchedule, dataset: Dataset, model: nn.Module, seed: int, ctx: RunContext
) -> TrainingProbe:
    """A probe that counts the units switched by training images. Raises `InputError` if there are no rectifiers."""
    probe = training_probe(schedule, dataset, seed, ctx, activation_use, TABLE)
    activation_use(model, torch.zeros_like(probe.x[:2]))  # zeros, because nothing overflows on them
    return probe


def shares(folder: Path, outcome: Outcome) -> dict[str, float | None]:
    """The numbers of a run's table; for a diverged run, those of the last measurement are None."""
    path = folder / TABLE
    found = final_numbers(pd.read_csv(io.BytesIO(atomic.read_bytes(path))) if path.exists() else None)
    if outcome.status == "diverged":
        found |= {name: None for name in found if name.startswith("last_")}
    return found


def final_numbers(table: pd.DataFrame | None) -> dict[str, float | None]:
    """The shares averaged over layers, at the first and at the last measurement; `fixed`: always on or dead."""
    numbers: dict[str, float | None] = {}
    for name, place in (("first", "min"), ("last", "max")):
        at = None if table is None else table[table["step"] == table["step"].agg(place)]
        means = {share: None if at is None else float(at[share].mean()) for share in SHARES}
        fixed = None if at is None else float((at["always_on"] + at["dead"]).mean())
        numbers |= {f"{name}_{share}": mean for share, mean in {**means, "fixed": fixed}.items()}
    return numbers
