"""Gains that start near zero, such as SkipInit scalars and LayerScale, set to 1 for the duration of a measurement."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# LayerScale starts at 1e-6 to 1e-1 (arXiv 2103.17239), SkipInit and the last gain of a zero-initialised branch at 0.
SMALLEST_HEARD = 0.1
# Words in the names of parameters that are added, not multiplied.
_ADDED = ("bias", "beta", "shift", "offset", "token", "embed", "pos")


def small_gains(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of `model` that are gains near zero, by name.

    They are a scalar or one number per channel, all equal and at most 0.1 in magnitude, and their name is not that of a
    bias, shift, token or embedding.
    """
    return {name: parameter for name, parameter in model.named_parameters() if _is_small_gain(name, parameter)}


@contextmanager
def unit_gains(model: nn.Module) -> Iterator[list[str]]:
    """Set the `small_gains` of `model` to 1 for the duration of the context, which yields their names."""
    found = small_gains(model)
    before = {name: parameter.detach().clone() for name, parameter in found.items()}
    try:
        with torch.no_grad():
            for parameter in found.values():
                parameter.fill_(1.0)
        yield list(found)
    finally:
        with torch.no_grad():
            for name, parameter in found.items():
                parameter.copy_(before[name])


def _is_small_gain(name: str, parameter: nn.Parameter) -> bool:
    if (
        not parameter.is_floating_point()
        or parameter.numel() == 0
        or parameter.numel() != max(parameter.shape, default=1)
    ):
        return False
    if any(word in name.rpartition(".")[2].lower() for word in _ADDED):
        return False
    low, high = float(parameter.detach().min()), float(parameter.detach().max())
    return low == high and abs(low) <= SMALLEST_HEARD
