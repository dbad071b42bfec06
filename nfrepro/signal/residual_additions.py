"""Finds the residual additions, shortcut + branch, of any network while it runs."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from nfrepro.signal.channel_statistics import ChannelStatistics, channel_statistics

# Functions by name, however they are called: as an operator, a method, a function or an aten operator.
_ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
_FUSED_ADDITIONS = {"addcmul", "addcmul_"}
_PRODUCTS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "multiply_"}
_QUOTIENTS = {"div", "div_", "__truediv__", "__itruediv__", "divide", "divide_", "true_divide", "true_divide_"}
_CONVOLUTIONS = {
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "convolution",
}
_LINEAR = {"linear", "bilinear", "addmm", "matmul", "__matmul__", "mm", "bmm", "einsum", "scaled_dot_product_attention"}
_RESAMPLING = {"avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d", "interpolate"}
# What hands on the same numbers: behind one of these a scaled branch is a scaled branch still.
_COPIES = {"contiguous", "to", "type", "type_as", "float", "double", "half", "bfloat16", "clone", "detach", "dropout"}
# Scalars that a variance is divided by afterwards. Others, 0 above all, are looked through by measuring before them.
_DIVISIBLE = (1 / 16, 16.0)


@dataclass(frozen=True)
class Lineage:
    """How an activation has come from the network's input, along the path with the most weighted layers."""

    weighted: int = 0  # convolutions and linear layers on that path
    functions: int = 0  # of any kind
    layer: int = 0  # number of the call of the last convolution, linear layer or resampling; 0: the input itself
    channel_dim: int = 1
    # Scalars multiplied onto it since it was computed: their product, or the variance from before them.
    scale: float = 1.0
    unscaled_var: Tensor | None = None

    @property
    def depth(self) -> tuple[int, int]:
        return self.weighted, self.functions

    def branch_var(self, activation: Tensor) -> Tensor:
        """The average channel variance of the `activation` of this lineage, before scalars."""
        if self.unscaled_var is not None:
            return self.unscaled_var
        return channel_statistics(activation, self.channel_dim).avg_var / self.scale**2


@dataclass(frozen=True)
class ResidualAddition:
    """One addition of a residual branch to its shortcut."""

    branch_var: Tensor  # average channel variance of the branch, before scalars
    total: ChannelStatistics | None  # of the sum
    shape: torch.Size  # of the sum
    lineage: Lineage  # of the sum
    shortcut: Lineage

    def is_within_branch_of(self, later: "ResidualAddition") -> bool:
        """Whether it adds parts of the branch of a `later` addition in the same forward, as Res2Net does."""
        return later.shape != self.shape and later.shortcut.weighted < self.lineage.weighted


@dataclass(frozen=True)
class _Operands:
    """What is known of an addition before it takes place."""

    branch_var: Tensor
    shortcut: Lineage


