"""The moments of a signal at every position of an image: zero padding affects the border first.

At each position p, a signal has a second moment Q(p) and a mean m(p) over channels, and for each pair of positions, in
different images or far apart in one, a covariance C(p, p'). Q and m are tracked at every position, exactly in the
infinite-width limit for white noise. C is tracked for pairs of rows, averaged over all columns of both. Rows and
columns are alike. When a convolution needs C at single positions, its part beyond m m' is approximated by a product of
one factor for the rows and one for the columns.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PaddingRule = Literal["same", "torch"]

# A larger image is like one of this size with a larger middle, which does not see the border.
_LARGE = 128


@dataclass(frozen=True)
class Image:
    """The square that maps lie on, of `pixels` x `pixels`. None: infinite, so that all positions are equivalent."""

    pixels: int | None = None

    @property
    def size(self) -> int:
        """The number of rows of a map. A large image is reduced by most of its middle, with the parity kept."""
        if self.pixels is None:
            return 1
        return self.pixels if self.pixels <= _LARGE else _LARGE + self.pixels % 2

    @property
    def weights(self) -> Array:
        """The share of all rows that each row of a map represents."""
        size, pixels = self.size, self.pixels or 1
        weights = np.ones(size)
        weights[size // 2] += pixels - size
        return weights / pixels


@dataclass(frozen=True)
class Window:
    """The pixels that a kernel sees: `kernel_size` x `kernel_size`, every `stride` pixels."""

    kernel_size: int = 1
    stride: int = 1
    padding: PaddingRule = "same"

    @property
    def sees_itself(self) -> bool:
        """Whether each position sees itself alone."""
        return self.kernel_size == self.stride == 1

    def before(self, pixels: int) -> int:
        """Zeros before the first of `pixels`: in XLA's SAME rule the odd one is after, torch's is symmetric."""
        if self.padding == "torch":
            return self.kernel_size // 2
        return max((-(-pixels // self.stride) - 1) * self.stride + self.kernel_size - pixels, 0) // 2

    def image(self, image: Image) -> Image:
        """The output image for the input `image`."""
        return Image(None if image.pixels is None else -(-image.pixels // self.stride))


POINT = Window()


@dataclass(frozen=True)
class MomentMaps:
    """Moments of a signal on an image."""

    image: Image
    mean: Array  # [row, column]: m
    second_moment: Array  # [row, column]: Q
    covariance: Array  # [row, row']: C, not centred, averaged over columns and columns'

    @property
    def squared_mean(self) -> float:
        """The squared mean of a channel, averaged over channels: C averaged over all pairs of positions."""
        return max(self.average(self.covariance), 0.0)

    @property
    def variance(self) -> float:
        """The variance of a channel over positions and images, including changes by position common to all images."""
        return max(self.average(self.second_moment) - self.squared_mean, 0.0)

    def average(self, values: Array) -> float:
        weights = self.image.weights
        return float(weights @ values @ weights)

    def of_rows(self, values: Array) -> Array:
        """The average of each row of `values`."""
        return values @ self.image.weights

    def scaled(self, factor: float) -> "MomentMaps":
        """The moments of `factor` times the signal."""
        return replace(
            self,
            mean=factor * self.mean,
            second_moment=factor**2 * self.second_moment,
            covariance=factor**2 * self.covariance,
        )

    def plus(self, other: "MomentMaps", factor: float) -> "MomentMaps":
        """The moments of the sum of the signal and `factor` times an independent signal of mean 0."""
        return replace(
            self,
            second_moment=self.second_moment + factor**2 * other.second_moment,
            covariance=self.covariance + factor**2 * other.covariance,
        )

    def standardized(self) -> "MomentMaps":
        """The moments of the signal with each channel brought to mean 0 and variance 1 (BatchNorm)."""
        squared_mean, mean = self.squared_mean, self.average(self.mean)
        with_rows = self.of_rows(self.covariance)
        # Beyond m m', the average covariance of a position with all others is proportional to its deviation.
        deviation = np.sqrt(np.maximum(self.second_moment - self.mean**2, 0.0))
        share = deviation / (self.average(deviation) or 1.0)
        with_positions = mean * self.mean + (squared_mean - mean**2) * share
        centred = replace(
            self,
            mean=self.mean - mean,
            second_moment=np.maximum(self.second_moment - 2.0 * with_positions + squared_mean, 0.0),
            covariance=self.covariance - with_rows[:, None] - with_rows + squared_mean,
        )
        return centred.scaled(1.0 / math.sqrt(self.variance or 1.0))


def white_noise(image: Image) -> MomentMaps:
    """The moments of N(0, 1) noise, independent at each position."""
    zero = np.zeros((image.size, image.size))
    return MomentMaps(image, zero, np.ones_like(zero), zero)


def same_mean(image: Image, mean: Array, second_moment: Array) -> MomentMaps:
    """The moments of a signal whose channels share one mean; distant positions have nothing else in common."""
    rows = mean @ image.weights
    return MomentMaps(image, mean, second_moment, np.outer(rows, rows))


def _at_positions(g: MomentMaps) -> Array:
    """C at each position for different images: m^2 plus a product of one factor for its row and one for its column."""
    rows = g.of_rows(g.mean)
    beyond_means = np.diagonal(g.covariance) - rows**2
    average = float(beyond_means @ g.image.weights)
    product = np.outer(beyond_means, beyond_means) / average if average > 0.0 else 0.0
    return np.clip(g.mean**2 + product, 0.0, g.second_moment)


def convolved(g: MomentMaps, window: Window, scale: float, centred: bool) -> MomentMaps:
    """The moments after a convolution with weights of mean 0 and variance `scale` / fan-in, by filter `centred` or not.

    With sums over those of the K taps that lie on pixels: Q' = s (sum Q / K - [sum m / K]^2) and
    C'(p, p') = s (sum C / K - [sum m / K] [sum m' / K]); the terms in brackets apply to centred weights only.
    """
    image = window.image(g.image)
    out = replace(white_noise(image), second_moment=averaged(g.second_moment, g.image, window))
    out = replace(out, covariance=_averaged_covariance(g, window))
    if centred:
        seen = averaged(g.mean, g.image, window)
        rows = out.of_rows(seen)
        out = replace(
            out,
            second_moment=np.maximum(out.second_moment - seen**2, 0.0),
            covariance=out.covariance - np.outer(rows, rows),
        )
    with np.errstate(over="ignore"):  # refused when it is activated
        return out.scaled(math.sqrt(scale))


def _averaged_covariance(g: MomentMaps, window: Window) -> Array:
    """The sum C / K for pairs of rows: exactly for m m', and by factors for rows and for columns for the rest."""
    out, rows = window.image(g.image), g.of_rows(g.mean)
    rest = g.covariance - np.outer(rows, rows)
    averaged = _averaged_pairs(rest, g.image, window)
    before = g.average(rest)
    of_columns = float(out.weights @ averaged @ out.weights) / before if before > 0.0 else 1.0
    # For each column of the kernel: the mean that it sees of each row, averaged over positions.
    seen = g.mean @ _shares(g.image, window)
    return min(max(of_columns, 0.0), 1.0) * averaged + _averaged_pairs(
        seen @ seen.T / window.kernel_size, g.image, window
    )


def averaged(values: Array, image: Image, window: Window) -> Array:
    """The sum of `values` [row, column] over the window, divided by K."""
    if window.sees_itself:
        return values
    rows = _row_averages(image, window)
    return rows @ values @ rows.T


def _averaged_pairs(values: Array, image: Image, window: Window) -> Array:
    """The sum of `values` [row, row'] over kernel rows on pixels for both, divided by the number of kernel rows."""
    if window.sees_itself:
        return values
    padded = np.pad(values, (0, 1))
    seen = np.stack([padded[np.ix_(rows, rows)] for rows in _taps(image, window)])
    averages: Array = seen.sum(0) / window.kernel_size
    return averages


@cache
def _taps(image: Image, window: Window) -> NDArray[np.int64]:
    """The rows of a map that the window sees, [kernel row, output row]; the map's size for rows outside it."""
    out, taps = window.image(image).size, np.arange(window.kernel_size)
    if image.pixels is None:
        return np.zeros((len(taps), 1), dtype=np.int64)
    rows = np.arange(-(-image.size // window.stride))
    # After a stride, less of a large image's middle is left out: its row is repeated.
    rows = np.insert(rows, len(rows) // 2, np.full(out - len(rows), len(rows) // 2))
    seen = rows * window.stride - window.before(image.pixels) + taps[:, None]
    return np.where((seen >= 0) & (seen < image.size), seen, image.size)


@cache
def _row_averages(image: Image, window: Window) -> Array:
    """The share of the kernel's rows that lie on a row, [output row, row]."""
    hits = _taps(image, window)[:, :, None] == np.arange(image.size)
    return hits.sum(0) / window.kernel_size  # type: ignore[no-any-return]


@cache
def _shares(image: Image, window: Window) -> Array:
    """The share of positions at which a row of the kernel lies on a row, [row, kernel row]."""
    hits = _taps(image, window)[:, :, None] == np.arange(image.size)
    shares: Array = np.einsum("tor,o->rt", hits, window.image(image).weights)
    return shares


def average_pooled(g: MomentMaps) -> MomentMaps:
    """The moments of the mean of 2x2 pixels, fewer at an odd border. Neighbours are treated like distant pixels."""
    window = Window(2, 2, "same")
    out = window.image(g.image)
    rows = _row_averages(g.image, window).sum(1)
    count = np.outer(rows, rows)  # as a share of the four
    mean = averaged(g.mean, g.image, window) / count
    second_moment = averaged(g.second_moment, g.image, window) / count
    averages = _row_averages(g.image, window) / rows[:, None]
    covariance = averages @ g.covariance @ averages.T
    # C at one position, for different images.
    own = averaged(_at_positions(g), g.image, window) / count
    return MomentMaps(out, mean, own + (second_moment - own) / (4.0 * count), covariance)
