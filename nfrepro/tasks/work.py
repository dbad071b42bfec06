"""Counts the work of one training run. No torch until something is counted."""

from dataclasses import dataclass

from nfrepro.data.sizes import image_sizes
from nfrepro.tasks.options import TrainTask

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Work:
    """The work of a forward pass of the network on one image; bytes in float32."""

    parameters: int
    multiply_adds: int  # of a training image
    test_multiply_adds: int  # of a test image
    activation_bytes: int  # of a training image, kept for backward
    kept_weight_bytes: int  # kept for backward whatever the batch size
    image_bytes: int  # of a training image itself
    layers: int = 0  # convolutions and linear layers; 0: not counted, in dry runs of earlier revisions


def count_work(task: TrainTask) -> Work:
    """The work of `task`. Raises `InputError` if the size of its images cannot be known."""
    from nfrepro.models.cost import count_cost  # not at the top: it imports torch

    sizes = image_sizes(task.data)
    cost = count_cost(task.model, sizes.classes, sizes.channels, sizes.pixels)
    test_cost = cost
    if sizes.test_pixels != sizes.pixels:
        test_cost = count_cost(task.model, sizes.classes, sizes.channels, sizes.test_pixels)
    return Work(
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        test_multiply_adds=test_cost.multiply_adds,
        activation_bytes=cost.activation_bytes,
        kept_weight_bytes=cost.kept_weight_bytes,
        image_bytes=FLOAT32_BYTES * sizes.channels * sizes.pixels**2,
        layers=cost.layers,
    )
