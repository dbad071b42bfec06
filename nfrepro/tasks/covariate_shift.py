"""Task `covariate_shift`: the moments of the inputs of each layer while a network trains, and how far they shift.

covariate_shift.csv has the moments of every layer at every measurement and their shift since the previous one. They
include noise after BatchNorm layers, because layers are trained on it.
"""

import io
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from torch import nn

from nfrepro import atomic
from nfrepro.data.batches import test_batches
from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.signal import layer_inputs, moment_shift
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.batch_norm_noise import BatchNormNoise
from nfrepro.tasks.options import CovariateShiftTask, ProbeSchedule
from nfrepro.tasks.train import last_step, prepare, train
from nfrepro.tasks.training_probe import training_probe
from nfrepro.training.batch_norm import reestimate_averages
from nfrepro.training.context import RunContext
from nfrepro.training.evaluation import evaluate
from nfrepro.training.loop import TrainingSetup

TABLE = "covariate_shift.csv"
# Moments of every channel: large, and deleted when the run is done. Hidden, and so not part of the sealed result.
MOMENTS = ".moments.csv"
SHIFTS = ("mean_shift", "std_shift", "constant")
REESTIMATED = ("test_loss_reestimated", "test_top1_reestimated")


def run(task: CovariateShiftTask, ctx: RunContext) -> Outcome:
    """Trains like task `train`; without noise it ends with the same bits.

    Raises `InputError` for fewer than two measurements, and for noise in a network without BatchNorm.
    """
    dataset, model = prepare(task, ctx)
    check_steps("probe", task.probe, last_step(task, dataset))
    probe = training_probe(task.probe, dataset, task.seed, ctx, layer_inputs, MOMENTS)
    noise = BatchNormNoise(model, task.noise, task.seed) if task.noise else None
    outcome = train(task, ctx, dataset, model, probe, None if noise is None else noise.before_step)
    numbers = write_shifts(ctx.folder, outcome)
    if task.reestimate_batch_norm:
        if noise is not None:
            noise.strength = 0.0
        completed = outcome.status == "completed"
        numbers |= _reestimated(task, dataset, model) if completed else dict.fromkeys(REESTIMATED)
    return replace(
        outcome,
        final=outcome.final | numbers,
        discard_unfinished=partial(discard_moments, outcome, ctx.folder),
    )


def write_shifts(folder: Path, outcome: Outcome) -> dict[str, float | None]:
    """Writes the table of shifts from a run's moments; returns the mean shifts, None for a diverged run."""
    moments = folder / MOMENTS
    table = shift_table(_read_moments(moments) if moments.exists() else pd.DataFrame())
    atomic.write_text(folder / TABLE, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    return final_numbers(table) if outcome.status == "completed" else dict.fromkeys(SHIFTS)


def _read_moments(path: Path) -> pd.DataFrame:
    """The stored moments. A network that is a single layer has an empty name, which is no missing value."""
    return pd.read_csv(io.BytesIO(atomic.read_bytes(path)), keep_default_na=False)


def discard_moments(outcome: Outcome, folder: Path) -> None:
    """Removes the moments, and the outcome's unfinished files, once the table is stored."""
    outcome.discard_unfinished()
    (folder / MOMENTS).unlink(missing_ok=True)


def shift_table(moments: pd.DataFrame) -> pd.DataFrame:
    """Converts `layer_inputs` at several steps into a row for each step and layer.

    Columns: `step`, `layer`, `module`, `avg_sq_mean`, `avg_var` (over channels), and those of `moment_shift` since the
    previous step, NaN at the first.
    """
    columns = ["step", "layer", "module", "avg_sq_mean", "avg_var", *SHIFTS]
    if moments.empty:
        return pd.DataFrame(columns=columns)
    parts: list[pd.DataFrame] = []
    before = None
    for step, at in moments.groupby("step"):
        squared = at.assign(avg_sq_mean=at["mean"] ** 2, avg_var=at["variance"])
        layers = squared.groupby(["layer", "module"], as_index=False)[["avg_sq_mean", "avg_var"]].mean()
        layers.insert(0, "step", step)
        if before is not None:
            layers = layers.join(moment_shift(before, at)[list(SHIFTS)])
        parts.append(layers)
        before = at
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def _reestimated(task: CovariateShiftTask, dataset: Dataset, model: nn.Module) -> dict[str, float | None]:
    """Test loss and accuracy with running averages over clean training images; `model` keeps these averages."""
    setup = TrainingSetup(dataset, task.data, task.train, task.seed)
    clean = test_batches(replace(dataset, test=dataset.train), setup.evaluation_batch)
    # BatchNorm cannot normalize a last batch of a single image.
    reestimate_averages(model, ((x, labels) for x, labels in clean if len(x) > 1), setup.autocast)
    found = evaluate(model, test_batches(dataset, setup.evaluation_batch), setup.autocast)
    return dict(zip(REESTIMATED, (found.loss, found.top1), strict=True))


def final_numbers(table: pd.DataFrame) -> dict[str, float | None]:
    """Shifts averaged over layers and measurements; None if there are none."""
    means = {name: float(table[name].astype(float).mean()) for name in SHIFTS}
    return {name: None if math.isnan(mean) else mean for name, mean in means.items()}


def check_steps(key: str, schedule: ProbeSchedule, last: int) -> None:
    """Raises `InputError` if training for `last` steps reaches fewer than two of the schedule's steps."""
    if sum(step <= last for step in set(schedule.steps)) < 2:
        raise InputError(f"{key}.steps: a shift needs two measurements, and training ends after step {last}")
