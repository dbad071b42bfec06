"""Task `probe`: the signal after every block of an untrained network (paper section 3), written to propagation.csv."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nfrepro import atomic
from nfrepro.data.probe_batch import gaussian_batch, image_batch
from nfrepro.data.sources import load_once
from nfrepro.errors import InputError
from nfrepro.models.description import describe
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.signal import STATISTICS, input_correlation, long_form, predict, propagation
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import GaussianOptions, ProbeInput, ProbeTask
from nfrepro.training.context import RunContext
from nfrepro.training.device import describe_device
from nfrepro.training.precision import autocast, prepare_device

TABLE = "propagation.csv"
CLASSES = 1000  # the classifier is built, but no statistic sees it


def run(task: ProbeTask, ctx: RunContext) -> Outcome:
    """Makes one forward pass. The seed chooses the weights and the batch."""
    x = _batch(task)
    torch.manual_seed(stream_seed("weights", task.seed))
    device = prepare_device(ctx.device, task.precision)
    model = build(task.model, CLASSES, x.shape[1]).to(device).to(memory_format=torch.channels_last)
    x = x.to(device).to(memory_format=torch.channels_last)
    with autocast(device, task.precision):
        measured = propagation(model, x, extra={"input_correlation": input_correlation})
    predicted = prediction(task, x.shape[1])
    table = long_form(measured, predicted, network=task.model.label, seed=task.seed)
    atomic.write_text(ctx.folder / TABLE, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    return Outcome(
        "completed", final_numbers(measured, predicted), data_provenance(task.data, task.seed) | describe_device(device)
    )


def _batch(task: ProbeTask) -> Tensor:
    if isinstance(task.data, GaussianOptions):
        return gaussian_batch(task.batch, task.data.channels, task.pixels, task.seed)
    return image_batch(load_once(task.data, task.seed), task.batch, task.pixels, task.seed)


def data_provenance(data: ProbeInput, seed: int) -> dict[str, Any]:
    """The provenance of a measurement: threads and, unless it is on noise, the images that were loaded for it."""
    images = {} if isinstance(data, GaussianOptions) else load_once(data, seed).provenance
    return {**images, "threads": torch.get_num_threads()}


def prediction(task: ProbeTask, in_channels: int) -> pd.DataFrame | None:
    """The theory's curves; None for a network or an input that it does not cover."""
    if not isinstance(task.data, GaussianOptions):
        return None
    try:
        return predict(describe(task.model, in_channels=in_channels, pixels=task.pixels))
    except InputError:
        return None


def final_numbers(measured: pd.DataFrame, predicted: pd.DataFrame | None) -> dict[str, Any]:
    """The numbers for the table, which the claims are about, in one row."""
    ends = measured.groupby("stage").last()
    after_transition = measured[measured["transition"]].groupby("stage")
    numbers: dict[str, Any] = {
        "res_var_min": float(measured["res_var"].min()),
        "res_var_mean": float(measured["res_var"].mean()),
        "res_var_max": float(measured["res_var"].max()),
        "sq_mean_max": float(measured["avg_sq_mean"].max()),
        "input_correlation_last": finite(measured["input_correlation"].iloc[-1]),
        "log_variance_slope": log_slope(measured),
        "least_linearity": least_linearity(measured),
    }
    for stage, row in ends.iterrows():
        numbers[f"end{stage}_sq_mean"], numbers[f"end{stage}_var"] = float(row["avg_sq_mean"]), float(row["avg_var"])
    for stage, rows in after_transition:
        numbers[f"start{int(str(stage))}_var"] = float(rows["avg_var"].iloc[0])
    for statistic in STATISTICS:
        numbers[f"{statistic}_deviation"] = largest_deviation(measured[statistic], predicted, statistic)
    return numbers


def finite(value: float) -> float | None:
    """The value; None if it is not finite, like the correlation of a single image."""
    return float(value) if np.isfinite(value) else None


def log_slope(measured: pd.DataFrame) -> float | None:
    """Growth of log(avg_var) per block, by least squares over all blocks."""
    variance = measured["avg_var"].to_numpy(float)
    if len(variance) < 2 or not (variance > 0).all():
        return None
    return float(np.polyfit(np.arange(len(variance)), np.log(variance), 1)[0])


def least_linearity(measured: pd.DataFrame) -> float | None:
    """The least R squared of a straight line through avg_var within a stage, over stages of three blocks or more."""
    found = []
    for _, rows in measured.groupby("stage"):
        if len(rows) >= 3 and rows["avg_var"].std() > 0:
            found.append(float(np.corrcoef(rows["block"], rows["avg_var"])[0, 1] ** 2))
    return min(found, default=None)


def largest_deviation(measured: pd.Series, predicted: pd.DataFrame | None, statistic: str) -> float | None:
    """The largest |measured / predicted - 1| over blocks; None without a prediction, or if one is 0."""
    if predicted is None:
        return None
    expected = predicted[statistic].to_numpy(float)
    if not (expected > 0).all():
        return None
    return float(np.abs(measured.to_numpy(float) / expected - 1.0).max())
