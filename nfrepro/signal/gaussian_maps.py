"""Moments of activations of Gaussian signals: expectations by Hermite series, in float64.

With z1, z2 Gaussian of second moment q and covariance M = rho q, and g(sqrt(q) z) = sum_n c_n He_n(z) / sqrt(n!): E
g(z1) = c_0, E g(z1)^2 = sum_n c_n^2 and E g(z1) g(z2) = sum_n c_n^2 rho^n (the dual activation, arXiv 1602.05897). For
functions such as ReLU, with two slopes that meet at 0, this is the arc-cosine kernel, in closed form.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nfrepro.errors import InputError

Activation = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]

# Maximum number of terms. With the rest estimated, the error of a kink is below 1e-6 of the second moment.
_TERMS = 512
# c_n^2 of a kink falls as n^-2.5, so the mean order of all omitted terms is three times the order of the last one.
_ORDER_OF_REST = 3
# Beyond 14 standard deviations the Gaussian weighs less than 1e-43.
_REACH = 14.0
_INTERVALS, _NODES = 224, 12  # an eighth of a deviation each: kinks at 0 lie on edges
_KNOTS = 9  # number of points between which moments are interpolated
_WIDTH = 2.0 * _REACH / _INTERVALS
_PARTS = 32  # number of parts of an interval with a kink inside
_LEGENDRE_NODES, _LEGENDRE_WEIGHTS = np.polynomial.legendre.leggauss(_NODES)
# Maps the values at the nodes to their Legendre coefficients of the two highest orders.
_LAST_COEFFICIENTS = torch.from_numpy(
    _LEGENDRE_WEIGHTS[:, None] * np.polynomial.legendre.legvander(_LEGENDRE_NODES, _NODES - 1)[:, -2:]
)


@dataclass(frozen=True)
class JointMoments:
    """The moments of g(z1) and g(z2), for two inputs or distant positions: mean, covariance and remaining variance."""

    mean: float  # E g(z1)
    covariance: float  # E g(z1) g(z2), not centred
    variance: float  # E g(z1)^2 - E g(z1) g(z2)

    @property
    def second_moment(self) -> float:
        """E g(z1)^2."""
        return self.covariance + self.variance


def gaussian_moments(activation: Activation, second_moment: float, covariance: float) -> JointMoments:
    """Moments of `activation(z)` for Gaussian z of mean 0, `second_moment` q and `covariance` M, 0 <= M <= q.

    Raises `InputError` if M is outside this range or g is not finite.
    """
    if not 0.0 <= covariance <= second_moment < math.inf:
        raise InputError(f"no Gaussian has second moment {second_moment:g} and covariance {covariance:g}")
    slopes = _two_slopes(activation)
    if slopes is None:
        return _by_series(activation, second_moment, covariance)
    return _by_arc_cosines(*slopes, second_moment, covariance)


def local_moments(activation: Activation, second_moment: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of `activation(z)` for each of `second_moment`.

    Interpolated between a few standard deviations of z, in which both are linear for functions such as ReLU.
    """
    slopes = _two_slopes(activation)
    if slopes is None:
        return interpolated(lambda q: gaussian_moments(activation, q, 0.0), second_moment)
    return interpolated(lambda q: _by_arc_cosines(*slopes, q, 0.0), second_moment)


def interpolated(moments_of: Callable[[float], JointMoments], second_moment: Array) -> tuple[Array, Array]:
    """Mean and standard deviation by `moments_of` at each `second_moment`, interpolated linearly in its square root."""
    deviations = np.sqrt(second_moment)
    least, most = float(deviations.min()), float(deviations.max())
    knots = np.linspace(least, most, _KNOTS) if most > least * (1.0 + 1e-12) else np.array([least])
    moments = [moments_of(float(knot**2)) for knot in knots]
    means = np.interp(deviations, knots, [m.mean for m in moments])
    return means, np.interp(deviations, knots, [max(m.second_moment - m.mean**2, 0.0) ** 0.5 for m in moments])


