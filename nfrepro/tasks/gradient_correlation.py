"""Task `gradient_correlation`: do the gradients of an untrained network shatter (arXiv 1702.08591)?

autocorrelation.csv has the correlation of gradients by the angle between two inputs, one row per angle.
"""

from math import isfinite

import pandas as pd
import torch
from torch import Tensor, nn

from nfrepro import atomic
from nfrepro.data.probe_batch import gaussian_batch, image_batch
from nfrepro.data.sources import load_once
from nfrepro.errors import InputError
from nfrepro.models.parameter_roles import classifier
from nfrepro.models.registry import build
from nfrepro.seeding import stream_seed
from nfrepro.signal import circle, input_gradients
from nfrepro.signal.gradient_correlation import correlation_of
from nfrepro.tasks.base import Outcome
from nfrepro.tasks.options import GaussianOptions, GradientCorrelationTask
from nfrepro.tasks.probe import data_provenance
from nfrepro.training.context import Interrupted, Progress, RunContext
from nfrepro.training.device import describe_device
from nfrepro.training.precision import prepare_device

TABLE = "autocorrelation.csv"
OUTPUTS = 1  # of the classifier: a single output, whose gradient is taken
NUMBERS = ("gradient_correlation", "neighbour_autocorrelation", "gradient_rms")


def run(task: GradientCorrelationTask, ctx: RunContext) -> Outcome:
    """Averages over `draws` initialisations, with equal weight however large their gradients are.

    A run with gradients that are not finite has diverged: then there are no numbers, and no table.
    """
    device = prepare_device(ctx.device, "float32")
    plain, centred, sizes = [], [], []
    for draw in range(task.draws):
        if ctx.should_stop():
            raise Interrupted
        gradients = _gradients(task, draw, device)
        if not gradients.isfinite().all():
            ctx.complain(f"gradients of initialisation {draw} are not finite")
            return Outcome("diverged", dict.fromkeys(NUMBERS))
        found = correlation_of(gradients)
        plain.append(found.autocorrelation(closed=True, centred=False))
        centred.append(found.autocorrelation(closed=True))
        sizes.append(found.covariance.diagonal().mean().sqrt())
        ctx.report(Progress(draw + 1, task.draws, f"initialisation {draw + 1}/{task.draws}"))
    correlation, autocorrelation = torch.stack(plain).mean(0), torch.stack(centred).mean(0)
    degrees = [360.0 * step / task.inputs for step in range(len(correlation))]
    table = pd.DataFrame({"degrees": degrees, "correlation": correlation, "autocorrelation": autocorrelation})
    atomic.write_text(ctx.folder / TABLE, table.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
    numbers = torch.stack([correlation[task.inputs // 4], autocorrelation[1], torch.stack(sizes).mean()])
    final = {name: number if isfinite(number) else None for name, number in zip(NUMBERS, numbers.tolist(), strict=True)}
    return Outcome("completed", final, data_provenance(task.data, task.seed) | describe_device(device))


def _gradients(task: GradientCorrelationTask, draw: int, device: torch.device) -> Tensor:
    """The gradients of one new network along one new circle: [inputs, C, pixels, pixels]."""
    first, second, *batch = _inputs(task, stream_seed("circle", task.seed, draw)).to(device)
    torch.manual_seed(stream_seed("weights", task.seed, draw))
    model = build(task.model, OUTPUTS, len(first)).to(device)
    # The authors' classifiers begin at 0 or close to it, and no gradient would pass.
    last = classifier(model)
    if not isinstance(last, nn.Linear):
        raise InputError(f"model.name: {task.model.name}: its classifier is not a linear layer")
    nn.init.normal_(last.weight, std=last.in_features**-0.5)
    return input_gradients(model, circle(first, second, task.inputs), batch=torch.stack(batch)).cpu()


def _inputs(task: GradientCorrelationTask, seed: int) -> Tensor:
    """The two inputs that span the circle, and the others: [2 + batch, C, pixels, pixels]."""
    if isinstance(task.data, GaussianOptions):
        return gaussian_batch(2 + task.batch, task.data.channels, task.pixels, seed)
    return image_batch(load_once(task.data, task.seed), 2 + task.batch, task.pixels, seed)
