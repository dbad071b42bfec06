"""How activations derive from a network's input: by which layers, from which other tensors, joined from which parts."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from nfrepro.signal.channel_axis import MAPS, ChannelAxis
from nfrepro.signal.channel_statistics import channel_statistics
from nfrepro.signal.torch_functions import (
    CONCATENATED_ALONG,
    CONCATENATIONS,
    COPIES,
    RESHAPES,
    SPLITS,
    STACKS,
    tensors_in,
)


@dataclass(frozen=True)
class Lineage:
    """How an activation derives from the network's input, along the path with the most weighted layers."""

    weighted: int = 0  # convolutions and linear layers on that path
    functions: int = 0  # of any kind
    layer: int = 0  # number of the call of the last convolution, linear layer or resampling; 0: the input itself
    channels: ChannelAxis = MAPS
    # Scalars that it was multiplied by since it was computed: their product, or the variance before them.
    scale: float = 1.0
    unscaled_var: Tensor | None = None
    factor: float = 1.0  # the product of all of them, whatever `scale` holds
    is_part: bool = False  # of the batch
    strangers: frozenset[int] = frozenset()  # numbers of the strangers that it was made from
    is_product: bool = False  # of matrices, with no layer since: it may be attention weights
    additions: frozenset[int] = frozenset()  # numbers of the residual additions that no layer has followed

    @property
    def channel_dim(self) -> int:
        return self.channels.dim

    @property
    def depth(self) -> tuple[int, int]:
        return self.weighted, self.functions

    def branch_var(self, activation: Tensor, channel_dim: int | None = None) -> Tensor:
        """The average channel variance of an `activation` with this lineage, before scalars."""
        if self.unscaled_var is not None:
            return self.unscaled_var
        dim = self.channel_dim if channel_dim is None else channel_dim
        return channel_statistics(activation, dim).avg_var / self.scale**2

    def without_scalars(self) -> "Lineage":
        """The same lineage, with the scalars so far treated as part of the activation."""
        return replace(self, scale=1.0, unscaled_var=None, factor=1.0)


# The lineage of a shortcut that does not come from the input.
FROM_ELSEWHERE = Lineage(weighted=-1, layer=-1)


def have_a_layer_between(first: Lineage | None, second: Lineage | None) -> bool:
    """Whether one of two activations can be the shortcut of the other; at a complete tie, neither can."""
    return first is not None and second is not None and first.layer != second.layer and first.depth != second.depth


class Strangers:
    """Numbered tensors that do not come from the input, such as position embeddings and expanded class tokens.

    They are made from parameters, buffers and numbers alone. A class token is the shortcut of a residual addition: the
    branch was made from it. A position embedding is not: the activation that it is first added to was made without it.
    Only the first addition of a stranger can tell.
    """

    def __init__(self) -> None:
        self._ancestors = WeakTensorKeyDictionary()  # tensor -> numbers of itself and of the strangers it is made from
        self._own = WeakTensorKeyDictionary()  # tensor -> its number
        self._count = 0
        self._added: set[int] = set()

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor in self._ancestors

    def set_apart(self, tensors: Iterable[Tensor]) -> None:
        """Note `tensors` as parameters and buffers."""
        for tensor in tensors:
            self._ancestors[tensor] = frozenset()

    def meet(self, made: Iterable[Tensor], sources: list[Tensor]) -> None:
        """Note tensors `made` by a function from `sources`, if all of these are strangers."""
        if not all(tensor in self for tensor in sources):
            return
        for tensor in made:
            self._count += 1
            self._own[tensor] = self._count
            self._ancestors[tensor] = self.among(sources) | {self._count}

    def among(self, tensors: Iterable[Tensor]) -> frozenset[int]:
        """The numbers of the strangers among `tensors` and of all strangers that they are made from."""
        found: frozenset[int] = frozenset()
        for tensor in tensors:
            found |= self._ancestors.get(tensor, frozenset())  # type: ignore[no-untyped-call]
        return found

    def is_shortcut(self, tensor: Tensor, strangers: frozenset[int]) -> bool:
        """Whether `tensor` is a stranger that is added for the first time, and to an activation made from it."""
        own: int | None = self._own.get(tensor)  # type: ignore[no-untyped-call]
        if own is None or own in self._added:
            return False
        self._added.add(own)
        return own in strangers


