"""Finds the residual additions, shortcut + branch, of any network while it runs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nfrepro.signal.channel_axis import ChannelAxis, Layout, axis_behind
from nfrepro.signal.channel_statistics import (
    ChannelMoments,
    ChannelStatistics,
    channel_moments,
    channel_statistics,
    merged,
)
from nfrepro.signal.lineage import FROM_ELSEWHERE, JoinedParts, Lineage, Strangers, have_a_layer_between
from nfrepro.signal.torch_functions import (
    ADDITIONS,
    CONCATENATIONS,
    CONVOLUTIONS,
    COPIES,
    FUSED_ADDITIONS,
    HIDDEN_ADDITIONS,
    INTERPOLATIONS,
    LIKE,
    LINEAR,
    MATRIX_PRODUCTS,
    PRODUCTS,
    QUOTIENTS,
    RANKS,
    RESAMPLING,
    REVERSED_SUBTRACTIONS,
    SLICES,
    SOFTMAX,
    STACKS,
    SUBTRACTIONS,
    SUMS,
    reduced_dims,
    scalar_of_second,
    tensors_in,
)

# Range of scalars that are divided out of a variance measured after them. For all others, above all 0, the variance is
# measured before them.
_DIVISIBLE = (1 / 16, 16.0)


@dataclass(frozen=True)
class ResidualAddition:
    """One addition of a residual branch to its shortcut."""

    branch_var: Tensor  # average channel variance of the branch, before scalars
    factor: float  # the product of these scalars
    total: ChannelStatistics | None  # of the sum
    shape: torch.Size  # of the sum
    lineage: Lineage  # of the sum
    shortcut: Lineage
    number: int

    def is_within_branch_of(self, later: "ResidualAddition") -> bool:
        """Whether this adds parts of the branch of a `later` addition in the same forward, as Res2Net does."""
        return later.shape != self.shape and later.shortcut.weighted < self.lineage.weighted


@dataclass(frozen=True)
class _Summand:
    """One of the two activations that a function adds."""

    activation: Tensor
    lineage: Lineage | None  # None if it does not come from the input


@dataclass(frozen=True)
class _Operands:
    """A residual addition before it takes place."""

    branch_var: Tensor
    factor: float
    shortcut: Lineage
    branch_part: ChannelMoments | None  # if the activations are parts of a batch
    number: int = 0


@dataclass(frozen=True)
class _PartialSum:
    """The residual addition of a part of a batch, which counts once all parts have been joined."""

    operands: _Operands
    branch: ChannelMoments
    total: ChannelMoments


class ResidualAdditions(TorchFunctionMode):
    """While active, calls `found` right after each residual addition of activations that come from `x`.

    A residual addition has two floating-point summands of equal shape, sequences [N, T, C] or maps [N, C, H, W], with
    at least one layer between them: a convolution, linear layer, attention or resampling. Differences, interpolations
    and sums over a stack are additions, too. The branch is the summand that has passed more weighted layers or, if
    equally many, more functions; a complete tie is no residual addition. Sums of parts of a batch are one addition once
    they are joined. No activation is kept: statistics are computed immediately.
    """

    def __init__(self, x: Tensor, found: Callable[[ResidualAddition], None], measure_sums: bool = True) -> None:
        super().__init__()
        self.layers = 0  # calls of layers so far
        self.of_attention: set[int] = set()  # numbers of additions that turned out to be of attention weights
        self._of_stream: set[int] = set()
        self.unmeasured: dict[int, str] = {}  # number -> what keeps an addition from being measured
        self.of_vectors = 0  # additions of vectors [N, C], which are not measured
        self._count = 0  # residual additions so far
        self._found, self._measure_sums = found, measure_sums
        self._lineages = WeakTensorKeyDictionary()
        self._lineages[x] = self._latest = Lineage(channels=ChannelAxis(1 if x.ndim == 4 else x.ndim - 1))
        self.strangers, self._joined = Strangers(), JoinedParts()
        self._partial = WeakTensorKeyDictionary()  # activation -> _PartialSum
        self._images = len(x)
        self.unjoined = 0  # sums of parts of a batch that were never joined

    def lineage(self, tensor: Tensor) -> Lineage | None:
        """The lineage of `tensor`; None if it does not come from the input, as for parameters."""
        found: Lineage | None = self._lineages.get(tensor)  # type: ignore[no-untyped-call]
        return found

    def take_up(self, inputs: Iterable[Any]) -> None:
        """Treat activations in `inputs` of unseen origin, say a scripted module, as outputs of the next layer."""
        for tensor in tensors_in(inputs):
            if self._is_unseen(tensor) and tensor.ndim in RANKS and len(tensor) == self._images:
                self._lineages[tensor] = self._next("linear", self._latest.without_scalars())

    def take_over(self, outputs: Iterable[Any], inputs: Iterable[Any], layer: bool) -> None:
        """Treat `outputs` of unseen origin as made by one function of `inputs`, the arguments of the same call."""
        known = [lineage for tensor in tensors_in(inputs) if (lineage := self.lineage(tensor)) is not None]
        unknown = list(filter(self._is_unseen, tensors_in(outputs)))
        if known and unknown:
            deepest = max(known, key=lambda lineage: lineage.depth)
            lineage = self._next("linear" if layer else "", deepest.without_scalars())
            for tensor in unknown:
                self._lineages[tensor] = lineage

    def look_for_unseen(self, outputs: Iterable[Any], module: str) -> None:
        """Note an unseen function at the end of `module`, after layers, since it may be an addition."""
        if any(tensor.ndim in RANKS for tensor in tensors_in(outputs) if self._is_unseen(tensor)):
            made = f"perhaps made at the end of {module} by a function that cannot be seen, of torch.jit or torch.vmap"
            self.unmeasured[self._numbered()] = made

    def _is_unseen(self, tensor: Tensor) -> bool:
        """Whether the origin of `tensor` is unknown."""
        return self.lineage(tensor) is None and tensor not in self.strangers

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        values = (*args, *kwargs.values())
        name = getattr(func, "__name__", "").split(".")[0]  # an aten operator is named like add.Tensor
        made_from = [] if name in LIKE else tensors_in(values)
        sources = [(lineage, tensor) for tensor in made_from if (lineage := self.lineage(tensor)) is not None]
        if not sources:
            result = func(*args, **kwargs)
            self.strangers.meet(tensors_in((result,)), made_from)
            return result
        # Operands are examined before the call, which may work in place.
        lineage, source = max(sources, key=lambda pair: pair[0].depth)
        layout = Layout.of(source)
        before = self._count
        operands = self._operands(name, values)
        self._look_for_hidden(name, values)
        additions = self._open_additions(name, [found for found, _ in sources])
        scaled = self._scaled(name, values)
        result = func(*args, **kwargs)
        outputs = [tensor for tensor in tensors_in((result,)) if tensor.is_floating_point()]
        if not outputs:
            return result
        if scaled is None:
            scaled = lineage if name in COPIES else lineage.without_scalars()
        strangers = self.strangers.among(tensors_in(values)) | _united(found.strangers for found, _ in sources)
        if operands is not None:
            operands = replace(operands, number=self._numbered())
        is_product = any(found.is_product and not found.additions & self._of_stream for found, _ in sources)
        scaled = replace(scaled, strangers=strangers, additions=additions, is_product=is_product)
        lineage = self._next(name, scaled)
        if operands is not None:
            lineage = replace(lineage, channels=operands.shortcut.channels)
        new = frozenset(range(before + 1, self._count + 1)) if is_product else frozenset()
        self._latest = lineage = replace(lineage, additions=lineage.additions | new)
        parts = self._joined.taken_apart(name, values, outputs)
        for tensor in outputs:
            channels = lineage.channels if operands else axis_behind(name, lineage.channels, layout, tensor)
            is_part = self._is_part(name, lineage, layout.shape, tensor.shape)
            found = parts.get(id(tensor)) or replace(lineage, channels=channels)
            self._lineages[tensor] = replace(found, is_part=is_part)
        self._remember_parts(name, values, outputs[0])
        if operands is not None:
            self._report(operands, outputs[0])
        return result

    def _open_additions(self, name: str, sources: Sequence[Lineage]) -> frozenset[int]:
        """The additions with no layer between them and the `sources`, except those known to be of the stream.

        An addition to a matrix product is one of the residual stream if a layer reads it, and one of attention weights
        if softmax reads it first.
        """
        found = _united(source.additions for source in sources) - self._of_stream
        if name in SOFTMAX:
            self.of_attention |= found
        elif name in CONVOLUTIONS | LINEAR | RESAMPLING:
            self._of_stream |= found
        return found

    def _operands(self, name: str, values: tuple[Any, ...]) -> _Operands | None:
        """The summands of a residual addition; None for anything else."""
        summands = self._summands(name, values)
        if summands is None:
            return None
        first, second = summands
        left, right = self._lineage_as_summand(first, second), self._lineage_as_summand(second, first)
        if left is None or right is None or not have_a_layer_between(left, right):
            return None
        one, other = first.activation, second.activation
        if one.shape != other.shape or not (one.is_floating_point() and other.is_floating_point()):
            return None
        if one.ndim not in RANKS:
            self._leave_out(one)
            return None
        if left.depth > right.depth and name in SUBTRACTIONS | REVERSED_SUBTRACTIONS:
            return None  # branch - shortcut, as in a token mixer pool(x) - x: it does not continue the stream
        branch, branch_lineage, shortcut = (one, left, right) if left.depth > right.depth else (other, right, left)
        # A branch that mixes tokens ends in another view of its channels: the shortcut tells where they are.
        dim = shortcut.channel_dim
        factor = branch_lineage.factor * (scalar_of_second(name, values) if branch is other else 1.0)
        if branch_lineage.is_part and shortcut.is_part:
            self.unjoined += 1
            part = channel_moments(branch, dim).divided_by(branch_lineage.scale)
            return _Operands(part.average(), factor, shortcut, part)
        return _Operands(branch_lineage.branch_var(branch, dim), factor, shortcut, None)

    def _summands(self, name: str, values: tuple[Any, ...]) -> tuple[_Summand, _Summand] | None:
        """The two activations that a function adds, in its order; None for any other function."""
        tensors = tensors_in(values)
        if name in FUSED_ADDITIONS and len(tensors) >= 3:
            return self._fused_summands(tensors)
        if name in ADDITIONS | SUBTRACTIONS | INTERPOLATIONS and len(tensors) >= 2:
            return self._summand(tensors[0]), self._summand(tensors[1])
        if name in REVERSED_SUBTRACTIONS and len(tensors) >= 2:
            return self._summand(tensors[1]), self._summand(tensors[0])
        return self._stacked_summands(tensors[0], values) if name in SUMS and tensors else None

    def _stacked_summands(self, stack: Tensor, values: tuple[Any, ...]) -> tuple[_Summand, _Summand] | None:
        """The summands of a sum over a `stack`: all parts but the last, added one by one, and the last part."""
        joined = self._joined.of(stack)
        if (
            joined is None
            or joined.sizes is not None
            or joined.weighed
            or reduced_dims(values, stack.ndim) != [joined.dim]
        ):
            return None
        total, *others = stack.unbind(joined.dim)
        for tensor, lineage in zip((total, *others), joined.lineages, strict=True):
            if lineage is not None:
                self._lineages[tensor] = lineage
        for other in others[:-1]:
            total = self.__torch_function__(torch.add, (), (total, other))
        return (self._summand(total), self._summand(others[-1])) if others else None

    def _look_for_hidden(self, name: str, values: tuple[Any, ...]) -> None:
        """Note an addition within a function that hides its summands."""
        tensors = tensors_in(values)
        first, *others = map(self.lineage, tensors)
        # A branch has passed more layers than its shortcut; outputs of experts, added one after the other, have not.
        deeper = [other for other in others if first and other and other.weighted > first.weighted]
        if name in HIDDEN_ADDITIONS and any(have_a_layer_between(first, other) for other in deeper):
            self.unmeasured[self._numbered()] = f"made by {name}()"
        stack = self._joined.stack_among(tensors)
        if stack is None:
            return
        sums_up = name in SUMS and stack.dim in reduced_dims(values, tensors[0].ndim)
        if name in LINEAR or (sums_up and (stack.weighed or (name == "mean" and len(stack.lineages) > 2))):
            self.unmeasured[self._numbered()] = f"a weighed sum over a stack, made by {name}()"

    def _leave_out(self, activation: Tensor) -> None:
        """Note a residual addition that is not measured; an addition of one vector per image is not a block."""
        if activation.ndim == 2 and len(activation) == self._images:
            self.of_vectors += 1
        else:
            self.unmeasured[self._numbered()] = f"of {activation.ndim}-D activations"

    def _numbered(self) -> int:
        self._count += 1
        return self._count

    def _lineage_as_summand(self, summand: _Summand, other: _Summand) -> Lineage | None:
        """The lineage of a summand; a class token counts as a shortcut that does not come from the input."""
        if summand.lineage is not None or other.lineage is None:
            return summand.lineage
        if not self.strangers.is_shortcut(summand.activation, other.lineage.strangers):
            return None
        return replace(FROM_ELSEWHERE, channels=other.lineage.channels)

    def _is_part(self, name: str, lineage: Lineage, source: torch.Size, output: torch.Size) -> bool:
        """Whether an output holds only some images of the batch."""
        if name in CONCATENATIONS:
            return lineage.is_part and len(output) > 0 and output[0] < self._images
        cut = name in SLICES and len(source) == len(output) > 0 and source[0] == self._images > output[0]
        return lineage.is_part or cut

    def _partial_sum(self, activation: Tensor) -> _PartialSum | None:
        found: _PartialSum | None = self._partial.get(activation)  # type: ignore[no-untyped-call]
        return found

    def _summand(self, activation: Tensor) -> _Summand:
        return _Summand(activation, self.lineage(activation))

    def _fused_summands(self, tensors: list[Tensor]) -> tuple[_Summand, _Summand] | None:
        """The summands of addcmul. A per-channel gain belongs to the branch, a scalar does not."""
        first, *product = tensors[:3]
        gain = next((factor for factor in product if self._is_scalar(factor)), None)
        known = [lineage for factor in product if (lineage := self.lineage(factor))]
        if not known:
            return None
        second = product[0] * product[1] if gain is None else product[0 if gain is product[1] else 1]
        return self._summand(first), _Summand(second, max(known, key=lambda lineage: lineage.depth))

    def _remember_parts(self, name: str, values: tuple[Any, ...], output: Tensor) -> None:
        """Note the parts of a joined activation, and report sums of parts of a batch as one addition."""
        if name not in CONCATENATIONS | STACKS:
            self._joined.follow(name, values, output)
            return
        parts = tensors_in(values)
        self._joined.join(name, values, output, map(self.lineage, parts))
        sums = [found for part in parts if (found := self._partial_sum(part)) is not None]
        if sums and len(sums) == len(parts) and output.ndim in RANKS:
            self.unjoined -= len(sums)
            self._report_joined(sums, output)

    def _report(self, operands: _Operands, total: Tensor) -> None:
        channel_dim = self._lineages[total].channel_dim
        if operands.branch_part is not None:
            self._partial[total] = _PartialSum(operands, operands.branch_part, channel_moments(total, channel_dim))
            return
        statistics = channel_statistics(total, channel_dim) if self._measure_sums else None
        self._announce(operands, operands.branch_var, statistics, total)

    def _report_joined(self, sums: list[_PartialSum], total: Tensor) -> None:
        operands = sums[0].operands
        self._lineages[total] = replace(self._lineages[total], channels=operands.shortcut.channels)
        moments = merged([part.total for part in sums])
        statistics = ChannelStatistics(moments.mean.square().mean(), moments.average()) if self._measure_sums else None
        self._announce(operands, merged([part.branch for part in sums]).average(), statistics, total)

    def _announce(
        self, operands: _Operands, branch_var: Tensor, statistics: ChannelStatistics | None, total: Tensor
    ) -> None:
        factor, shortcut, lineage = operands.factor, operands.shortcut, self._lineages[total]
        self._found(ResidualAddition(branch_var, factor, statistics, total.shape, lineage, shortcut, operands.number))

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
        """The lineage of the output of a function whose input has `lineage`."""
        weighted = name in CONVOLUTIONS or name in LINEAR
        behind = replace(lineage, weighted=lineage.weighted + weighted, functions=lineage.functions + 1)
        if not (weighted or name in RESAMPLING):
            return behind
        self.layers += 1
        return replace(behind, layer=self.layers, additions=frozenset(), is_product=name in MATRIX_PRODUCTS)


def _united(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)
