"""The inputs of the convolutions and linear layers of a network, channel by channel, and how far they have shifted.

Internal covariate shift is the change of the distribution of a layer's inputs while the layers before it learn (Ioffe
and Szegedy, arXiv 1502.03167). arXiv 1805.11604 shows such distributions over training; quantifying their change by the
first two moments, as here, is inferred, not that paper's definition.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nfrepro.errors import InputError
from nfrepro.signal.channel_statistics import ChannelMoments, channel_moments, merged
from nfrepro.signal.evaluation import evaluation
from nfrepro.signal.module_names import matching_modules

if TYPE_CHECKING:
    import pandas as pd

# A channel whose standard deviation is a smaller share of its mean is constant, up to the rounding of float32.
_CONSTANT = 1e-6


def layer_inputs(
    model: nn.Module, x: Tensor, *, layers: str | None = None, batch_statistics: bool = True
) -> "pd.DataFrame":
    """Mean and variance of every input channel of each convolution and linear layer of `model` fed with `x`.

    Columns: `layer` (from 1, in order of execution), `module` (its name), `channel` (from 0), `mean` and `variance` (of
    the population) over images and positions, in float64; all calls of one module are pooled. Constants that act
    through weights (the paper's beta and gamma in this package's networks) are not included. The regular expression
    `layers` chooses the modules whose whole name it matches.

    Runs one forward pass in evaluation mode, with the statistics of the batch in BatchNorm layers (or the running ones,
    without `batch_statistics`). The model is left unchanged.

    Raises `ValueError` if there are no such layers, and for inputs that are not finite. Exceptions of the model
    propagate.
    """
    import pandas as pd

    found = [module for module in model.modules() if isinstance(module, _ConvNd | nn.Linear)]
    if layers is not None:
        chosen = matching_modules(model, layers, "layers")
        found = [module for module in found if module in chosen]
    calls: dict[nn.Module, list[ChannelMoments]] = {}
    with evaluation(model, batch_statistics), _recorded(found, calls):
        model(x)
    if not calls:
        which = "" if layers is None else f" that layers={layers!r} matches"
        raise InputError(f"no convolution or linear layer{which} was called in {type(model).__name__}")
    names = {module: name for name, module in model.named_modules()}
    tables = []
    for number, (module, moments) in enumerate(calls.items(), 1):
        together = merged(moments)
        if not bool(torch.isfinite(together.mean).all() & torch.isfinite(together.var).all()):
            where = names[module] or "the model itself"
            raise InputError(f"inputs of layer {number} ({where}) are not finite: the signal explodes")
        columns = {"mean": together.mean.tolist(), "variance": together.var.tolist()}
        channels = range(len(together.mean))
        table = pd.DataFrame({"layer": number, "module": names[module], "channel": channels, **columns})
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def moment_shift(before: "pd.DataFrame", after: "pd.DataFrame") -> "pd.DataFrame":
    """How far each layer's inputs shifted between two tables of `layer_inputs` for the same network and batch.

    Columns: `layer`, `module`; `mean_shift`, the change of a channel's mean in units of its standard deviation (the
    root mean square of those before and after, so that the shift is finite even if a channel was constant before);
    `std_shift`, the change of the logarithm of its standard deviation; both are absolute values, averaged over
    channels; `constant`, the share of channels that are constant before or after. Channels without a meaningful shift
    are left out: for the mean, those constant before and after; for the deviation, those constant before or after. A
    shift is NaN if no channels are left.

    Raises `ValueError` for tables of different layers.
    """
    import numpy as np
    import pandas as pd

    keys = ["layer", "module", "channel"]
    if not before[keys].reset_index(drop=True).equals(after[keys].reset_index(drop=True)):
        raise InputError("moments of different layers cannot be compared: measure the same network twice")
    first, second = before.reset_index(drop=True), after.reset_index(drop=True)
    constant = _is_constant(first), _is_constant(second)
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.sqrt((first["variance"] + second["variance"]) / 2)
        mean_shift = (second["mean"] - first["mean"]).abs() / std
        std_shift = (np.log(second["variance"]) - np.log(first["variance"])).abs() / 2
    shifts = pd.DataFrame(
        {
            "layer": first["layer"],
            "module": first["module"],
            "mean_shift": mean_shift.mask(constant[0] & constant[1]),
            "std_shift": std_shift.mask(constant[0] | constant[1]),
            "constant": (constant[0] | constant[1]).astype(float),
        }
    )
    return shifts.groupby(["layer", "module"], sort=False, as_index=False).mean()


@contextmanager
def _recorded(layers: Sequence[nn.Module], calls: dict[nn.Module, list[ChannelMoments]]) -> Iterator[None]:
    """Add the moments of the inputs of every call of one of `layers` to `calls`."""

    def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs: Tensor = args[0] if args else kwargs["input"]
        dim = -1 - len(layer.kernel_size) if isinstance(layer, _ConvNd) else -1
        calls.setdefault(layer, []).append(channel_moments(inputs, dim))

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_constant(moments: "pd.DataFrame") -> "pd.Series[bool]":
    constant: pd.Series[bool] = moments["variance"] <= (_CONSTANT * moments["mean"]) ** 2
    return constant
