"""The curves of a signal propagation plot (paper section 3) as the theory has them, for white noise N(0, 1) as input.

A signal is described by its average squared channel mean M and its average channel variance V. In the limit of width
every signal that a convolution has made is Gaussian, of second moment q = M + V, and M is the covariance of what one
channel has at two distant positions or for two images: expectations over such pairs follow a recurrence of their own
(a mean-field theory), and white noise makes all pairs of different positions alike, near ones too. A convolution of
weights with variance s / fan-in takes an input g of mean m, second moment Q and covariance C to q' = s Q and M' = s C;
with standardized weights, which see no mean that all channels share, to q' = s (Q - m^2) and M' = s (C - m^2).

The values are expectations over initial weights. A network of finite width scatters about them, the more so the fewer
normalizations or standardized weights it has: average a few seeds. M of so many images and pixels is also at least
V / their number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from nfrepro.errors import InputError
from nfrepro.signal.gain import moments
from nfrepro.signal.gaussian_maps import Activation, JointMoments, gaussian_moments, maximum_moments

if TYPE_CHECKING:
    import pandas as pd

Normalization = Literal["none", "batch_before_activation", "batch_after_activation", "group_before_activation"]

POOLED_PIXELS = 9  # that a 3x3 max pool chooses from


@dataclass(frozen=True)
class Padding:
    """How much of a kernel lies on pixels and not on zero padding. 1 everywhere: an image without end.

    With n_p of the K taps of position p on pixels, and tap t on pixels at a share f_t of all positions:
    """

    taps: float = 1.0  # mean of n_p / K, which is the mean of f_t
    squared_taps: float = 1.0  # mean of (n_p / K)^2
    squared_shares: float = 1.0  # mean of f_t^2


@dataclass(frozen=True)
class Convolution:
    """A convolution at initialisation: bias 0, independent weights of mean 0."""

    scale: float = 1.0  # s: fan-in times the mean square of a weight; 1 for scaled WS and LeCun, 2 for He
    standardized: bool = False  # the weights of each output channel have mean 0 (Weight Standardization)
    padding: Padding = Padding()


@dataclass(frozen=True)
class SqueezeExcite:
    """Gates gain * sigmoid(...) on the channels that convolution `after` of the branch, from 0, has made."""

    after: int
    gain: float


@dataclass(frozen=True)
class Stem:
    """Convolutions with activations between them and, if it is `activated`, behind; then a 3x3 max pool, if any."""

    convolutions: tuple[Convolution, ...]
    max_pool: bool = False
    activated: bool = False


@dataclass(frozen=True)
class BlockDescription:
    """x -> shortcut + alpha * skip_gain * f(x / beta)."""

    stage: int  # from 1
    transition: bool  # first block of its stage
    branch: tuple[Convolution, ...]  # f: before each of them normalization, if any, and activation
    shortcut: Convolution | None = None  # None: x itself
    shortcut_pools: bool = False  # a 2x2 average pool before the convolution of the shortcut
    alpha: float = 1.0
    beta: float = 1.0  # divides the activated signal (the authors' code)
    skip_gain: float = 1.0  # SkipInit's scalar
    squeeze_excite: SqueezeExcite | None = None


@dataclass(frozen=True)
class NetworkDescription:
    """All of a residual network that its signal propagation at initialisation depends on, in the limit of width."""

    activation: Activation
    stem: Stem
    blocks: tuple[BlockDescription, ...]
    gamma: float = 1.0  # gain of the activation, wherever it acts
    normalization: Normalization = "none"
    shortcut_input: Literal["activated", "raw"] = "activated"  # what the convolution of a shortcut sees
    # The activation stands behind the sum (version 1) and not before the branch. For branches that are 0 (FixUp).
    post_activation: bool = False

    def with_skip_gain(self, skip_gain: float) -> "NetworkDescription":
        """The same network with all SkipInit scalars at `skip_gain`: signal propagation plots are drawn at 1."""
        return replace(self, blocks=tuple(replace(block, skip_gain=skip_gain) for block in self.blocks))


def predict(description: NetworkDescription) -> "pd.DataFrame":
    """The three curves: a row per block with block, stage, transition, avg_sq_mean, avg_var, res_var.

    The first two are of the block's output, res_var is of its residual branch before alpha and SkipInit's scalar.
    Raises `InputError` for an activation that is not elementwise, numbers out of range, and signals beyond float64.
    """
    import pandas as pd

    _check(description)
    rows = [
        {
            "block": number,
            "stage": block.stage,
            "transition": block.transition,
            "avg_sq_mean": output.covariance,
            "avg_var": output.variance,
            "res_var": residual.variance,
        }
        for number, (block, output, residual) in enumerate(_propagate(description), start=1)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Signal:
    """function(z) or, behind a max pool, function(max of nine z): z Gaussian with these M and V."""

    squared_mean: float
    variance: float
    function: Activation | None = None
    pooled: bool = False

    def moments(self, activation: Activation) -> JointMoments:
        """Of `activation` of the signal."""
        g = activation if self.function is None else _composed(activation, self.function)
        second_moment = self.squared_mean + self.variance
        if self.pooled:
            return maximum_moments(g, second_moment, POOLED_PIXELS)
        return gaussian_moments(g, second_moment, self.squared_mean)

    def own_moments(self) -> JointMoments:
        """Of the signal itself."""
        if self.function is None and not self.pooled:
            return JointMoments(0.0, self.squared_mean, self.variance)
        return self.moments(_identity)

    def activated(self, activation: Activation) -> "_Signal":
        return replace(self, function=activation if self.function is None else _composed(activation, self.function))


def _propagate(description: NetworkDescription) -> Iterator[tuple[BlockDescription, JointMoments, JointMoments]]:
    """Each block with the moments of its output and of its residual branch."""
    signal = _stem_output(description)
    for block in description.blocks:
        activated = signal.own_moments() if description.post_activation else _activated(description, signal)
        activated = _scaled(activated, 1.0 / block.beta)
        residual = _residual_branch(description, block, activated)
        shortcut = _shortcut(description, block, signal, activated)
        factor = (block.alpha * block.skip_gain) ** 2
        total = _Signal(
            shortcut.covariance + factor * residual.covariance, shortcut.variance + factor * residual.variance
        )
        if description.post_activation:
            # Without a projection the sum is x itself, since the branch is 0: still a function of a Gaussian.
            total = (signal if block.shortcut is None else total).activated(description.activation)
        signal = total
        yield block, signal.own_moments(), residual


def _stem_output(description: NetworkDescription) -> _Signal:
    stem, g = description.stem, description.activation
    image = JointMoments(mean=0.0, covariance=0.0, variance=1.0)
    signal = _convolved(stem.convolutions[0], image)
    for convolution in stem.convolutions[1:]:
        signal = _convolved(convolution, _scaled(signal.moments(g), description.gamma))
    # The pool of an activated signal is the activated pool: activations such as ReLU grow monotonically.
    return replace(signal, function=g if stem.activated else None, pooled=stem.max_pool)


def _activated(description: NetworkDescription, signal: _Signal) -> JointMoments:
    """What the next convolution sees of `signal`: normalized, activated, times gamma."""
    if description.normalization == "batch_after_activation":
        return JointMoments(mean=0.0, covariance=0.0, variance=1.0)
    normalized = _NORMALIZED[description.normalization](signal)
    return _scaled(normalized.moments(description.activation), description.gamma)


def _residual_branch(description: NetworkDescription, block: BlockDescription, activated: JointMoments) -> JointMoments:
    for index, convolution in enumerate(block.branch):
        signal = _convolved(convolution, activated)
        if block.squeeze_excite is not None and block.squeeze_excite.after == index:
            signal = _gated(block.squeeze_excite, signal)
        if index + 1 < len(block.branch):
            activated = _activated(description, signal)
    return signal.own_moments()


def _shortcut(
    description: NetworkDescription, block: BlockDescription, signal: _Signal, activated: JointMoments
) -> JointMoments:
    if block.shortcut is None:
        return signal.own_moments()
    seen = signal.own_moments() if description.shortcut_input == "raw" else activated
    if block.shortcut_pools:
        # Of the 16 pairs among 4 pixels, 4 are of a pixel with itself.
        seen = replace(seen, variance=seen.variance / 4)
    return _convolved(block.shortcut, seen).own_moments()


def _convolved(convolution: Convolution, g: JointMoments) -> _Signal:
    """The Gaussian signal that a convolution makes of an input with the moments `g`."""
    padding, shared = convolution.padding, g.mean**2 if convolution.standardized else 0.0
    # With white noise C is at least m^2, but for rounding.
    squared_mean = max(g.covariance * padding.squared_shares - shared * padding.taps**2, 0.0)
    second_moment_less_mean = g.variance * padding.taps + (
        g.covariance * (padding.taps - padding.squared_shares) - shared * (padding.squared_taps - padding.taps**2)
    )
    return _Signal(convolution.scale * squared_mean, convolution.scale * max(second_moment_less_mean, 0.0))


def _gated(squeeze_excite: SqueezeExcite, signal: _Signal) -> _Signal:
    """`signal` times its gates gain * sigmoid(u): the hidden layer sees the channel means, and its ReLU halves their
    mean square, so that u is N(0, M / 2), one for all images."""
    gates = gaussian_moments(torch.sigmoid, 0.5 * signal.squared_mean, 0.0)
    factor = squeeze_excite.gain**2 * gates.second_moment
    return _Signal(factor * signal.squared_mean, factor * signal.variance)


def _scaled(g: JointMoments, factor: float) -> JointMoments:
    return JointMoments(factor * g.mean, factor**2 * g.covariance, factor**2 * g.variance)


def _batch_normalized(signal: _Signal) -> _Signal:
    if signal.pooled:
        return _centred(signal)
    return _Signal(0.0, 1.0 if signal.variance else 0.0)


def _group_normalized(signal: _Signal) -> _Signal:
    """A group has one mean, that of all its channels: it takes out only what they share."""
    if signal.pooled:
        return _centred(signal)
    second_moment = signal.squared_mean + signal.variance or 1.0
    return _Signal(signal.squared_mean / second_moment, signal.variance / second_moment)


def _centred(signal: _Signal) -> _Signal:
    """A signal with the same mean in all channels, brought to mean 0 and variance 1."""
    own = signal.own_moments()
    return signal.activated(lambda x: (x - own.mean) / own.variance**0.5)


_NORMALIZED: dict[Normalization, Callable[[_Signal], _Signal]] = {
    "none": lambda signal: signal,
    "batch_before_activation": _batch_normalized,
    "group_before_activation": _group_normalized,
}


def _identity(x: Tensor) -> Tensor:
    return x


def _composed(outer: Activation, inner: Activation) -> Activation:
    return lambda x: outer(inner(x))


def _check(description: NetworkDescription) -> None:
    """Raises `InputError` for what the recurrence has no meaning for."""
    moments(description.activation)  # refuses what is not elementwise
    if not description.stem.convolutions:
        raise InputError("a stem needs at least one convolution")
    for number, block in enumerate(description.blocks, start=1):
        if not block.branch:
            raise InputError(f"block {number} has no convolution in its branch")
        if not block.beta > 0.0:
            raise InputError(f"block {number} has beta {block.beta:g}: it must be positive")
        if description.post_activation and block.shortcut is None and block.branch[-1].scale * block.skip_gain != 0.0:
            raise InputError(f"block {number}: a branch that adds to an activated signal leaves it without a theory")
    convolutions = [c for block in description.blocks for c in (*block.branch, *filter(None, [block.shortcut]))]
    if any(not c.scale >= 0.0 for c in (*description.stem.convolutions, *convolutions)):
        raise InputError("the scale of a convolution must not be negative")
