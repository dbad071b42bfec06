"""How smooth the loss is around some weights, along its gradient (arXiv 1805.11604, figure 4).

From the source: along the gradient, the range of the loss; the l2 distance between the gradients before and after a
step ("gradient predictiveness"); its largest ratio to the distance moved ("effective beta-smoothness"); steps as
multiples of the learning rate. Its text could not be checked, so the following is inferred: the points lie downhill, as
for an optimiser; the range is that of the points after the steps, without the starting point; which multiples.

Comparing networks. A step of s moves by s * |gradient|, so the source's numbers mix two things: the length of steps and
the curvature of the loss. They show what an optimiser with that learning rate encounters. They also depend on the size
of weights even if it is irrelevant: if the loss does not change with the scale c of the weights, as before a norm or
with standardized weights, the gradient scales as 1 / c and beta as 1 / c^2. `relative` steps (ours) answer the other
question: all networks are moved by the same share of the norm of their weights, so the range of the loss, the change of
the gradient over its norm, and beta * |weights|^2 are the same for every c. This holds for one c for all weights:
layers or gains that grow at different rates still matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nfrepro.errors import InputError
from nfrepro.signal.weight_space import Batch, Loss, loss_of_weights, norm, weights


@dataclass(frozen=True)
class Smoothness:
    """The loss at some weights and at points downhill from them. Values that are not finite there are infinite here."""

    loss: float
    gradient_norm: float  # norms are l2, over all parameters that require a gradient
    weight_norm: float
    distances: tuple[float, ...]  # from the weights to each point
    losses: tuple[float, ...]  # at the points
    gradient_changes: tuple[float, ...]  # norm of (gradient there minus gradient at the weights)

    @property
    def loss_range(self) -> float:
        """The largest loss of the points minus the smallest."""
        return math.inf if math.inf in self.losses else max(self.losses) - min(self.losses)

    @property
    def gradient_change(self) -> float:
        """The largest of `gradient_changes`: the smaller, the more predictive the gradient."""
        return max(self.gradient_changes)

    @property
    def beta(self) -> float:
        """Effective beta-smoothness: the largest ratio of the change of the gradient to the distance moved."""
        pairs = zip(self.gradient_changes, self.distances, strict=True)
        return max(change / distance for change, distance in pairs)

    @property
    def relative_gradient_change(self) -> float:
        """`gradient_change` over the norm of the gradient."""
        return self.gradient_change / self.gradient_norm

    @property
    def relative_beta(self) -> float:
        """`beta` times the squared norm of the weights."""
        return self.beta * self.weight_norm**2


def smoothness(
    model: nn.Module,
    loss: Loss,
    batch: Batch,
    step_lengths: Sequence[float],
    *,
    relative: bool = False,
    batch_statistics: bool = True,
    dtype: torch.dtype | None = None,
) -> Smoothness:
    """Measures `loss(model(inputs), targets)` while moving a copy of the weights of `model` against its gradient.

    `batch`: inputs and targets. `step_lengths`: at least two, positive and increasing. A step of length s subtracts
    s * gradient, as an optimiser with learning rate s does; with `relative`, it goes that way by s * |weights|.

    Runs in evaluation mode: no dropout, no augmentation. BatchNorm layers normalize by the batch, as they do in
    training, or by their running statistics without `batch_statistics`. `dtype`: type to compute in, say torch.float64
    for steps too short for float32; None: that of the model. The model is left unchanged, bit for bit.

    Raises `InputError` for a loss that is not a scalar, a model without parameters, invalid step lengths, and, at the
    model's weights, a loss or gradient that is not finite or a gradient of 0. At the other points, they may have any
    value.
    """
    _check_lengths(step_lengths)
    start = weights(model, dtype, trained_only=True)
    with loss_of_weights(model, loss, batch, batch_statistics, dtype) as function:
        value, gradient = function.with_gradient(start)
        gradient_norm, weight_norm = norm(gradient.values()), norm(start.values())
        _check_start(value, gradient_norm)
        if relative and weight_norm == 0.0:
            raise InputError("all weights are 0: there is no norm to scale a step by")
        scale = weight_norm / gradient_norm if relative else 1.0
        losses, changes = [], []
        for length in step_lengths:
            point = {name: start[name] - length * scale * gradient[name] for name in start}
            moved_to, there = function.with_gradient(point)
            losses.append(_or_infinite(moved_to))
            changes.append(_or_infinite(norm(there[name] - gradient[name] for name in start)))
    distances = tuple(length * scale * gradient_norm for length in step_lengths)
    return Smoothness(value, gradient_norm, weight_norm, distances, tuple(losses), tuple(changes))


def _check_lengths(lengths: Sequence[float]) -> None:
    increasing = all(one < other for one, other in zip((0.0, *lengths), lengths, strict=False))
    if len(lengths) < 2 or not increasing or not math.isfinite(lengths[-1]):
        raise InputError(f"step_lengths must be two or more, positive and increasing, got {list(lengths)}")


def _check_start(loss: float, gradient_norm: float) -> None:
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        raise InputError(f"at the current weights the loss is {loss:g} and the norm of its gradient {gradient_norm:g}")
    if gradient_norm == 0.0:
        raise InputError("at the current weights the gradient is 0: there is no direction to move in")


def _or_infinite(value: float) -> float:
    return value if math.isfinite(value) else math.inf
