"""Theoretical curves of a signal propagation plot (paper section 3), for white noise N(0, 1) as input.

A signal is described by its average squared channel mean M and its average channel variance V. In the infinite-width
limit, the output of every convolution is Gaussian, with second moment q = M + V. M is the covariance of a channel's
values at two distant positions or for two images. Expectations over such pairs follow their own recurrence (a
mean-field theory); for white noise, all pairs of different positions are alike, even close ones. A convolution whose
weights have variance s / fan-in maps an input g of mean m, second moment Q and covariance C to q' = s Q and M' = s C;
with standardized weights, which ignore a mean shared by all channels, to q' = s (Q - m^2) and M' = s (C - m^2).

Zero padding makes positions near the border unlike others: `moment_maps` tracks q, m and M by position.

The values are expectations over initial weights. A network of finite width scatters around them, more so with fewer
normalizations or standardized weights: average a few seeds. M over n images and pixels is also at least V / n.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from nfrepro.errors import InputError
from nfrepro.signal.gain import moments
from nfrepro.signal.gaussian_maps import (
    Activation,
    Array,
    correlation_map,
    gaussian_moments,
    interpolated,
    local_moments,
    maximum_moments,
)
from nfrepro.signal.moment_maps import (
    POINT,
    Image,
    MomentMaps,
    Window,
    average_pooled,
    averaged,
    convolved,
    same_mean,
    white_noise,
)

if TYPE_CHECKING:
    import pandas as pd

Normalization = Literal["none", "batch_before_activation", "batch_after_activation", "group_before_activation"]


THREE_BY_THREE = Window(3, 2)


@dataclass(frozen=True)
class Convolution:
    """A convolution at initialisation: bias 0, independent weights of mean 0."""

    scale: float = 1.0  # s: fan-in times the mean square of a weight; 1 for scaled WS and LeCun, 2 for He
    standardized: bool = False  # the weights of each output channel have mean 0 (Weight Standardization)
    window: Window = POINT


@dataclass(frozen=True)
class SqueezeExcite:
    """Gates gain * sigmoid(...) on the output channels of convolution `after` of the branch, counted from 0."""

    after: int
    gain: float


@dataclass(frozen=True)
class Stem:
    """Convolutions with activations between them and, if `activated`, after the last; then a 3x3 max pool, if any."""

    convolutions: tuple[Convolution, ...]
    max_pool: bool = False
    activated: bool = False
    pool: Window = THREE_BY_THREE


@dataclass(frozen=True)
class BlockDescription:
    """x -> shortcut + alpha * skip_gain * f(x / beta)."""

    stage: int  # from 1
    transition: bool  # first block of its stage
    branch: tuple[Convolution, ...]  # f: each preceded by normalization, if any, and activation
    shortcut: Convolution | None = None  # None: x itself
    shortcut_pools: bool = False  # a 2x2 average pool before the convolution of the shortcut
    alpha: float = 1.0
    beta: float = 1.0  # divides the activated signal (the authors' code)
    input_beta: float = 1.0  # divides the signal before the activation (the paper's formula)
    skip_gain: float = 1.0  # SkipInit's scalar
    squeeze_excite: SqueezeExcite | None = None


@dataclass(frozen=True)
class NetworkDescription:
    """All that determines a residual network's signal propagation at initialisation, in the infinite-width limit."""

    activation: Activation
    stem: Stem
    blocks: tuple[BlockDescription, ...]
    gamma: float = 1.0  # gain of the activation, wherever it acts
    normalization: Normalization = "none"
    shortcut_input: Literal["activated", "raw"] = "activated"  # the input of a shortcut's convolution
    # Whether the activation follows the sum (version 1) instead of preceding the branch; for branches of 0 (FixUp).
    post_activation: bool = False
    pixels: int | None = None  # height and width of a square image; None: infinite, so that no padding is seen

    def with_skip_gain(self, skip_gain: float) -> "NetworkDescription":
        """The same network with all SkipInit scalars at `skip_gain`: signal propagation plots are drawn at 1."""
        return replace(self, blocks=tuple(replace(block, skip_gain=skip_gain) for block in self.blocks))


