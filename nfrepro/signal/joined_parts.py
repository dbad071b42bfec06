"""The parts of activations that were joined by cat or stack."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from nfrepro.signal.lineage import Lineage, have_a_layer_between
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
class Joined:
    """The parts that an activation was joined from, along `dim`; `sizes` are None in a stack, one index a part."""

    dim: int
    sizes: tuple[int, ...] | None
    lineages: tuple[Lineage | None, ...]
    weighed: bool = False  # something has been done to the parts since

    @property
    def has_a_shortcut(self) -> bool:
        """Whether a sum over the parts would be a residual addition."""
        first = self.lineages[0]
        return any(have_a_layer_between(first, other) for other in self.lineages[1:])


class JoinedParts:
    """The parts of all joined activations; no activation is kept for it."""

    def __init__(self) -> None:
        self._joined = WeakTensorKeyDictionary()  # activation -> Joined

    def of(self, activation: Tensor) -> Joined | None:
        """None for what was not joined."""
        found: Joined | None = self._joined.get(activation)  # type: ignore[no-untyped-call]
        return found

    def stack_among(self, tensors: Iterable[Tensor]) -> Joined | None:
        """The first among `tensors` that is a stack of a shortcut and its branch, if any."""
        stacks = (self.of(tensor) for tensor in tensors)
        return next((found for found in stacks if found and found.sizes is None and found.has_a_shortcut), None)

    def join(self, name: str, values: tuple[Any, ...], output: Tensor, lineages: Iterable[Lineage | None]) -> None:
        """Note that the function `name` joined `output` from the tensors among `values`."""
        given = next((value for value in values[1:] if isinstance(value, int)), 0)
        dim = CONCATENATED_ALONG.get(name, given) % output.ndim
        sizes = None if name in STACKS else tuple(part.shape[dim] for part in tensors_in(values))
        self._joined[output] = Joined(dim, sizes, tuple(lineages))

    def follow(self, name: str, values: tuple[Any, ...], output: Tensor) -> None:
        """Note the parts of the `output` of any other function, where it still has them."""
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
        """The lineages of the `outputs` of a function that takes a joined activation apart as it was put together."""
        tensors = tensors_in(values)
        joined = self.of(tensors[0]) if name in SPLITS and tensors else None
        if joined is None or joined.weighed or len(outputs) != len(joined.lineages):
            return {}
        if joined.sizes is not None and tuple(tensor.shape[joined.dim] for tensor in outputs) != joined.sizes:
            return {}
        return {id(tensor): lineage for tensor, lineage in zip(outputs, joined.lineages, strict=True) if lineage}


def _is_stacked_again(joined: Joined, before: torch.Size, after: torch.Size) -> bool:
    """Whether a concatenation of equal parts has got a dimension for them: `cat([x, f], 1).unflatten(1, (2, C))`."""
    if joined.sizes is None or len(set(joined.sizes)) != 1:
        return False
    return tuple(after) == (*before[: joined.dim], len(joined.sizes), joined.sizes[0], *before[joined.dim + 1 :])
