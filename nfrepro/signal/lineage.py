"""How an activation has come from the input of a network."""

from dataclasses import dataclass, replace

from torch import Tensor

from nfrepro.signal.channel_axis import MAPS, ChannelAxis
from nfrepro.signal.channel_statistics import channel_statistics


@dataclass(frozen=True)
class Lineage:
    """How an activation has come from the network's input, along the path with the most weighted layers."""

    weighted: int = 0  # convolutions and linear layers on that path
    functions: int = 0  # of any kind
    layer: int = 0  # number of the call of the last convolution, linear layer or resampling; 0: the input itself
    channels: ChannelAxis = MAPS
    # Scalars multiplied onto it since it was computed: their product, or the variance from before them.
    scale: float = 1.0
    unscaled_var: Tensor | None = None
    factor: float = 1.0  # the product of all of them, whatever `scale` holds
    is_part: bool = False  # of the batch
    strangers: frozenset[int] = frozenset()  # numbers of the strangers that have gone into it
    is_product: bool = False  # of matrices, with no layer since: it may be of attention weights
    additions: frozenset[int] = frozenset()  # numbers of the residual additions behind which there has been no layer

    @property
    def channel_dim(self) -> int:
        return self.channels.dim

    @property
    def depth(self) -> tuple[int, int]:
        return self.weighted, self.functions

    def branch_var(self, activation: Tensor, channel_dim: int | None = None) -> Tensor:
        """The average channel variance of the `activation` of this lineage, before scalars."""
        if self.unscaled_var is not None:
            return self.unscaled_var
        dim = self.channel_dim if channel_dim is None else channel_dim
        return channel_statistics(activation, dim).avg_var / self.scale**2

    def without_scalars(self) -> "Lineage":
        """The same, with the scalars so far taken for a part of the activation."""
        return replace(self, scale=1.0, unscaled_var=None, factor=1.0)


# The lineage of a shortcut that does not come from the input.
FROM_ELSEWHERE = Lineage(weighted=-1, layer=-1)


def have_a_layer_between(first: Lineage | None, second: Lineage | None) -> bool:
    """Whether one of two activations is the other's shortcut: at a complete tie neither is."""
    return first is not None and second is not None and first.layer != second.layer and first.depth != second.depth
