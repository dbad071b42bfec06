"""Shattered gradients: how similar the gradients at different inputs are (arXiv 1702.08591, "the source").

The gradient is that of one number computed by a network from an input, with respect to that input. Along a line of
inputs, the source compares its autocorrelation with that of white noise and of brown noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nfrepro.errors import InputError
from nfrepro.signal.evaluation import evaluation

LEAST_INPUTS = 2


@dataclass(frozen=True)
class GradientCorrelation:
    """Second moments of the gradients at N inputs."""

    # [N, N] float64: the mean over coordinates of the product of the gradients at two inputs.
    covariance: Tensor

    @property
    def correlation(self) -> Tensor:
        """[N, N]: the cosine of the gradients at two inputs, their covariance over their sizes; NaN if one is 0."""
        size = self.covariance.diagonal().sqrt()
        return self.covariance / (size[:, None] * size)

    def autocovariance(self, *, closed: bool = False, centred: bool = True) -> Tensor:
        """The mean covariance over pairs of inputs, by their distance along the line, in steps from 0.

        There are N distances, or N // 2 + 1 for a `closed` line, whose last input is next to the first. `centred`
        subtracts the mean gradient of the line, as an autocovariance function does. Without it, this is the covariance
        of two inputs as in the source's theorems: over initialisations, where the mean is 0.
        """
        moments = self.covariance
        count = len(moments)
        if centred:
            rows = moments.mean(0)
            moments = moments - rows[:, None] - rows + rows.mean()
        if closed:
            first = torch.arange(count)
            return torch.stack([moments[first, (first + lag) % count].mean() for lag in range(count // 2 + 1)])
        return torch.stack([moments.diagonal(lag).mean() for lag in range(count)])

    def autocorrelation(self, *, closed: bool = False, centred: bool = True) -> Tensor:
        """The autocovariance divided by its value at distance 0; NaN if `centred` leaves 0, as for equal gradients."""
        found = self.autocovariance(closed=closed, centred=centred)
        rounding = 1e-12 * float(self.covariance.diagonal().mean())
        return found / found[0] if found[0] > rounding else torch.full_like(found, math.nan)


def sum_of_outputs(outputs: Any) -> Tensor:
    """The sum of a network's outputs [N, ...] for each input; random last weights make it a projection."""
    if not isinstance(outputs, Tensor):
        raise InputError(f"the model returns a {type(outputs).__name__}, not a tensor: choose a number with output=")
    return outputs.flatten(1).sum(1) if outputs.ndim > 1 else outputs


def gradient_correlation(
    model: nn.Module,
    inputs: Tensor,
    *,
    output: Callable[[Any], Tensor] = sum_of_outputs,
    batch: Tensor | None = None,
    batch_statistics: bool = True,
) -> GradientCorrelation:
    """How similar the gradients of `model` at the N `inputs` [N, ...] are; see `input_gradients` for the arguments.

    Raises `ValueError` as `input_gradients` does, and if a gradient is not finite or all are 0.
    """
    return correlation_of(input_gradients(model, inputs, output=output, batch=batch, batch_statistics=batch_statistics))


def correlation_of(gradients: Tensor) -> GradientCorrelation:
    """The second moments of `gradients` [N, ...]. Raises `ValueError` if one is not finite or all are 0."""
    rows = gradients.detach().reshape(len(gradients), -1).double()
    if not rows.isfinite().all():
        raise InputError("gradients at some inputs are not finite: the signal or its gradient explodes")
    covariance = rows @ rows.T / rows.shape[1]
    if not covariance.diagonal().any():
        raise InputError("the gradient is 0 at every input: is the classifier initialized to 0?")
    return GradientCorrelation(covariance)


