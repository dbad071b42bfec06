"""Builds, trains and evaluates a network, whatever the task; metrics.jsonl gets a row per evaluation."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from nfrepro.data.batches import steps_per_epoch
from nfrepro.data.sources import Dataset, load_once
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import TrainedNetworkTask
from nfrepro.training import checkpoint, loop
from nfrepro.training.callbacks import Callbacks
from nfrepro.training.context import RunContext
from nfrepro.training.device import describe_device
from nfrepro.training.precision import check_precision, prepare_device


class Probe(Protocol):
    """Measures the network in training, and changes nothing."""

    @property
    def steps(self) -> frozenset[int]:
        """Optimiser steps after which it measures; 0 is before training."""

    def measure(self, model: nn.Module, step: int) -> None:
        """Called once for each of `steps` that is reached; again if an interrupted run repeats it."""


def prepare(task: TrainedNetworkTask, ctx: RunContext) -> tuple[Dataset, nn.Module]:
    """Data and initial network, on the device. Raises `InputError` if the device would emulate the precision."""
    check_precision(task.train.precision, ctx.device)
    device = prepare_device(ctx.device, task.train.precision)
    dataset = load_once(task.data, task.seed).to(device)
    return dataset, initial_model(task, dataset).to(device).to(memory_format=torch.channels_last)


def last_step(task: TrainedNetworkTask, dataset: Dataset) -> int:
    """The number of optimiser steps in the whole training."""
    return task.train.epochs * steps_per_epoch(len(dataset.train), task.train.batch_size)


def train(
    task: TrainedNetworkTask,
    ctx: RunContext,
    dataset: Dataset,
    model: nn.Module,
    probe: Probe | None = None,
    before_step: Callable[[int], None] | None = None,
) -> Outcome:
    """Trains `model`, which `prepare` made, in place to the end, continuing from where it was stopped.

    The headline is the last evaluation, never the best. Raises `Interrupted` when asked to stop.
    `before_step` receives the number of each optimiser step, from 0, before the step is made.
    """
    device = torch.device(ctx.device)
    setup = loop.TrainingSetup(dataset, task.data, task.train, task.seed)
    callbacks = Callbacks()
    if probe is not None:
        callbacks = replace(callbacks, probe=probe.measure, probe_steps=probe.steps)
    if before_step is not None:
        callbacks = replace(callbacks, before_step=before_step)
    with ctx.processes.connected(device.type):
        result = loop.fit(model, setup, ctx, callbacks)
    return Outcome(
        result.status,
        _final_numbers(result, model),
        _provenance(dataset, task, device),
        discard_unfinished=partial(checkpoint.remove, ctx.folder),
    )


def initial_model(task: TrainedNetworkTask, dataset: Dataset) -> nn.Module:
    """The network with weights drawn from the seed alone, so that arms of an experiment share as many as they can."""
    torch.manual_seed(stream_seed("weights", task.seed))
    model = build(task.model, dataset.num_classes, dataset.channels)
    torch.manual_seed(stream_seed("training", task.seed))
    return model


def _final_numbers(result: loop.TrainingResult, model: nn.Module) -> dict[str, Any]:
    """Losses and accuracies of the last row of metrics, missing for a diverged run, and statistics of the run."""
    last = result.metrics[-1] if result.status == "completed" else {}
    kept = {key: value for key, value in last.items() if "loss" in key or "top" in key}
    return {
        "top1": last.get("test_top1"),
        **kept,
        "final_train_top1": result.final_train_top1,
        **_scalars(result),
        "steps": result.step,
        "diverged_at_step": result.step if result.status == "diverged" else None,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_seconds": round(result.train_seconds, 3),
        "data_seconds": round(result.data_seconds, 3),
        "images_per_second": round(result.images_per_second, 1),
        "weights_sha256": weights_digest(model),
    }


def _scalars(result: loop.TrainingResult) -> dict[str, float | None]:
    """The mean SkipInit scalars of networks that have them; for a diverged run, that at the end is None."""
    if result.skipinit_gain is None:
        return {}
    at_the_end = result.skipinit_gain if result.status == "completed" else None
    found = {"early_skipinit_gain": result.early_skipinit_gain, "skipinit_gain": at_the_end}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def weights_digest(model: nn.Module) -> str:
    """A digest of the weights, equal for two runs that ended with the same bits."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _provenance(dataset: Dataset, task: TrainedNetworkTask, device: torch.device) -> dict[str, Any]:
    return {
        **dataset.provenance,
        "precision": task.train.precision,
        "threads": torch.get_num_threads(),
        **describe_device(device),
    }
