"""Intervals over seeds, each with n and method, and the bounds that a rule allows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided interval; the bounds are NaN if n is less than 2."""

    mean: float
    low: float
    high: float
    n: int
    method: str

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2) -> str:
        """Formats as `76.26 ± 9.52`, never `-0.00`; says so if there is no interval."""
        if self.n == 0:
            return "n = 0"
        if self.n == 1:
            return f"{self.mean:z.{digits}f} (n = 1, no interval)"
        return f"{self.mean:z.{digits}f} ± {self.high - self.mean:.{digits}f}"


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and Student t interval of `values`. Raises `ValueError` if one is not finite: count those separately."""
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"an interval needs finite values, got {list(values)}")
    n = len(values)
    method = f"{100 * level:g} % Student t interval over seeds"
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, method)
    mean = float(np.mean(values))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, method)
    half_width = float(stats.t.ppf(0.5 + level / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half_width, mean + half_width, n, method)


@dataclass(frozen=True)
class Bounds:
    """An interval, infinite on a side without a bound. Bounds are included by default."""

    low: float = -math.inf
    high: float = math.inf
    low_included: bool = True
    high_included: bool = True

    @property
    def ends(self) -> list[float]:
        """The finite bounds."""
        return [end for end in (self.low, self.high) if math.isfinite(end)]

    @property
    def count(self) -> int:
        return len(self.ends)

    def __contains__(self, value: float) -> bool:
        above = self.low <= value if self.low_included else self.low < value
        below = value <= self.high if self.high_included else value < self.high
        return above and below

    def hold(self, values: Sequence[float]) -> bool:
        return all(value in self for value in values)

    def reversed(self) -> "Bounds":
        """The bounds of the quantity with the opposite sign."""
        return Bounds(-self.high, -self.low, self.high_included, self.low_included)