def input_gradients(
    model: nn.Module,
    inputs: Tensor,
    *,
    output: Callable[[Any], Tensor] = sum_of_outputs,
    batch: Tensor | None = None,
    batch_statistics: bool = True,
) -> Tensor:
    """Gradients [N, ...] of one number computed by a network from each input, with respect to that input.

    `output` computes those numbers, one per input, from the output of `model`. Runs one forward and one backward pass
    in evaluation mode. The model, its gradients and the random state are left unchanged.

    BatchNorm layers normalize by the statistics of `batch` [M, ...] (None: of the `inputs` themselves) or, without
    `batch_statistics`, by the running ones. Inputs on a line span few dimensions, so a unit's variance may be close to
    0: a batch of independent inputs is closer to training. Statistics are treated as constants: the gradient is that of
    the function of one input that they define, as in the source's theorem 3 (inferred). With gradients through them,
    that of a sum over the batch would lose its mean in every layer, and thus everything that distant inputs have in
    common.

    Raises `ValueError` for fewer than two inputs, for integer inputs, and for outputs that are not one real number per
    input with a gradient. Non-finite numbers are returned, and exceptions of the model propagate.
    """
    count = len(inputs) if inputs.ndim else 0
    if count < LEAST_INPUTS:
        raise InputError(f"gradients are compared at {LEAST_INPUTS} inputs or more, got {list(inputs.shape)}")
    if not inputs.is_floating_point():
        raise InputError(f"inputs have no gradient: {inputs.dtype} is not a floating-point type")
    layers = [module for module in model.modules() if batch_statistics and isinstance(module, _BatchNorm)]
    if batch is not None and batch.shape[1:] != inputs.shape[1:]:
        raise InputError(f"batch {list(batch.shape)} and inputs {list(inputs.shape)} must have the same shape")
    others = batch if batch is not None and layers else inputs[:0]
    whole = count + len(others)
    with (
        evaluation(model, batch_statistics=False),
        _constant_statistics(layers, of=slice(count, whole) if len(others) else slice(0, whole), whole=whole),
        torch.enable_grad(),
    ):
        x = inputs.detach().clone().requires_grad_()
        numbers = output(model(torch.cat([x, others])))
        _check_numbers(numbers, whole)
        (gradients,) = torch.autograd.grad(numbers[:count].sum(), x, allow_unused=True)
    return torch.zeros_like(inputs) if gradients is None else gradients.detach()


def _check_numbers(numbers: object, count: int) -> None:
    if not isinstance(numbers, Tensor) or numbers.shape != (count,):
        found = list(numbers.shape) if isinstance(numbers, Tensor) else f"a {type(numbers).__name__}"
        raise InputError(f"a gradient needs one number an input, [{count}], got {found}: choose output= accordingly")
    if not numbers.is_floating_point() or not numbers.requires_grad:
        raise InputError(f"the {numbers.dtype} numbers of the model have no gradient with respect to its inputs")


@contextmanager
def _constant_statistics(layers: Sequence[_BatchNorm], of: slice, whole: int) -> Iterator[None]:
    """Make BatchNorm `layers` in evaluation mode use the statistics of the slice `of` of all `whole` inputs."""

    @torch.no_grad()
    def take(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x: Tensor = next(iter([*args, *kwargs.values()]))
        rows_of_one = len(x) // whole  # more than one if a model makes several maps from an input
        rows = x.detach()[of.start * rows_of_one : of.stop * rows_of_one].movedim(1, -1).flatten(0, -2)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        layer.running_var, layer.running_mean = torch.var_mean(rows, 0, correction=0)

    kept = [(layer, layer.running_mean, layer.running_var) for layer in layers]
    hooks = [layer.register_forward_pre_hook(take, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mean, variance in kept:
            layer.running_mean, layer.running_var = mean, variance


def circle(first: Tensor, second: Tensor, count: int) -> Tensor:
    """`count` inputs [count, ...], evenly spaced on the circle around 0 from `first` in the direction of `second`.

    Its radius is the norm of `first`; inputs a quarter turn apart are orthogonal. If both are N(0, 1) noise, it is a
    periodic Gaussian process with covariance cos(angle). Raises `ValueError` for inputs that do not span a plane.
    """
    if count < LEAST_INPUTS:
        raise InputError(f"a circle has {count} inputs: it needs {LEAST_INPUTS} or more")
    if first.shape != second.shape:
        raise InputError(f"a circle needs inputs of the same shape, got {list(first.shape)} and {list(second.shape)}")
    start, towards = first.double(), second.double()
    radius = torch.linalg.vector_norm(start)
    across = towards - start * (start * towards).sum() / radius**2
    length = torch.linalg.vector_norm(across)
    if not 1e-6 * torch.linalg.vector_norm(towards) < length < math.inf:
        raise InputError("a circle needs two inputs that point in different directions")
    angles = 2.0 * math.pi * torch.arange(count, dtype=torch.float64) / count
    angles = angles.reshape(-1, *[1] * first.ndim).to(start.device)
    points: Tensor = torch.cos(angles) * start + torch.sin(angles) * across * (radius / length)
    return points.to(first.dtype)


def white_noise(count: int) -> GradientCorrelation:
    """The correlation of gradients that are independent N(0, 1) numbers."""
    return GradientCorrelation(torch.eye(count, dtype=torch.float64))


def brown_noise(count: int, *, closed: bool = False) -> GradientCorrelation:
    """The correlation of a random walk of `count` steps; on a `closed` line the walk ends where it began."""
    time = torch.arange(1, count + 1, dtype=torch.float64)
    covariance = torch.minimum(time[:, None], time)
    return GradientCorrelation(covariance - time[:, None] * time / count if closed else covariance)
