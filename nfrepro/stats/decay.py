"""How a number falls with another: exponentially or by a power, by least squares of its logarithm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nfrepro.errors import InputError

Law = Literal["exponential", "power"]

# Two parameters are fitted, and what is left has to tell the laws apart.
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
    """A straight line through log y against x, or against log x.

    From the least x on whose y is at most `least`, or no number, noise hides the decay: the rest is left out. Raises
    `InputError` for fewer than four different x that are left, or y without any spread.
    """
    hidden = min((a for a, b in zip(x, y, strict=True) if not b > least), default=math.inf)
    kept = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if a < hidden]
    if (different := len({a for a, _ in kept})) < LEAST_POINTS:
        until = f"{different} of {len(x)} come before one that is not above {least:g}"
        raise InputError(f"a decay is fitted to {LEAST_POINTS} depths or more, and {until}")
    at, logarithm = np.array([a for a, _ in kept]), np.log([b for _, b in kept])
    if law == "power" and at.min() <= 0:
        raise InputError(f"no power law through x = {at.min():g}: it needs x above 0")
    total = float(np.square(logarithm - logarithm.mean()).sum())
    if total == 0:
        raise InputError("no decay: all numbers are the same")
    slope, intercept = np.polyfit(at if law == "exponential" else np.log(at), logarithm, 1)
    line = slope * (at if law == "exponential" else np.log(at)) + intercept
    r_squared = 1.0 - float(np.square(logarithm - line).sum()) / total
    rate = float(np.exp(slope) if law == "exponential" else -slope)
    return Decay(law, rate, float(np.exp(intercept)), r_squared, len(kept))