def correlation_map(activation: Activation, second_moment: float, correlation: Array) -> Array:
    """Correlation of g(z1) with g(z2) for each `correlation` (-1 to 1) of z1 with z2, both of `second_moment`."""
    slopes = _two_slopes(activation)
    if slopes is not None:
        return _correlation_by_arc_cosines(*slopes, correlation)
    least, most = float(correlation.min()), float(correlation.max())
    knots = np.linspace(least, most, 4 * _KNOTS) if most > least else np.array([least])
    coefficients, rest = _spectrum(activation, second_moment, _terms(float(np.abs(knots).max())))
    varying, orders = coefficients[1:] ** 2, np.arange(1, len(coefficients))
    shared = knots[:, None] ** orders @ varying + rest * np.abs(knots) ** (_ORDER_OF_REST * len(coefficients))
    total = float(varying.sum()) + rest
    correlations: Array = np.interp(correlation, knots, shared / (total or 1.0))
    return correlations


def _by_series(activation: Activation, second_moment: float, covariance: float) -> JointMoments:
    rho = covariance / second_moment if second_moment else 0.0
    terms = _terms(rho)
    coefficients, rest = _spectrum(activation, second_moment, terms)
    squares = coefficients**2
    powers = rho ** np.arange(terms)
    of_rest = rho ** (_ORDER_OF_REST * terms)
    shared = float(squares @ powers) + rest * of_rest
    alone = float(squares @ (1.0 - powers)) + rest * (1.0 - of_rest)
    return JointMoments(float(coefficients[0]), shared, alone)


def _spectrum(activation: Activation, second_moment: float, terms: int) -> tuple[Array, float]:
    """The first `terms` c_n, and the sum of all other c_n^2."""
    samples = _samples(activation, math.sqrt(second_moment), terms)
    coefficients: Array = torch.stack([grid.polynomials[:terms] @ values for grid, values in samples]).sum(0).numpy()
    total = sum(float(grid.weights @ values.square()) for grid, values in samples)
    # For a smooth function, rounding may make the rest negative.
    return coefficients, max(total - float(np.square(coefficients).sum()), 0.0)


def _by_arc_cosines(left: float, right: float, second_moment: float, covariance: float) -> JointMoments:
    """The joint moments of a function with slope `left` below 0 and `right` above it."""
    rho = min(covariance / second_moment, 1.0) if second_moment else 0.0
    mean = (right - left) * math.sqrt(second_moment / (2.0 * math.pi))
    same, opposite = float(_arc_cosine_kernel(rho)), float(_arc_cosine_kernel(-rho))
    shared = second_moment * ((left**2 + right**2) * same - 2.0 * left * right * opposite)
    alone = second_moment * ((left**2 + right**2) * (0.5 - same) + 2.0 * left * right * opposite)
    return JointMoments(mean, shared, max(alone, 0.0))


def _correlation_by_arc_cosines(left: float, right: float, correlation: Array) -> Array:
    at_zero = _arc_cosine_kernel(0.0)
    same, opposite = _arc_cosine_kernel(correlation) - at_zero, _arc_cosine_kernel(-correlation) - at_zero
    total = (left**2 + right**2) * (0.5 - at_zero) + 2.0 * left * right * at_zero
    return ((left**2 + right**2) * same - 2.0 * left * right * opposite) / (total or 1.0)


def _arc_cosine_kernel(rho: float | Array) -> Array:
    """E relu(z1) relu(z2) for unit Gaussians of correlation `rho` (Cho and Saul, NIPS 2009, order 1)."""
    kernel: Array = (np.sqrt(1.0 - np.square(rho)) + rho * (math.pi - np.arccos(rho))) / (2.0 * math.pi)
    return kernel


