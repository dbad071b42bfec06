"""Exponential and power-law decays of one number with another, fitted by least squares of the logarithm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nfrepro.errors import InputError

Law = Literal["exponential", "power"]

# Two parameters are fitted, and the remaining points have to tell the laws apart.
LEAST_POINTS = 4


@dataclass(frozen=True)
class Decay:
    """y = scale * rate^x (exponential) or y = scale * x^(-rate) (power)."""

    law: Law
    rate: float  # the factor for each unit of x, or the exponent
    scale: float
    r_squared: float  # of log y
    points: int

    def at(self, x: float) -> float:
        """The fitted y."""
        return float(self.scale * (self.rate**x if self.law == "exponential" else x**-self.rate))


def fit_decay(x: Sequence[float], y: Sequence[float], law: Law, least: float = 0.0) -> Decay:
    """Fit a straight line to log y against x (exponential) or log x (power).

    From the smallest x whose y is at most `least` or NaN, noise hides the decay: the rest is left out. Raises
    `InputError` if fewer than four different x are left, all y are equal, or a power law has x of 0 or below.
    """
    hidden = min((a for a, b in zip(x, y, strict=True) if not b > least), default=math.inf)
    kept = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if a < hidden]
    if (different := len({a for a, _ in kept})) < LEAST_POINTS:
        until = f"{different} of {len(x)} come before one that is not above {least:g}"
        raise InputError(f"a decay needs {LEAST_POINTS} depths or more, and {until}")
    at, logarithm = np.array([a for a, _ in kept]), np.log([b for _, b in kept])
    if law == "power" and at.min() <= 0:
        raise InputError(f"no power law through x = {at.min():g}: it needs x above 0")
    total = float(np.square(logarithm - logarithm.mean()).sum())
    if total == 0:
        raise InputError("no decay: all values are equal")
    slope, intercept = np.polyfit(at if law == "exponential" else np.log(at), logarithm, 1)
    line = slope * (at if law == "exponential" else np.log(at)) + intercept
    r_squared = 1.0 - float(np.square(logarithm - line).sum()) / total
    rate = float(np.exp(slope) if law == "exponential" else -slope)
    return Decay(law, rate, float(np.exp(intercept)), r_squared, len(kept))