def predict(description: NetworkDescription) -> "pd.DataFrame":
    """The three curves: one row per block with block, stage, transition, avg_sq_mean, avg_var, res_var.

    avg_sq_mean and avg_var are those of the block's output; res_var is that of its residual branch before alpha and
    SkipInit's scalar. Raises `InputError` for an activation that is not elementwise, numbers out of range, and signals
    beyond float64.
    """
    import pandas as pd

    _check(description)
    rows = [
        {
            "block": number,
            "stage": block.stage,
            "transition": block.transition,
            "avg_sq_mean": output.squared_mean,
            "avg_var": output.variance,
            "res_var": residual.variance,
        }
        for number, (block, output, residual) in enumerate(_propagate(description), start=1)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Signal:
    """The signal function(z) or, after a max pool, function(max of several z), for Gaussian z with these moments."""

    maps: MomentMaps
    function: Activation | None = None
    pooled: Array | None = None  # [row, column]: number of z that the pool takes the maximum of

    def moments(self, activation: Activation) -> MomentMaps:
        """The moments of `activation`(signal)."""
        g = activation if self.function is None else _composed(activation, self.function)
        if self.pooled is not None:
            return same_mean(self.maps.image, *_pooled_moments(g, self.maps.second_moment, self.pooled))
        return _gaussian_moments(g, self.maps)

    def own_moments(self) -> MomentMaps:
        """The moments of the signal itself."""
        return self.maps if self.function is None and self.pooled is None else self.moments(_identity)

    def divided(self, beta: float) -> "_Signal":
        """The signal divided by `beta`. Raises `InputError` if the signal is already activated."""
        if beta == 1.0:
            return self
        if self.function is not None:
            raise InputError("a beta before the activation of an activated signal is not predicted")
        return replace(self, maps=self.maps.scaled(1.0 / beta))

    def activated(self, activation: Activation) -> "_Signal":
        return replace(self, function=activation if self.function is None else _composed(activation, self.function))


def _gaussian_moments(g: Activation, z: MomentMaps) -> MomentMaps:
    """The moments of g(z).

    The covariance of two rows follows from their average correlation rho, by E g(z) g(z') = m m' + S S' x(rho), with
    the standard deviation S of g(z) at each position and x computed for the average second moment.
    """
    if not (z.second_moment < math.inf).all():
        raise InputError("the signal has grown beyond float64")
    mean, deviation = local_moments(g, z.second_moment)
    of_z = z.of_rows(np.sqrt(z.second_moment))
    product = np.outer(of_z, of_z)
    rho = np.clip(np.divide(z.covariance, product, out=np.zeros_like(product), where=product > 0.0), -1.0, 1.0)
    rows, deviations = z.of_rows(mean), z.of_rows(deviation)
    shared = np.outer(deviations, deviations) * correlation_map(g, z.average(z.second_moment), rho)
    return MomentMaps(z.image, mean, mean**2 + deviation**2, np.outer(rows, rows) + shared)


def _pooled_moments(g: Activation, second_moment: Array, counts: Array) -> tuple[Array, Array]:
    """Mean and second moment of g(max of `counts` Gaussians)."""
    mean, deviation = np.zeros_like(counts), np.zeros_like(counts)
    for count in np.unique(counts):
        there = counts == count
        moments_of = partial(maximum_moments, g, count=int(count))
        mean[there], deviation[there] = interpolated(moments_of, second_moment[there])
    return mean, mean**2 + deviation**2


def _propagate(description: NetworkDescription) -> Iterator[tuple[BlockDescription, MomentMaps, MomentMaps]]:
    """Each block with the moments of its output and of its residual branch."""
    signal = _stem_output(description)
    for number, block in enumerate(description.blocks, start=1):
        entering = signal.divided(block.input_beta)
        activated = signal.own_moments() if description.post_activation else _activated(description, entering)
        activated = activated.scaled(1.0 / block.beta)
        residual = _residual_branch(description, block, activated)
        shortcut = _shortcut(description, block, signal, activated)
        if residual.image != shortcut.image:
            raise InputError(f"block {number} has a branch and a shortcut of different size")
        total = _Signal(shortcut.plus(residual, block.alpha * block.skip_gain))
        if description.post_activation:
            # Without a projection the sum is x itself, since the branch is 0: still a function of a Gaussian.
            total = (signal if block.shortcut is None else total).activated(description.activation)
        signal = total
        yield block, signal.own_moments(), residual


def _stem_output(description: NetworkDescription) -> _Signal:
    stem, g = description.stem, description.activation
    signal = _convolved(stem.convolutions[0], white_noise(Image(description.pixels)))
    for convolution in stem.convolutions[1:]:
        signal = _convolved(convolution, signal.moments(g).scaled(description.gamma))
    # Pooling an activated signal is activating the pooled one, since activations such as ReLU are monotonic.
    return replace(_max_pooled(stem.pool, signal) if stem.max_pool else signal, function=g if stem.activated else None)


def _max_pooled(window: Window, signal: _Signal) -> _Signal:
    """The maximum over `window`, assuming the average second moment in it at all of its positions."""
    share = averaged(np.ones_like(signal.maps.second_moment), signal.maps.image, window)
    second_moment = averaged(signal.maps.second_moment, signal.maps.image, window) / share
    maps = replace(white_noise(window.image(signal.maps.image)), second_moment=second_moment)
    return _Signal(maps, pooled=np.rint(window.kernel_size**2 * share))


def _activated(description: NetworkDescription, signal: _Signal) -> MomentMaps:
    """The input of the next convolution: `signal` normalized, activated and times gamma, in the network's order."""
    if description.normalization == "batch_after_activation":
        return signal.moments(description.activation).standardized()
    normalized = _NORMALIZED[description.normalization](signal)
    return normalized.moments(description.activation).scaled(description.gamma)


def _residual_branch(description: NetworkDescription, block: BlockDescription, activated: MomentMaps) -> MomentMaps:
    for index, convolution in enumerate(block.branch):
        signal = _convolved(convolution, activated)
        if block.squeeze_excite is not None and block.squeeze_excite.after == index:
            signal = _gated(block.squeeze_excite, signal)
        if index + 1 < len(block.branch):
            activated = _activated(description, signal)
    return signal.own_moments()


def _shortcut(
    description: NetworkDescription, block: BlockDescription, signal: _Signal, activated: MomentMaps
) -> MomentMaps:
    if block.shortcut is None:
        return signal.own_moments()
    seen = signal.own_moments() if description.shortcut_input == "raw" else activated
    if block.shortcut_pools:
        seen = average_pooled(seen)
    return _convolved(block.shortcut, seen).own_moments()


def _convolved(convolution: Convolution, g: MomentMaps) -> _Signal:
    """The Gaussian output of a convolution whose input has the moments `g`."""
    return _Signal(convolved(g, convolution.window, convolution.scale, convolution.standardized))


def _gated(squeeze_excite: SqueezeExcite, signal: _Signal) -> _Signal:
    """`signal` times its gates gain * sigmoid(u), with u ~ N(0, M / 2) shared by all images.

    The hidden layer sees the channel means, and its ReLU halves their mean square.
    """
    gates = gaussian_moments(torch.sigmoid, 0.5 * signal.maps.squared_mean, 0.0)
    return _Signal(signal.maps.scaled(squeeze_excite.gain * math.sqrt(gates.second_moment)))


def _batch_normalized(signal: _Signal) -> _Signal:
    if signal.pooled is not None:
        return _centred(signal)
    return _Signal(signal.maps.standardized())


def _group_normalized(signal: _Signal) -> _Signal:
    """`signal` after GroupNorm, which subtracts only the mean that all channels of a group share."""
    if signal.pooled is not None:
        return _centred(signal)
    return _Signal(signal.maps.scaled(1.0 / math.sqrt(signal.maps.average(signal.maps.second_moment) or 1.0)))


def _centred(signal: _Signal) -> _Signal:
    """`signal`, which has the same mean in all channels, normalized to mean 0 and variance 1."""
    own = signal.own_moments()
    mean, deviation = own.average(own.mean), math.sqrt(own.variance)
    return signal.activated(lambda x: (x - mean) / deviation)


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
    """Raise `InputError` for networks that the recurrence does not apply to."""
    moments(description.activation)  # refuses functions that are not elementwise
    if not description.stem.convolutions:
        raise InputError("a stem needs at least one convolution")
    for number, block in enumerate(description.blocks, start=1):
        if not block.branch:
            raise InputError(f"block {number} has no convolution in its branch")
        for beta in (block.beta, block.input_beta):
            if not beta > 0.0:
                raise InputError(f"block {number} has beta {beta:g}: it must be positive")
        if description.post_activation and block.shortcut is None and block.branch[-1].scale * block.skip_gain != 0.0:
            raise InputError(f"block {number}: a branch that adds to an activated signal is not covered by the theory")
    convolutions = [c for block in description.blocks for c in (*block.branch, *filter(None, [block.shortcut]))]
    if any(not c.scale >= 0.0 for c in (*description.stem.convolutions, *convolutions)):
        raise InputError("the scale of a convolution must not be negative")