class ResidualAdditions(TorchFunctionMode):
    """While active, calls `found` for each residual addition of activations that come from `x`, right after it.

    A residual addition is one of two 4-D floating activations of equal shape between which lies at least one layer: a
    convolution, linear layer or resampling. The branch is the one that has passed more weighted layers or, if equally
    many, more functions; at a complete tie there is none. No activation is kept: statistics are taken on the spot.
    """

    def __init__(self, x: Tensor, found: Callable[[ResidualAddition], None], measure_sums: bool = True) -> None:
        super().__init__()
        self.layers = 0  # calls so far
        self.other_ranks: Counter[int] = Counter()  # dimensions of what would be residual additions if there were four
        self._found, self._measure_sums = found, measure_sums
        self._lineages = WeakTensorKeyDictionary()
        self._lineages[x] = self._latest = Lineage()
        self._images = len(x)

    def lineage(self, tensor: Tensor) -> Lineage | None:
        """None for what does not come from the input, such as parameters."""
        found: Lineage | None = self._lineages.get(tensor)  # type: ignore[no-untyped-call]
        return found

    def take_up(self, inputs: Iterable[Any]) -> None:
        """Takes activations among `inputs` that nobody has seen made, say by a scripted module, for the next layer."""
        for tensor in _tensors(inputs):
            if tensor.ndim == 4 and len(tensor) == self._images and self.lineage(tensor) is None:
                self._lineages[tensor] = self._next("linear", replace(self._latest, scale=1.0, unscaled_var=None))

    def take_over(self, outputs: Iterable[Any], inputs: Iterable[Any], layer: bool) -> None:
        """Where nothing has been seen of how `outputs` come from `inputs`: takes them for one function of these."""
        known = [lineage for tensor in _tensors(inputs) if (lineage := self.lineage(tensor)) is not None]
        unknown = [tensor for tensor in _tensors(outputs) if self.lineage(tensor) is None]
        if known and unknown:
            deepest = max(known, key=lambda lineage: lineage.depth)
            lineage = self._next("linear" if layer else "", replace(deepest, scale=1.0, unscaled_var=None))
            for tensor in unknown:
                self._lineages[tensor] = lineage

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        values = (*args, *kwargs.values())
        sources = [(lineage, tensor) for tensor in _tensors(values) if (lineage := self.lineage(tensor)) is not None]
        if not sources:
            return func(*args, **kwargs)
        # All questions about operands come before the call: it may work in place.
        name = getattr(func, "__name__", "").split(".")[0]  # of an aten operator: add.Tensor
        lineage, source = max(sources, key=lambda pair: pair[0].depth)
        shape = source.shape
        operands = self._operands(name, values)
        scaled = self._scaled(name, values)
        result = func(*args, **kwargs)
        outputs = [tensor for tensor in _tensors((result,)) if tensor.is_floating_point()]
        if not outputs:
            return result
        if scaled is None:
            scaled = lineage if name in _COPIES else replace(lineage, scale=1.0, unscaled_var=None)
        self._latest = lineage = self._next(name, scaled)
        for tensor in outputs:
            channel_dim = _channel_dim(name, values, lineage.channel_dim, shape, tensor.shape)
            self._lineages[tensor] = replace(lineage, channel_dim=channel_dim)
        if operands is not None:
            self._report(operands, outputs[0])
        return result

    def _operands(self, name: str, values: tuple[Any, ...]) -> _Operands | None:
        """What is added, where it is a residual addition; None where it is not."""
        tensors = _tensors(values)
        if name in _FUSED_ADDITIONS and len(tensors) >= 3:
            product = tensors[1], tensors[2]
            gain = next((factor for factor in product if self._is_scalar(factor)), None)
            known = [lineage for factor in product if (lineage := self.lineage(factor))]
            if not known:
                return None
            # A gain per channel belongs to the branch, a scalar does not.
            second = product[0] * product[1] if gain is None else product[0 if gain is product[1] else 1]
            right: Lineage | None = max(known, key=lambda lineage: lineage.depth)
        elif name in _ADDITIONS and len(tensors) >= 2:
            second = tensors[1]
            right = self.lineage(second)
        else:
            return None
        first, left = tensors[0], self.lineage(tensors[0])
        if left is None or right is None or left.layer == right.layer or left.depth == right.depth:
            return None
        if first.shape != second.shape or not (first.is_floating_point() and second.is_floating_point()):
            return None
        if first.ndim != 4:
            self.other_ranks[first.ndim] += 1
            return None
        if left.depth > right.depth:
            return _Operands(left.branch_var(first), right)
        return _Operands(right.branch_var(second), left)

    def _report(self, operands: _Operands, total: Tensor) -> None:
        lineage = self.lineage(total)
        assert lineage is not None
        statistics = channel_statistics(total, lineage.channel_dim) if self._measure_sums else None
        self._found(ResidualAddition(operands.branch_var, statistics, total.shape, lineage, operands.shortcut))

    def _scaled(self, name: str, values: tuple[Any, ...]) -> Lineage | None:
        """The lineage of a product of an activation and a scalar; None for any other function."""
        if not (name in _PRODUCTS or name in _QUOTIENTS) or len(values) != 2:
            return None
        activation, scalar = values
        if name in _PRODUCTS and self._is_scalar(activation):
            activation, scalar = scalar, activation
        if not isinstance(activation, Tensor) or activation.ndim != 4 or not self._is_scalar(scalar):
            return None
        lineage = self.lineage(activation)
        if lineage is None or not activation.is_floating_point() or lineage.unscaled_var is not None:
            return lineage
        scale = lineage.scale * float(scalar) if name in _PRODUCTS else lineage.scale / (float(scalar) or float("nan"))
        if _DIVISIBLE[0] <= abs(scale) <= _DIVISIBLE[1]:
            return replace(lineage, scale=scale)
        return replace(lineage, unscaled_var=lineage.branch_var(activation))

    def _is_scalar(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return value.numel() == 1 and self.lineage(value) is None
        return isinstance(value, int | float)

    def _next(self, name: str, lineage: Lineage) -> Lineage:
        """The lineage behind a function that is fed with one of `lineage`."""
        weighted = name in _CONVOLUTIONS or name in _LINEAR
        layer = lineage.layer
        if weighted or name in _RESAMPLING:
            self.layers += 1
            layer = self.layers
        return replace(lineage, weighted=lineage.weighted + weighted, functions=lineage.functions + 1, layer=layer)


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    """Those among `values`, and within lists and tuples among them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _channel_dim(name: str, values: tuple[Any, ...], before: int, source: torch.Size, output: torch.Size) -> int:
    """Where the channels are in an output, if in the source they are at `before`."""
    if name in _CONVOLUTIONS:
        return 1
    if name in _LINEAR:
        return len(output) - 1
    dims = [value for item in values[1:] for value in (item if isinstance(item, list | tuple) else [item])]
    dims = [dim % len(source) for dim in dims if isinstance(dim, int) and not isinstance(dim, bool)] if source else []
    if name == "permute" and before in dims:
        return int(dims.index(before))
    if name in {"transpose", "swapaxes", "transpose_"} and len(dims) == 2 and before in dims:
        return int(dims[1 - dims.index(before)])
    if len(output) == len(source):
        return before
    kept_last = len(output) > 0 and before == len(source) - 1 and output[-1] == source[-1]
    return len(output) - 1 if kept_last else 1
