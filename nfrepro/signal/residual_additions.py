"""Finds the residual additions, shortcut + branch, of any network while it runs."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nfrepro.signal.channel_axis import MAPS, ChannelAxis, Layout, axis_behind
from nfrepro.signal.channel_statistics import (
    ChannelMoments,
    ChannelStatistics,
    channel_moments,
    channel_statistics,
    merged,
)
from nfrepro.signal.torch_functions import (
    ADDITIONS,
    CONCATENATIONS,
    CONVOLUTIONS,
    COPIES,
    FUSED_ADDITIONS,
    INTERPOLATIONS,
    LINEAR,
    PRODUCTS,
    QUOTIENTS,
    RANKS,
    RESAMPLING,
    REVERSED_SUBTRACTIONS,
    SLICES,
    SPLITS,
    STACKS,
    SUBTRACTIONS,
    SUMS,
    reduced_dims,
    tensors_in,
)

# Scalars that a variance is divided by afterwards. Others, 0 above all, are looked through by measuring before them.
_DIVISIBLE = (1 / 16, 16.0)


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


@dataclass(frozen=True)
class ResidualAddition:
    """One addition of a residual branch to its shortcut."""

    branch_var: Tensor  # average channel variance of the branch, before scalars
    factor: float  # the product of these scalars
    total: ChannelStatistics | None  # of the sum
    shape: torch.Size  # of the sum
    lineage: Lineage  # of the sum
    shortcut: Lineage

    def is_within_branch_of(self, later: "ResidualAddition") -> bool:
        """Whether it adds parts of the branch of a `later` addition in the same forward, as Res2Net does."""
        return later.shape != self.shape and later.shortcut.weighted < self.lineage.weighted


@dataclass(frozen=True)
class _Summand:
    """One of the two activations that a function adds."""

    activation: Tensor
    lineage: Lineage | None  # None where it does not come from the input


@dataclass(frozen=True)
class _Operands:
    """What is known of a residual addition before it takes place."""

    branch_var: Tensor
    factor: float
    shortcut: Lineage
    branch_part: ChannelMoments | None  # where the activations are parts of a batch


@dataclass(frozen=True)
class _Joined:
    """The parts that an activation was joined from, along `dim`; `sizes` are None in a stack, one index a part."""

    dim: int
    sizes: tuple[int, ...] | None
    lineages: tuple[Lineage | None, ...]


@dataclass(frozen=True)
class _PartialSum:
    """The residual addition of a part of a batch, which counts once all parts have been joined."""

    branch: ChannelMoments
    factor: float
    total: ChannelMoments
    shortcut: Lineage


class ResidualAdditions(TorchFunctionMode):
    """While active, calls `found` for each residual addition of activations that come from `x`, right after it.

    A residual addition is one of two floating activations of equal shape, sequences [N, T, C] or maps [N, C, H, W],
    between which lies at least one layer: a convolution, linear layer, attention or resampling. A difference, an
    interpolation and the sum over a stack are additions, too. The branch is the one that has passed more weighted
    layers or, if equally many, more functions; at a complete tie there is none. Sums of parts of a batch are one
    addition once they are joined. No activation is kept: statistics are taken on the spot.
    """

    def __init__(self, x: Tensor, found: Callable[[ResidualAddition], None], measure_sums: bool = True) -> None:
        super().__init__()
        self.layers = 0  # calls so far
        self.other_ranks: Counter[int] = Counter()  # dimensions of what would be residual additions if there were four
        self._found, self._measure_sums = found, measure_sums
        self._lineages = WeakTensorKeyDictionary()
        self._lineages[x] = self._latest = Lineage(channels=ChannelAxis(1 if x.ndim == 4 else x.ndim - 1))
        self._joined = WeakTensorKeyDictionary()  # activation -> _Joined
        self._partial = WeakTensorKeyDictionary()  # activation -> _PartialSum
        self._images = len(x)
        self.unjoined = 0  # sums of parts of a batch that were never joined

    def lineage(self, tensor: Tensor) -> Lineage | None:
        """None for what does not come from the input, such as parameters."""
        found: Lineage | None = self._lineages.get(tensor)  # type: ignore[no-untyped-call]
        return found

    def take_up(self, inputs: Iterable[Any]) -> None:
        """Takes activations among `inputs` that nobody has seen made, say by a scripted module, for the next layer."""
        for tensor in tensors_in(inputs):
            if tensor.ndim in RANKS and len(tensor) == self._images and self.lineage(tensor) is None:
                self._lineages[tensor] = self._next("linear", _without_scalars(self._latest))

    def take_over(self, outputs: Iterable[Any], inputs: Iterable[Any], layer: bool) -> None:
        """Where nothing has been seen of how `outputs` come from `inputs`: takes them for one function of these."""
        known = [lineage for tensor in tensors_in(inputs) if (lineage := self.lineage(tensor)) is not None]
        unknown = [tensor for tensor in tensors_in(outputs) if self.lineage(tensor) is None]
        if known and unknown:
            deepest = max(known, key=lambda lineage: lineage.depth)
            lineage = self._next("linear" if layer else "", _without_scalars(deepest))
            for tensor in unknown:
                self._lineages[tensor] = lineage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        values = (*args, *kwargs.values())
        sources = [(lineage, tensor) for tensor in tensors_in(values) if (lineage := self.lineage(tensor)) is not None]
        if not sources:
            return func(*args, **kwargs)
        # All questions about operands come before the call: it may work in place.
        name = getattr(func, "__name__", "").split(".")[0]  # of an aten operator: add.Tensor
        lineage, source = max(sources, key=lambda pair: pair[0].depth)
        layout = Layout.of(source)
        operands = self._operands(name, values)
        scaled = self._scaled(name, values)
        result = func(*args, **kwargs)
        outputs = [tensor for tensor in tensors_in((result,)) if tensor.is_floating_point()]
        if not outputs:
            return result
        if scaled is None:
            scaled = lineage if name in COPIES else _without_scalars(lineage)
        self._latest = lineage = self._next(name, scaled)
        parts = self._parts(name, values, outputs)
        for tensor in outputs:
            channels = axis_behind(name, lineage.channels, layout, tensor)
            if operands is not None:
                channels = operands.shortcut.channels
            is_part = self._is_part(name, lineage, layout.shape, tensor.shape)
            found = parts.get(id(tensor)) or replace(lineage, channels=channels)
            self._lineages[tensor] = replace(found, is_part=is_part)
        self._remember_parts(name, values, outputs[0])
        if operands is not None:
            self._report(operands, outputs[0])
        return result

    def _operands(self, name: str, values: tuple[Any, ...]) -> _Operands | None:
        """What is added, where it is a residual addition; None where it is not."""
        summands = self._summands(name, values)
        if summands is None:
            return None
        first, second = summands
        left, right = first.lineage, second.lineage
        if left is None or right is None or left.layer == right.layer or left.depth == right.depth:
            return None
        one, other = first.activation, second.activation
        if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
            return None
        if one.ndim not in RANKS:
            self.other_ranks[one.ndim] += 1
            return None
        if left.depth > right.depth and name in SUBTRACTIONS | REVERSED_SUBTRACTIONS:
            return None  # branch - shortcut, as in a token mixer pool(x) - x: the stream does not go on in it
        branch, branch_lineage, shortcut = (one, left, right) if left.depth > right.depth else (other, right, left)
        # A branch that mixes tokens ends with another view of its channels: the shortcut knows where they are.
        dim = shortcut.channel_dim
        if branch_lineage.is_part and shortcut.is_part:
            self.unjoined += 1
            part = channel_moments(branch, dim).divided_by(branch_lineage.scale)
            return _Operands(part.average(), branch_lineage.factor, shortcut, part)
        return _Operands(branch_lineage.branch_var(branch, dim), branch_lineage.factor, shortcut, None)

    def _summands(self, name: str, values: tuple[Any, ...]) -> tuple[_Summand, _Summand] | None:
        """The two activations that a function adds, in its order; None for any other function."""
        tensors = tensors_in(values)
        if name in FUSED_ADDITIONS and len(tensors) >= 3:
            return self._fused_summands(tensors)
        if name in ADDITIONS | SUBTRACTIONS | INTERPOLATIONS and len(tensors) >= 2:
            return self._summand(tensors[0]), self._summand(tensors[1])
        if name in REVERSED_SUBTRACTIONS and len(tensors) >= 2:
            return self._summand(tensors[1]), self._summand(tensors[0])
        joined = self._parts_of(tensors[0]) if name in SUMS and tensors else None
        if joined is not None and joined.sizes is None and reduced_dims(values, tensors[0].ndim) == [joined.dim]:
            parts = [_Summand(*pair) for pair in zip(tensors[0].unbind(joined.dim), joined.lineages, strict=True)]
            return (parts[0], parts[1]) if len(parts) == 2 else None
        return None

    def _is_part(self, name: str, lineage: Lineage, source: torch.Size, output: torch.Size) -> bool:
        """Whether an output has some images of the batch only."""
        if name in CONCATENATIONS:
            return lineage.is_part and len(output) > 0 and output[0] < self._images
        cut = name in SLICES and len(source) == len(output) > 0 and source[0] == self._images > output[0]
        return lineage.is_part or cut

    def _parts_of(self, activation: Tensor) -> _Joined | None:
        found: _Joined | None = self._joined.get(activation)  # type: ignore[no-untyped-call]
        return found

    def _partial_sum(self, activation: Tensor) -> _PartialSum | None:
        found: _PartialSum | None = self._partial.get(activation)  # type: ignore[no-untyped-call]
        return found

    def _summand(self, activation: Tensor) -> _Summand:
        return _Summand(activation, self.lineage(activation))

    def _fused_summands(self, tensors: list[Tensor]) -> tuple[_Summand, _Summand] | None:
        """Those of addcmul. A gain per channel belongs to the branch, a scalar does not."""
        first, *product = tensors[:3]
        gain = next((factor for factor in product if self._is_scalar(factor)), None)
        known = [lineage for factor in product if (lineage := self.lineage(factor))]
        if not known:
            return None
        second = product[0] * product[1] if gain is None else product[0 if gain is product[1] else 1]
        return self._summand(first), _Summand(second, max(known, key=lambda lineage: lineage.depth))

    def _remember_parts(self, name: str, values: tuple[Any, ...], output: Tensor) -> None:
        """Keeps which parts a joined activation has, and takes sums of parts of a batch for one addition."""
        if name not in CONCATENATIONS | STACKS:
            return
        parts = tensors_in(values)
        dim = next((value for value in values[1:] if isinstance(value, int)), 0) % output.ndim
        sizes = tuple(part.shape[dim] for part in parts) if name in CONCATENATIONS else None
        self._joined[output] = _Joined(dim, sizes, tuple(map(self.lineage, parts)))
        sums = [found for part in parts if (found := self._partial_sum(part)) is not None]
        if sums and len(sums) == len(parts) and output.ndim in RANKS:
            self.unjoined -= len(sums)
            self._report_joined(sums, output)

    def _parts(self, name: str, values: tuple[Any, ...], outputs: list[Tensor]) -> dict[int, Lineage]:
        """The lineages of the `outputs` of a function that takes a joined activation apart as it was put together."""
        tensors = tensors_in(values)
        joined = self._parts_of(tensors[0]) if name in SPLITS and tensors else None
        if joined is None or len(outputs) != len(joined.lineages):
            return {}
        if joined.sizes is not None and tuple(tensor.shape[joined.dim] for tensor in outputs) != joined.sizes:
            return {}
        return {id(tensor): lineage for tensor, lineage in zip(outputs, joined.lineages, strict=True) if lineage}

    def _report(self, operands: _Operands, total: Tensor) -> None:
        lineage = self.lineage(total)
        assert lineage is not None
        if operands.branch_part is not None:
            moments = channel_moments(total, lineage.channel_dim)
            self._partial[total] = _PartialSum(operands.branch_part, operands.factor, moments, operands.shortcut)
            return
        statistics = channel_statistics(total, lineage.channel_dim) if self._measure_sums else None
        found = ResidualAddition(
            operands.branch_var, operands.factor, statistics, total.shape, lineage, operands.shortcut
        )
        self._found(found)

    def _report_joined(self, sums: list[_PartialSum], total: Tensor) -> None:
        lineage = replace(self._lineages[total], channels=sums[0].shortcut.channels)
        self._lineages[total] = lineage
        branch_var = merged([part.branch for part in sums]).average()
        moments = merged([part.total for part in sums])
        statistics = ChannelStatistics(moments.mean.square().mean(), moments.average()) if self._measure_sums else None
        factor, shortcut = sums[0].factor, sums[0].shortcut
        self._found(ResidualAddition(branch_var, factor, statistics, total.shape, lineage, shortcut))

    def _scaled(self, name: str, values: tuple[Any, ...]) -> Lineage | None:
        """The lineage of a product of an activation and a scalar; None for any other function."""
        if not (name in PRODUCTS or name in QUOTIENTS) or len(values) != 2:
            return None
        activation, scalar = values
        if name in PRODUCTS and self._is_scalar(activation):
            activation, scalar = scalar, activation
        if not isinstance(activation, Tensor) or activation.ndim not in RANKS or not self._is_scalar(scalar):
            return None
        lineage = self.lineage(activation)
        if lineage is None or not activation.is_floating_point():
            return lineage
        value = float(scalar) if name in PRODUCTS else 1.0 / (float(scalar) or float("nan"))
        scaled = replace(lineage, factor=lineage.factor * value)
        if lineage.unscaled_var is not None:
            return scaled
        if _DIVISIBLE[0] <= abs(lineage.scale * value) <= _DIVISIBLE[1]:
            return replace(scaled, scale=lineage.scale * value)
        return replace(scaled, unscaled_var=lineage.branch_var(activation))

    def _is_scalar(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return value.numel() == 1 and self.lineage(value) is None
        return isinstance(value, int | float)

    def _next(self, name: str, lineage: Lineage) -> Lineage:
        """The lineage behind a function that is fed with one of `lineage`."""
        weighted = name in CONVOLUTIONS or name in LINEAR
        layer = lineage.layer
        if weighted or name in RESAMPLING:
            self.layers += 1
            layer = self.layers
        return replace(lineage, weighted=lineage.weighted + weighted, functions=lineage.functions + 1, layer=layer)


def _without_scalars(lineage: Lineage) -> Lineage:
    return replace(lineage, scale=1.0, unscaled_var=None, factor=1.0)
