"""The SkipInit scalars of a network in training: how far its residual branches have come in."""

from torch import nn


def mean_abs_skipinit_gain(model: nn.Module) -> float | None:
    """The mean of |scalar| over the residual blocks; None for a network without SkipInit scalars."""
    gains = [getattr(module, "skip_gain", None) for module in model.modules()]
    sizes = [abs(gain.item()) for gain in gains if isinstance(gain, nn.Parameter)]
    return sum(sizes) / len(sizes) if sizes else None