def _two_slopes(activation: Activation) -> tuple[float, float] | None:
    """The slopes below and above 0 of a function that is linear on both sides; None for any other."""
    z = _standard_grid().z
    values = _evaluate(activation, z)
    left, right = float(values[0] / z[0]), float(values[-1] / z[-1])
    straight = torch.where(z > 0.0, right, left)
    for scale in (2.0**-30, 1.0, 2.0**30):
        if not torch.allclose(_evaluate(activation, scale * z), scale * straight * z, rtol=1e-13, atol=0.0):
            return None
    return left, right


def maximum_moments(activation: Activation, second_moment: float, count: int) -> JointMoments:
    """Moments of `activation(max(z_1, ..., z_count))` for independent Gaussians of mean 0 and `second_moment`.

    Two such maxima, at distant positions, are independent: all channels have the same mean.
    """
    samples = [
        (count * grid.weights * torch.special.ndtr(grid.z) ** (count - 1), values)
        for grid, values in _samples(activation, math.sqrt(second_moment), terms=1)
    ]
    mean = sum(float(weights @ values) for weights, values in samples)
    total = sum(float(weights @ values.square()) for weights, values in samples)
    return JointMoments(mean, mean**2, max(total - mean**2, 0.0))


def _terms(rho: float) -> int:
    """The number of terms of the series until rho^n is negligible: 1 for uncorrelated signals."""
    if rho == 0.0:
        return 1
    return _TERMS if rho > 0.9 else min(_TERMS, 1 + math.ceil(-40.0 / math.log(rho)))


@dataclass(frozen=True)
class _Grid:
    """Nodes, their weights under N(0, 1), and the orthonormal Hermite polynomials times these weights, [n, z]."""

    z: Tensor
    weights: Tensor
    polynomials: Tensor


def _samples(activation: Activation, deviation: float, terms: int) -> list[tuple[_Grid, Tensor]]:
    """Grids and the values of g(deviation z) on them, with a finer grid where the standard one does not resolve g."""
    standard = _standard_grid()
    values = _evaluate(activation, deviation * standard.z).view(_INTERVALS, _NODES)
    # The last Legendre coefficients of an interval are negligible against its values unless g has a kink in it.
    power = float(standard.weights @ values.flatten().square())
    lost = (values @ _LAST_COEFFICIENTS).abs().amax(1) > 1e-10 * (values.abs().amax(1) + math.sqrt(power))
    if not lost.any():
        return [(standard, values.flatten())]
    left = _edges()[:-1][lost.numpy()]
    fine = _grid(left[:, None] + np.arange(_PARTS) / _PARTS * _WIDTH, _WIDTH / _PARTS, terms)
    return [
        (standard, values.masked_fill(lost[:, None], 0.0).flatten()),
        (fine, _evaluate(activation, deviation * fine.z)),
    ]


@torch.no_grad()
def _evaluate(activation: Activation, z: Tensor) -> Tensor:
    values = activation(z.clone()).double()  # a clone, since some work in place
    if not values.isfinite().all():
        raise InputError(f"activation {activation} is not finite between {z[0]:g} and {z[-1]:g}")
    return values


@cache
def _standard_grid() -> _Grid:
    return _grid(_edges()[:-1], _WIDTH, _TERMS)


def _edges() -> NDArray[np.float64]:
    return np.linspace(-_REACH, _REACH, _INTERVALS + 1)


def _grid(left: NDArray[np.float64], width: float, terms: int) -> _Grid:
    """Gauss-Legendre nodes of intervals of equal `width` that begin at `left`."""
    z = (left.reshape(-1, 1) + width * (0.5 + 0.5 * _LEGENDRE_NODES)).ravel()
    weights = np.tile(0.5 * width * _LEGENDRE_WEIGHTS, left.size) * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    polynomials = np.ones((max(terms, 2), len(z)))
    polynomials[1] = z
    for n in range(1, terms - 1):
        polynomials[n + 1] = (z * polynomials[n] - math.sqrt(n) * polynomials[n - 1]) / math.sqrt(n + 1)
    return _Grid(torch.from_numpy(z), torch.from_numpy(weights), torch.from_numpy(polynomials * weights))