@dataclass(frozen=True)
class Joined:
    """The parts that an activation was joined from, along `dim`; `sizes` is None for a stack, one index per part."""

    dim: int
    sizes: tuple[int, ...] | None
    lineages: tuple[Lineage | None, ...]
    weighed: bool = False  # the parts have been modified since

    @property
    def has_a_shortcut(self) -> bool:
        """Whether a sum over the parts would be a residual addition."""
        first = self.lineages[0]
        return any(have_a_layer_between(first, other) for other in self.lineages[1:])


class JoinedParts:
    """The parts of all joined activations, without keeping any activation."""

    def __init__(self) -> None:
        self._joined = WeakTensorKeyDictionary()  # activation -> Joined

    def of(self, activation: Tensor) -> Joined | None:
        """The parts of `activation`; None if it was not joined."""
        found: Joined | None = self._joined.get(activation)  # type: ignore[no-untyped-call]
        return found

    def stack_among(self, tensors: Iterable[Tensor]) -> Joined | None:
        """The parts of the first of `tensors` that is a stack of a shortcut and its branch, if any."""
        stacks = (self.of(tensor) for tensor in tensors)
        return next((found for found in stacks if found and found.sizes is None and found.has_a_shortcut), None)

    def join(self, name: str, values: tuple[Any, ...], output: Tensor, lineages: Iterable[Lineage | None]) -> None:
        """Note that the function `name` joined `output` from the tensors among `values`."""
        given = next((value for value in values[1:] if isinstance(value, int)), 0)
        dim = CONCATENATED_ALONG.get(name, given) % output.ndim
        sizes = None if name in STACKS else tuple(part.shape[dim] for part in tensors_in(values))
        self._joined[output] = Joined(dim, sizes, tuple(lineages))

    def follow(self, name: str, values: tuple[Any, ...], output: Tensor) -> None:
        """Note the parts of the `output` of any other function, if it still has them."""
        if name in CONCATENATIONS | STACKS | SPLITS:
            return
        for tensor in tensors_in(values):
            joined = self.of(tensor)
            if joined is None:
                continue
            if joined.sizes is None and output.shape == tensor.shape:
                self._joined[output] = replace(joined, weighed=joined.weighed or name not in COPIES)
            elif name in RESHAPES and _is_stacked_again(joined, tensor.shape, output.shape):
                self._joined[output] = replace(joined, sizes=None)
            return

    def taken_apart(self, name: str, values: tuple[Any, ...], outputs: list[Tensor]) -> dict[int, Lineage]:
        """The lineages, by id, of the `outputs` of a function that splits a joined activation into its parts."""
        tensors = tensors_in(values)
        joined = self.of(tensors[0]) if name in SPLITS and tensors else None
        if joined is None or joined.weighed or len(outputs) != len(joined.lineages):
            return {}
        if joined.sizes is not None and tuple(tensor.shape[joined.dim] for tensor in outputs) != joined.sizes:
            return {}
        return {id(tensor): lineage for tensor, lineage in zip(outputs, joined.lineages, strict=True) if lineage}


def _is_stacked_again(joined: Joined, before: torch.Size, after: torch.Size) -> bool:
    """Whether a concatenation of equal parts was reshaped to a stack: `cat([x, f], 1).unflatten(1, (2, C))`."""
    if joined.sizes is None or len(set(joined.sizes)) != 1:
        return False
    return tuple(after) == (*before[: joined.dim], len(joined.sizes), joined.sizes[0], *before[joined.dim + 1 :])
