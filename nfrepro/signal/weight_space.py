"""The loss of a network as a function of its weights. The network itself is only read, never written to."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nfrepro.errors import InputError
from nfrepro.signal.evaluation import evaluation

Loss = Callable[[Any, Tensor], Tensor]  # takes the network's output and the targets
Batch = tuple[Tensor, Tensor]  # inputs and targets
Point = dict[str, Tensor]  # parameters by name


@dataclass(frozen=True)
class LossOfWeights:
    """`loss(model(inputs), targets)` at any point; parameters not in it come from `rest`, or else from the model."""

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor
    rest: Point  # includes the buffers

    def __call__(self, point: Point) -> Tensor:
        """Raises `InputError` if the loss is not a scalar."""
        value = self.loss(functional_call(self.model, {**self.rest, **point}, (self.inputs,)), self.targets)
        if not isinstance(value, Tensor) or value.ndim > 0:
            found = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise InputError(f"the loss must be a scalar, got {found}: take its mean over the batch")
        return value

    def with_gradient(self, point: Point) -> tuple[float, Point]:
        """The loss at `point`, and its gradient with respect to the parameters in `point`."""
        leaves = {name: value.detach().requires_grad_() for name, value in point.items()}
        with torch.enable_grad():
            value = self(leaves)
        if not value.requires_grad:
            raise InputError("the loss does not depend on the parameters: is it detached from them?")
        found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return value.item(), dict(zip(leaves, found, strict=True))


@contextmanager
def loss_of_weights(
    model: nn.Module, loss: Loss, batch: Batch, batch_statistics: bool, dtype: torch.dtype | None
) -> Iterator[LossOfWeights]:
    """The loss of `model` in evaluation mode (see `evaluation`), computed in `dtype` if one is given."""
    held = [*model.named_parameters(), *model.named_buffers()]
    rest = {} if dtype is None else {name: _converted(value.detach(), dtype) for name, value in held}
    inputs, targets = (_converted(value, dtype) for value in batch)
    with evaluation(model, batch_statistics):
        yield LossOfWeights(model, loss, inputs, targets, rest)


def weights(model: nn.Module, dtype: torch.dtype | None, trained_only: bool) -> Point:
    """The current point of `model`: all parameters, or the trainable ones. Raises `InputError` if there are none."""
    found = {name: value for name, value in model.named_parameters() if value.requires_grad or not trained_only}
    if not found:
        frozen = " that require a gradient" if trained_only and any(True for _ in model.parameters()) else ""
        raise InputError(f"{type(model).__name__} has no parameters{frozen}: there is nothing to move")
    return {name: _converted(value.detach(), dtype) for name, value in found.items()}


def norm(vectors: Iterable[Tensor]) -> float:
    """The l2 norm of all tensors as one vector, summed in float64."""
    norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in vectors]
    return float(torch.linalg.vector_norm(torch.stack(norms)))


def _converted(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value if dtype is None or not value.is_floating_point() else value.to(dtype)
