"""The loss surface on a random plane through the weights (arXiv 1712.09913; code: tomgoldstein/loss-landscape)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nfrepro.errors import InputError
from nfrepro.seeding import stream_seed
from nfrepro.signal.weight_space import Batch, Loss, Point, loss_of_weights, weights


@dataclass(frozen=True)
class Landscape:
    """The loss on a square grid with the model in its middle."""

    coordinates: Tensor  # [side], float64: from -extent to extent, along each direction
    losses: Tensor  # [side, side], float64: at weights + coordinates[i] * first + coordinates[j] * second direction

    @property
    def rise(self) -> float:
        """The median of all losses minus the one in the middle; infinite if more than half are not finite."""
        middle = len(self.coordinates) // 2
        losses = self.losses.nan_to_num(nan=math.inf, posinf=math.inf)
        return float(losses.median() - losses[middle, middle])


def landscape(
    model: nn.Module,
    loss: Loss,
    batch: Batch,
    *,
    side: int = 15,
    extent: float = 1.0,
    seed: int = 0,
    moves_vectors: bool = False,
    batch_statistics: bool = True,
    dtype: torch.dtype | None = None,
) -> Landscape:
    """`loss(model(inputs), targets)` on the plane through the weights that the `random_directions` of `seed` span.

    `batch`: inputs and targets. `side`: number of points in each direction, odd. Runs in evaluation mode; BatchNorm
    layers normalize by the batch at every point, as they would in training. Without `batch_statistics`, they use the
    running statistics of the model in the middle, as the source's code does; then changes that a norm would undo are
    visible, too. Losses that are not finite are returned as they are. `dtype`: type to compute in, say torch.float64;
    None: that of the model. The model is left unchanged, bit for bit.

    Raises `InputError` for a loss that is not a scalar, a model without filters, an even `side` or one below 3, and an
    `extent` that is not positive and finite.
    """
    if side < 3 or side % 2 == 0:
        raise InputError(f"side must be odd and at least 3, so that the model is in the middle, got {side}")
    if not (math.isfinite(extent) and extent > 0):
        raise InputError(f"extent must be positive and finite, got {extent:g}")
    start = weights(model, dtype, trained_only=False)
    first, second = random_directions(model, seed, moves_vectors=moves_vectors, dtype=dtype)
    coordinates = (torch.arange(side, dtype=torch.float64) - side // 2) * (extent / (side // 2))
    losses = torch.empty(side, side, dtype=torch.float64)
    with loss_of_weights(model, loss, batch, batch_statistics, dtype) as function:
        for i, along_first in enumerate(coordinates.tolist()):
            row = _moved(start, first, along_first)
            for j, along_second in enumerate(coordinates.tolist()):
                losses[i, j] = function(_moved(row, second, along_second)).double()
    return Landscape(coordinates, losses)


def random_directions(
    model: nn.Module, seed: int, *, moves_vectors: bool = False, dtype: torch.dtype | None = None
) -> tuple[Point, Point]:
    """Two directions of independent N(0, 1) numbers, with each filter scaled to the norm of the model's filter.

    A filter consists of the weights of one output channel or neuron, which share their first index. Parameters with
    fewer than two dimensions (biases, norms, SkipInit scalars) do not move; with `moves_vectors`, they move along
    themselves, as in the source's code. The directions are nearly orthogonal and are not orthogonalized. The draws
    depend only on `seed` and on the shapes and order of the parameters. Raises `InputError` for a model in which
    nothing would move.
    """
    generator = torch.Generator().manual_seed(stream_seed("landscape", seed))
    start = weights(model, dtype, trained_only=False)
    if not moves_vectors and all(value.ndim < 2 for value in start.values()):
        raise InputError(f"{type(model).__name__} has only vectors and no filters: set moves_vectors")
    first, second = (
        {name: _direction(value, generator, moves_vectors) for name, value in start.items()} for _ in range(2)
    )
    return first, second


def _direction(weight: Tensor, generator: torch.Generator, moves_vectors: bool) -> Tensor:
    if weight.ndim < 2:
        return weight if moves_vectors else torch.zeros_like(weight)
    drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.device)
    scale = _filter_norms(weight.double()) / _filter_norms(drawn)
    # In the layout of the weights, so that the network computes in the same order.
    return torch.empty_like(weight).copy_(drawn * scale.view(-1, *[1] * (weight.ndim - 1)))


def _filter_norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms


def _moved(point: Point, direction: Point, length: float) -> Point:
    return {name: value + length * direction[name] for name, value in point.items()}
