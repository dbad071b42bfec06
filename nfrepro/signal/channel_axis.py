"""The dimension of an activation that holds its channels, followed from function to function.

Evidence, strongest first:

1. A convolution puts its channels at dimension 1, and a linear layer or an embedding at the last dimension.
2. A linear layer along a dimension known not to hold the channels mixes positions (MLP-Mixer): the channels stay.
3. A view keeps channels in the dimension of the same size and stride; a reshape keeps them in the dimension that holds
   the first of them. Every other function that keeps the number of dimensions keeps them where they are.

After a product of matrices, the last dimension is guessed. If the dimension gets lost, as when `qkv` is split, the
guess is the last one if it held the channels and keeps its size, and else 1. A guess lasts until the next layer. In a
residual addition the shortcut decides, since a branch may end in another view of its channels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nfrepro.signal.torch_functions import CONVOLUTIONS, LINEAR, RECURRENT

# Linear functions that are layers, so that features are last in their output; a product may be of any two tensors.
_LAYERS = {"linear", "bilinear", "embedding", *RECURRENT}


@dataclass(frozen=True)
class ChannelAxis:
    """The dimension that holds the channels, and whether it is known or guessed."""

    dim: int
    known: bool = True


MAPS = ChannelAxis(1)  # of [N, C, H, W]


@dataclass(frozen=True)
class Layout:
    """Shape, strides and place in memory of an activation, noted before a function may change it in place."""

    shape: torch.Size
    strides: tuple[int, ...]
    storage: int  # 0 if there is no dense memory: a sparse tensor, or one of another library

    @classmethod
    def of(cls, activation: Tensor) -> "Layout":
        """The layout of `activation` as it is now."""
        if activation.layout is not torch.strided or activation.is_nested:
            return cls(activation.shape, (), 0)
        return cls(activation.shape, activation.stride(), activation.untyped_storage().data_ptr())


def axis_behind(name: str, before: ChannelAxis, source: Layout, output: Tensor) -> ChannelAxis:
    """The channel dimension of the `output` of the function `name`, whose `source` has its channels at `before`."""
    ndim = output.ndim
    if name in CONVOLUTIONS:
        return ChannelAxis(1)
    if name in LINEAR:
        mixes_positions = name == "linear" and before.known and before.dim < ndim - 1
        return before if mixes_positions else ChannelAxis(max(ndim - 1, 0), known=name in _LAYERS)
    if (seen := _in_view(before.dim, source, output)) is not None:
        return ChannelAxis(seen, before.known)
    if ndim == len(source.shape):
        return before
    if output.numel() == math.prod(source.shape) and (seen := _in_reshape(before.dim, source, output)) is not None:
        return ChannelAxis(seen, before.known)
    kept_last = ndim > 0 and before.dim == len(source.shape) - 1 and output.shape[-1] == source.shape[-1]
    return ChannelAxis(ndim - 1 if kept_last else 1, known=False)


def _in_view(dim: int, source: Layout, output: Tensor) -> int | None:
    """The one dimension of a view with the size and stride of `dim` of its source; None if there is not exactly one."""
    view = Layout.of(output)
    if dim >= len(source.strides) or view.storage != source.storage or source.storage == 0:
        return None
    wanted = source.shape[dim], source.strides[dim]
    found = [place for place, pair in enumerate(zip(view.shape, view.strides, strict=True)) if pair == wanted]
    return found[0] if len(found) == 1 else None


def _in_reshape(dim: int, source: Layout, output: Tensor) -> int | None:
    """The dimension of `output`, a reshape with numbers in the same order, that holds the first of the channels."""
    if dim >= len(source.shape) or source.shape[dim] == 1:
        return None
    start = math.prod(source.shape[:dim])
    for place in range(output.ndim):
        first = math.prod(output.shape[:place])
        if first <= start < first * output.shape[place]:
            return place
    return None


def layout_of(ndim: int, channel_dim: int) -> str:
    """The layout of an activation as text: `[N, C, H, W]`, `[N, H, W, C]`, `[N, T, C]`, `[N, C, T]`."""
    others = iter("NHW" if ndim == 4 else "NT")
    return f"[{', '.join('C' if dim == channel_dim else next(others) for dim in range(ndim))}]"
