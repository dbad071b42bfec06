"""Task `train`: train one network, and measure it in the ways that the run asks for.

Each kind of measurement has a separate table and adds numbers to the outcome. None changes what is trained, so that one
training answers the questions of tasks `nonlinearity`, `covariate_shift` and `smoothness` at once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from nfrepro.data.sources import Dataset
from nfrepro.errors import InputError
from nfrepro.models.own_options import OwnNetworkOptions
from nfrepro.models.registry import build
from nfrepro.signal import layer_inputs
from nfrepro.tasks import covariate_shift, nonlinearity, smoothness
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.batch_norm_noise import BatchNormNoise
from nfrepro.tasks.options import TrainTask
from nfrepro.tasks.train import Probe, last_step, prepare, train
from nfrepro.tasks.training_probe import training_probe
from nfrepro.training.context import RunContext
from nfrepro.training.step import check_division


@dataclass(frozen=True)
class Watch:
    """One kind of measurement: its probe, and the numbers that the outcome gets from its table."""

    probe: Probe
    numbers: Callable[[Outcome], Mapping[str, Any]] = lambda outcome: {}


@dataclass(frozen=True)
class Probes:
    """Several probes as one; at a step that several ask for, they measure in order."""

    probes: tuple[Probe, ...]

    @property
    def steps(self) -> frozenset[int]:
        return frozenset[int]().union(*(probe.steps for probe in self.probes))

    def measure(self, model: nn.Module, step: int) -> None:
        for probe in self.probes:
            if step in probe.steps:
                probe.measure(model, step)


def run(task: TrainTask, ctx: RunContext) -> Outcome:
    """Trains to the end, continuing from where it was stopped. A diverged run has no numbers for its end."""
    dataset, model = prepare(task, ctx)
    watches = list(_watches(task, dataset, model, ctx))
    noise = BatchNormNoise(model, task.noise, task.seed).before_step if task.noise else None
    outcome = train(task, ctx, dataset, model, Probes(tuple(watch.probe for watch in watches)), noise)
    if ctx.processes.rank > 0:
        return outcome
    numbers = {name: value for watch in watches for name, value in watch.numbers(outcome).items()}
    discard = partial(covariate_shift.discard_moments, outcome, ctx.folder)
    return replace(outcome, final=outcome.final | numbers, discard_unfinished=discard)


def check_processes(task: TrainTask, count: int) -> None:
    """Raise `InputError` if a run cannot be divided among `count` processes."""
    # A user's network may not support the meta device.
    with torch.device("cpu" if isinstance(task.model, OwnNetworkOptions) else "meta"):
        model = build(task.model, num_classes=2, in_channels=3)
    check_division(model, task.train, count)
    if task.noise:
        raise InputError("noise is drawn for whole batches: run it in one process")


def _watches(task: TrainTask, dataset: Dataset, model: nn.Module, ctx: RunContext) -> Iterator[Watch]:
    """Yields the measurements of `task`. Raises `InputError` if the run is too short or there is nothing to measure."""
    folder, last = ctx.folder, last_step(task, dataset)
    if task.probe is not None:
        yield Watch(training_probe(task.probe, dataset, task.seed, ctx))
    if task.units is not None:
        units = nonlinearity.units_probe(task.units, dataset, model, task.seed, ctx)
        yield Watch(units, partial(nonlinearity.shares, folder))
    if task.layer_inputs is not None:
        covariate_shift.check_steps("layer_inputs", task.layer_inputs, last)
        moments = training_probe(task.layer_inputs, dataset, task.seed, ctx, layer_inputs, covariate_shift.MOMENTS)
        yield Watch(moments, partial(covariate_shift.write_shifts, folder))
    if task.smoothness is not None:
        smoothness.check_steps(task.smoothness, last)
        along = smoothness.smoothness_probe(task.smoothness, task, dataset, ctx)
        yield Watch(along, partial(smoothness.numbers_of, folder))
